// Shell completion, made from the commands as they are declared: `hoplite completion bash|zsh|fish`. Where a command line stands is
// found by the words of it that are commands; the values of flags, which may look like one, are passed over.

import type { Command, Option } from 'commander'

const SHELLS = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof SHELLS)[number]

/** The script that teaches a shell the command line of `program`. */
export function completionScript(program: Command, shell: Shell): string {
  const entries = entriesOf(program, '')
  switch (shell) {
    case 'bash':
      return bash(entries)
    case 'zsh':
      return zsh(entries)
    case 'fish':
      return fish(entries)
  }
}

interface Word {
  readonly word: string
  readonly meaning: string
}

interface Flag extends Word {
  readonly takesValue: boolean
  /** What its value may be; none: anything. */
  readonly choices: readonly string[]
}

/** What may follow a path of commands like `call status`. */
interface Entry {
  readonly path: string
  readonly commands: readonly Word[]
  /** What its arguments may be, where that is a fixed list. */
  readonly arguments: readonly Word[]
  readonly flags: readonly Flag[]
}

function entriesOf(command: Command, path: string): Entry[] {
  // The help that commander shows is the one place that knows what is hidden.
  const help = command.createHelp()
  const visible = help.visibleCommands(command)
  const flags = help.visibleOptions(command).flatMap(flagOf)
  const below = command.commands
    .filter(sub => visible.includes(sub))
    .flatMap(sub => entriesOf(sub, path === '' ? sub.name() : `${path} ${sub.name()}`))
  const entry = {
    path,
    commands: visible.map(sub => ({ word: sub.name(), meaning: sub.description() })),
    arguments: command.registeredArguments.flatMap(({ argChoices = [], description }) =>
      argChoices.map(word => ({ word, meaning: description })),
    ),
    flags,
  }
  return [entry, ...below]
}

function flagOf({ long, description, required, optional, argChoices = [] }: Option): Flag[] {
  if (!long) return []
  return [{ word: long, meaning: description, takesValue: required || optional, choices: argChoices }]
}

/** Each flag that takes a value, behind its path: `up --hops`. */
function valued(entries: readonly Entry[]): { readonly at: string; readonly choices: readonly string[] }[] {
  return entries.flatMap(({ path, flags }) =>
    flags.filter(({ takesValue }) => takesValue).map(({ word, choices }) => ({ at: `${path} ${word}`, choices })),
  )
}

/** The loop that bash and zsh find the path by; `skip` is the flag whose value comes next. */
function pathLoop(entries: readonly Entry[], given: string): string {
  const list = (names: readonly string[]) => names.map(name => `'${name}'`).join('|')
  const paths = entries.map(({ path }) => path).filter(path => path !== '')
  return `  local at='' skip='' word
  for word in ${given}; do
    if [[ -n $skip ]]; then skip=''; continue; fi
    case $word in
      -*) case "$at $word" in ${list(valued(entries).map(({ at }) => at))}) skip="$at $word" ;; esac ;;
      *) case "\${at:+$at }$word" in ${list(paths)}) at="\${at:+$at }$word" ;; esac ;;
    esac
  done`
}

function bash(entries: readonly Entry[]): string {
  const cases = entries.map(({ path, ...entry }) => {
    const words = [...entry.commands, ...entry.arguments, ...entry.flags].map(({ word }) => word)
    return `    '${path}') words='${words.join(' ')}' ;;`
  })
  const choices = valued(entries)
    .filter(flag => flag.choices.length > 0)
    .map(flag => `    '${flag.at}') words='${flag.choices.join(' ')}' ;;`)
  return `_hoplite() {
  local words=''
${pathLoop(entries, '"${COMP_WORDS[@]:1:COMP_CWORD-1}"')}
  if [[ -n $skip ]]; then case $skip in
${choices.join('\n')}
  esac; else case $at in
${cases.join('\n')}
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _hoplite hoplite
`
}

function zsh(entries: readonly Entry[]): string {
  const quote = (text: string) => text.replaceAll("'", "'\\''").replaceAll(':', '\\:')
  const cases = entries.map(({ path, ...entry }) => {
    const words = [...entry.commands, ...entry.arguments, ...entry.flags]
    const list = words.map(({ word, meaning }) => `'${quote(word)}:${quote(meaning)}'`)
    return `    '${path}') candidates=(${list.join(' ')}) ;;`
  })
  const choices = valued(entries)
    .filter(flag => flag.choices.length > 0)
    .map(flag => `    '${flag.at}') candidates=(${flag.choices.join(' ')}) ;;`)
  return `#compdef hoplite
_hoplite() {
  local -a candidates
${pathLoop(entries, '"${(@)words[2,CURRENT-1]}"')}
  if [[ -n $skip ]]; then case $skip in
${choices.join('\n')}
  esac; else case $at in
${cases.join('\n')}
  esac; fi
  _describe 'hoplite' candidates || _files
}
compdef _hoplite hoplite
`
}

function fish(entries: readonly Entry[]): string {
  const quote = (text: string) => text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")
  const list = (names: readonly string[]) => names.map(name => `'${quote(name)}'`).join(' ')
  const lines = entries.flatMap(({ path, commands, flags, arguments: fixed }) => {
    const at = `complete -c hoplite -n "__hoplite_at '${path}'"`
    return [
      ...[...commands, ...fixed].map(({ word, meaning }) => `${at} -f -a '${quote(word)}' -d '${quote(meaning)}'`),
      ...flags.map(({ word, meaning, takesValue, choices }) => {
        const value = choices.length > 0 ? `-x -a '${choices.join(' ')}' ` : takesValue ? '-r ' : '-f '
        return `${at} -l ${word.slice(2)} ${value}-d '${quote(meaning)}'`
      }),
    ]
  })
  return `set -g __hoplite_paths ${list(entries.map(({ path }) => path).filter(path => path !== ''))}
set -g __hoplite_valued ${list(valued(entries).map(({ at }) => at))}
function __hoplite_at
  set -l at ''
  set -l skip 0
  for word in (commandline -opc)[2..-1]
    if test $skip = 1
      set skip 0
    else if string match -q -- '-*' $word
      contains -- "$at $word" $__hoplite_valued; and set skip 1
    else if contains -- (string trim -- "$at $word") $__hoplite_paths
      set at (string trim -- "$at $word")
    end
  end
  test "$at" = "$argv[1]"
end
complete -c hoplite -f
${lines.join('\n')}
`
}
