// Shell completion, made from the commands as they are declared: `hoplite completion bash|zsh|fish`.

import type { Command } from 'commander'

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

/** The words that may follow a path of commands like `call status`. */
interface Entry {
  readonly path: string
  readonly words: readonly { readonly word: string; readonly meaning: string }[]
}

function entriesOf(command: Command, path: string): Entry[] {
  // The help that commander shows is the one place that knows what is hidden.
  const help = command.createHelp()
  const commands = help.visibleCommands(command).map(sub => ({ word: sub.name(), meaning: sub.description() }))
  const options = help
    .visibleOptions(command)
    .flatMap(option => (option.long ? [{ word: option.long, meaning: option.description }] : []))
  const below = command.commands.flatMap(sub => entriesOf(sub, path === '' ? sub.name() : `${path} ${sub.name()}`))
  return [{ path, words: [...commands, ...options] }, ...below]
}

function bash(entries: readonly Entry[]): string {
  const cases = entries.map(({ path, words }) => `    '${path}') words='${words.map(({ word }) => word).join(' ')}' ;;`)
  return `_hoplite() {
  local path='' word words=''
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in -*) ;; *) path="\${path:+$path }$word" ;; esac
  done
  case $path in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _hoplite hoplite
`
}

function zsh(entries: readonly Entry[]): string {
  const quote = (text: string) => text.replaceAll("'", "'\\''").replaceAll(':', '\\:')
  const cases = entries.map(({ path, words }) => {
    const list = words.map(({ word, meaning }) => `'${quote(word)}:${quote(meaning)}'`)
    return `    '${path}') candidates=(${list.join(' ')}) ;;`
  })
  return `#compdef hoplite
_hoplite() {
  local path_words='' word
  local -a candidates
  for word in "\${words[@]:1:CURRENT-2}"; do
    case $word in -*) ;; *) path_words="\${path_words:+$path_words }$word" ;; esac
  done
  case $path_words in
${cases.join('\n')}
  esac
  _describe 'hoplite' candidates || _files
}
compdef _hoplite hoplite
`
}

function fish(entries: readonly Entry[]): string {
  const quote = (text: string) => text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")
  const lines = entries.flatMap(({ path, words }) =>
    words.map(({ word, meaning }) => {
      const what = word.startsWith('--') ? `-l ${word.slice(2)}` : `-a '${quote(word)}'`
      return `complete -c hoplite -f -n "__hoplite_at '${path}'" ${what} -d '${quote(meaning)}'`
    }),
  )
  return `function __hoplite_at
  set -l path (string match -v -- '-*' (commandline -opc)[2..-1])
  test "$path" = "$argv[1]"
end
${lines.join('\n')}
`
}
