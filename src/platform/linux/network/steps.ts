// One step of changing the machine, done and undone. What a step was, and how to undo it, is data (`Undo`) that the journal
// of changes.ts keeps; it says everything, so that another process can undo after a crash or a restart of the machine.
//
// Undoing is tolerant: what is gone already is done, and what somebody else has changed since is theirs and is left alone.
// Programs are run with argument arrays and without a shell; what is long or comes from outside goes to their standard input.

import { spawn } from 'node:child_process'
import { lstatSync, readFileSync, readlinkSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import { hasProgram } from '../programs.ts'

const COMMAND_TIMEOUT_MS = 20_000
const MAX_OUTPUT_BYTES = 64 * 1024
const MAX_FILE_BYTES = 1024 * 1024

export interface Command {
  /** Program and arguments. */
  readonly run: readonly [string, ...string[]]
  /** Standard input. */
  readonly input?: string
}

export type Step =
  | { readonly kind: 'commands'; readonly do: readonly Command[]; readonly undo: readonly Command[] }
  /** Sets a value below /proc/sys; `name` is its path there, such as `net/ipv4/conf/all/src_valid_mark`. */
  | { readonly kind: 'sysctl'; readonly name: string; readonly value: string }
  /** Puts a file or symbolic link's place under our content. */
  | { readonly kind: 'file'; readonly file: string; readonly content: string }
  /** Mounts `source`, a file of ours with that content, over a file: nobody can replace it or write into it, and no byte of it is changed. */
  | { readonly kind: 'cover'; readonly file: string; readonly source: string; readonly content: string }

export type Undo =
  | { readonly kind: 'commands'; readonly undo: readonly Command[] }
  | { readonly kind: 'sysctl'; readonly name: string; readonly value: string; readonly before: string }
  | { readonly kind: 'file'; readonly file: string; readonly content: string; readonly before: FileBefore }
  | { readonly kind: 'cover'; readonly file: string; readonly source: string }

type FileBefore =
  | { readonly kind: 'absent' }
  | { readonly kind: 'link'; readonly target: string }
  | { readonly kind: 'content'; readonly base64: string; readonly mode: number }

/** How to undo a step that has not been done yet: reads what is there. Throws CHANGE_FAILED. */
export function undoOf(step: Step): Undo {
  switch (step.kind) {
    case 'commands':
      return { kind: 'commands', undo: step.undo }
    case 'sysctl':
      return { ...step, before: readSysctl(step.name) }
    case 'file':
      return { ...step, before: fileBefore(step.file) }
    case 'cover':
      return { kind: 'cover', file: step.file, source: step.source }
  }
}

/** Throws PROGRAM_MISSING unless a program is installed. */
export function assertProgram(program: string): void {
  if (!hasProgram(program)) throw notInstalled(program)
}

/** Does a step. Throws PROGRAM_MISSING, NOT_PERMITTED or CHANGE_FAILED; part of it may then be done. */
export async function perform(step: Step): Promise<void> {
  switch (step.kind) {
    case 'commands':
      for (const command of step.do) await runCommand(command, THERE)
      return
    case 'sysctl':
      return attempt(`set ${step.name}`, () => writeFileSync(sysctlFile(step.name), step.value))
    case 'file':
      return attempt(`write ${step.file}`, () => replaceFile(step.file, step.content, 0o644))
    case 'cover':
      attempt(`write ${step.source}`, () => replaceFile(step.source, step.content, 0o644))
      await runCommand({ run: ['mount', '--bind', step.source, step.file] })
      // A DHCP client that writes into the file would change ours. Some containers mount, and may not say how.
      return runCommand({ run: ['mount', '-o', 'remount,bind,ro', step.file] }, /./)
  }
}

/** Undoes a step, as far as it was done and is still there. Throws as `perform` does. */
export async function revert(undo: Undo): Promise<void> {
  switch (undo.kind) {
    case 'commands':
      for (const command of undo.undo) await runCommand(command, GONE)
      return
    case 'sysctl':
      // The interface that the value belongs to may be gone, and the value with it.
      if (readSysctl(undo.name, 'gone') !== undo.value) return
      return attempt(`restore ${undo.name}`, () => writeFileSync(sysctlFile(undo.name), undo.before))
    case 'file':
      return attempt(`restore ${undo.file}`, () => restoreFile(undo))
    case 'cover':
      for (const file of coveredBy(undo.source)) await runCommand({ run: ['umount', file] })
      return attempt(`remove ${undo.source}`, () => rmSync(undo.source, { force: true }))
  }
}

/** What ip, nft and resolvectl say, untranslated, of something that is not there (any more). */
const GONE =
  /No such (file or directory|process|device|link)|Cannot find device|Cannot assign requested address|does not exist/i

/** What they say of something that is there already. */
const THERE = /File exists/

/** Runs a program to its end; an error output that matches `forgiven` is no error. Gives its standard output. */
export async function capture({ run, input }: Command, forgiven?: RegExp): Promise<string> {
  const [program, ...args] = run
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    // Untranslated, and found where a user's PATH does not look.
    env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`, LC_ALL: 'C' },
    timeout: COMMAND_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  })
  let output = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', text => (output = (output + text).slice(0, MAX_OUTPUT_BYTES)))
  child.stderr.setEncoding('utf8').on('data', text => (errors = (errors + text).slice(0, MAX_OUTPUT_BYTES)))
  child.stdin.on('error', () => undefined).end(input)
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject).once('close', resolve)
  }).catch((error: NodeJS.ErrnoException) => {
    throw notStarted(program, error)
  })
  if (code === 0 || forgiven?.test(errors) === true) return output
  const said = errors.trim().split('\n')[0] ?? ''
  const what = `run ${program} ${args.slice(0, 4).join(' ')}: ${said || `it ended with ${code ?? 'a signal'}`}`
  if (/Operation not permitted|Permission denied|must be root/i.test(errors)) {
    throw new HopliteError('NOT_PERMITTED', what, 'run as root or with CAP_NET_ADMIN')
  }
  throw new HopliteError('CHANGE_FAILED', what, 'run "hoplite recover" to undo what was done')
}

async function runCommand(command: Command, forgiven?: RegExp): Promise<void> {
  await capture(command, forgiven)
}

const PACKAGES: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  nft: 'nftables',
  mount: 'mount',
  umount: 'mount',
  resolvectl: 'systemd-resolved',
  setpriv: 'util-linux',
  unshare: 'util-linux',
}

function notStarted(program: string, error: NodeJS.ErrnoException): HopliteError {
  if (error.code !== 'ENOENT') {
    return new HopliteError('CHANGE_FAILED', `run ${program}: ${error.code ?? error.message}`, 'see the cause', error)
  }
  return notInstalled(program)
}

function notInstalled(program: string): HopliteError {
  const advice = `install it; on Debian: apt-get install ${PACKAGES[program] ?? program}`
  return new HopliteError('PROGRAM_MISSING', `run ${program}: it is not installed`, advice)
}

function attempt(what: string, act: () => void): void {
  try {
    act()
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const denied = code === 'EACCES' || code === 'EPERM' || code === 'EROFS'
    const advice = denied ? 'run as root' : 'run "hoplite recover" to undo what was done'
    throw new HopliteError(denied ? 'NOT_PERMITTED' : 'CHANGE_FAILED', `${what}: ${code ?? message}`, advice, error)
  }
}

function sysctlFile(name: string): string {
  if (!/^net\/[A-Za-z0-9_./-]+$/.test(name) || name.includes('..')) throw new RangeError(`not a network value: ${name}`)
  return `/proc/sys/${name}`
}

function readSysctl(name: string, missing?: 'gone'): string {
  try {
    return readFileSync(sysctlFile(name), 'utf8').trim()
  } catch (error) {
    if (missing === 'gone' && (error as NodeJS.ErrnoException).code === 'ENOENT') return 'gone'
    const { code, message } = error as NodeJS.ErrnoException
    throw new HopliteError(
      'CHANGE_FAILED',
      `read ${name}: ${code ?? message}`,
      'check that /proc/sys is mounted',
      error,
    )
  }
}

function fileBefore(file: string): FileBefore {
  const found = lstatSync(file, { throwIfNoEntry: false })
  if (found === undefined) return { kind: 'absent' }
  if (found.isSymbolicLink()) return { kind: 'link', target: readlinkSync(file) }
  if (!found.isFile() || found.size > MAX_FILE_BYTES) {
    throw new HopliteError('CHANGE_FAILED', `keep ${file}: it is not a file of at most 1 MiB`, 'see what it is')
  }
  return { kind: 'content', base64: readFileSync(file).toString('base64'), mode: found.mode & 0o7777 }
}

function restoreFile({ file, content, before }: Extract<Undo, { kind: 'file' }>): void {
  const now = fileBefore(file)
  if (now.kind !== 'content' || now.base64 !== Buffer.from(content).toString('base64')) return
  if (before.kind === 'content') return replaceFile(file, Buffer.from(before.base64, 'base64'), before.mode)
  rmSync(file)
  if (before.kind === 'link') symlinkSync(before.target, file)
}

/** After a crash there is the old file or the new one. */
function replaceFile(file: string, content: string | Uint8Array, mode: number): void {
  const temporary = path.join(path.dirname(file), `.${path.basename(file)}.hoplite-new`)
  rmSync(temporary, { force: true })
  writeFileSync(temporary, content, { mode, flush: true })
  renameSync(temporary, file)
}

/**
 * What `source` is mounted over (proc(5), mountinfo: field 4 is the root within its file system, 5 where it is): not what it was
 * to cover, since a link may have led there, and lead elsewhere by now.
 */
function coveredBy(source: string): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  const mounts = lines.map(line => line.split(' ').map(unescapeMount))
  const isOurs = (root = '') => path.basename(root) === path.basename(source) && source.endsWith(root)
  // What somebody else has mounted over it since is not ours to take away.
  const tops = new Map(mounts.map(([, , , root, file = '']) => [file, root]))
  return [...tops].flatMap(([file, root]) => (isOurs(root) ? [file] : []))
}

/** Blanks, tabs, line ends and backslashes are octal there. */
function unescapeMount(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
}
