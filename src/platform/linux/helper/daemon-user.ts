// Who a node is that root starts: the user `hoplite`, where the machine has one, or a number that
// belongs to nobody. Its state directory is made its own; of directories that it may not enter (somebody's home) it sees the
// program, its state and the configuration, and nothing else, in a mount namespace of its own.

import { createHash } from 'node:crypto'
import {
  closeSync,
  constants,
  existsSync,
  fchownSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  type Stats,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import { assertProgram } from '../network/steps.ts'

/** The range that systemd has for users that exist only while a service runs; nobody is entered in it. */
const DYNAMIC = { first: 61_184, last: 65_519 } as const
const NAME = 'hoplite'
const OTHERS_MAY_ENTER = 0o001
const OTHERS_MAY_READ = 0o004
const OTHERS_MAY_WRITE = 0o002
const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants
/** Deeper than any state is. */
const MAX_DEPTH = 8

export interface DaemonUser {
  readonly uid: number
  readonly gid: number
}

export interface DaemonLaunch extends DaemonUser {
  /** Program and arguments. */
  readonly command: readonly string[]
  /** Beside the environment of the helper. */
  readonly env: Readonly<Record<string, string>>
  /** Files and directories that the daemon must see. */
  readonly sees: readonly string[]
  /** Whether it listens on ports below 1024. */
  readonly bindsLowPorts: boolean
}

/** What Node's permission model is told of a node that writes to its state directory, and to these, alone. */
export function nodePermissions(stateDir: string, alsoWrites: readonly string[] = []): string[] {
  return [
    ...['--permission', '--allow-net', '--allow-worker', '--allow-addons', '--allow-ffi'],
    ...['--allow-fs-read=*', ...[stateDir, ...alsoWrites].map(place => `--allow-fs-write=${place}`)],
  ]
}

/** Bits of capabilities(7). */
const CAP = { setgid: 6, setuid: 7, setpcap: 8, sysAdmin: 21 } as const

/** Whether this process is root and may become somebody else: not so in a container that has taken that from it. */
export function mayBecomeOther(): boolean {
  return process.getuid?.() === 0 && [CAP.setgid, CAP.setuid, CAP.setpcap].every(mayUseCapability)
}

function mayUseCapability(bit: number): boolean {
  const [, effective = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readText('/proc/self/status')) ?? []
  return ((BigInt(`0x${effective}`) >> BigInt(bit)) & 1n) === 1n
}

/** The user for the node of a state directory; root itself where a user namespace has no other. */
export function daemonUser(stateDir: string): DaemonUser {
  if (!isMapped(DYNAMIC.last)) return { uid: 0, gid: 0 }
  const users = new Map<number, { readonly name: string; readonly gid: number }>()
  for (const line of readText('/etc/passwd').split('\n')) {
    const [name = '', , uid, gid] = line.split(':')
    if (uid !== undefined && gid !== undefined) users.set(Number(uid), { name, gid: Number(gid) })
  }
  for (const [uid, { name, gid }] of users) if (name === NAME && uid !== 0) return { uid, gid }
  const isFree = (uid: number) => !users.has(uid) && !existsSync(`/run/systemd/dynamic-uid/${uid}`)
  const owner = statSync(stateDir).uid
  if (owner >= DYNAMIC.first && owner <= DYNAMIC.last && isFree(owner)) return { uid: owner, gid: owner }
  const count = DYNAMIC.last - DYNAMIC.first + 1
  const start = createHash('sha256').update(stateDir).digest().readUInt32LE(0)
  for (let n = 0; n < count; n++) {
    const uid = DYNAMIC.first + ((start + n) % count)
    if (isFree(uid)) return { uid, gid: uid }
  }
  throw new Error('find a user for the daemon: none is free')
}

/**
 * Makes a state directory, and the files and directories in it, the user's own. Somebody of that user's may change it meanwhile:
 * what is looked at is open, so it cannot be replaced by something of others, and what has a second name is left alone.
 */
export function giveState(directory: string, user: DaemonUser): void {
  giveOpened(openSync(directory, O_RDONLY | O_DIRECTORY), user, 0)
}

function giveOpened(handle: number, { uid, gid }: DaemonUser, depth: number): void {
  try {
    const found = fstatSync(handle)
    if (found.isDirectory() && depth < MAX_DEPTH) {
      const inside = `/proc/self/fd/${handle}`
      for (const name of readdirSync(inside)) giveEntry(path.join(inside, name), { uid, gid }, depth + 1)
    }
    const isOurs = found.isDirectory() || (found.isFile() && found.nlink === 1)
    if (isOurs && (found.uid !== uid || found.gid !== gid)) fchownSync(handle, uid, gid)
  } finally {
    closeSync(handle)
  }
}

/** Links and sockets stay whose they are: whoever has the directory may remove them. */
function giveEntry(file: string, user: DaemonUser, depth: number): void {
  try {
    giveOpened(openSync(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK), user, depth)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ELOOP' && code !== 'ENXIO' && code !== 'ENOENT') throw error
  }
}

/**
 * The words that run a command as that user, without a right and without a way to get one. Throws PROGRAM_MISSING, or NOT_PERMITTED
 * where it could not see what it must.
 */
export function asDaemon({ uid, gid, command, sees, bindsLowPorts }: DaemonLaunch): string[] {
  assertProgram('setpriv')
  const kept = bindsLowPorts ? ',+net_bind_service' : ''
  // In a namespace that has no user but root, that one without what root is.
  const who =
    uid === 0 ? ['--securebits=+noroot,+noroot_locked'] : [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups']
  const dropped = [
    'setpriv',
    ...who,
    '--no-new-privs',
    ...[`--inh-caps=-all${kept}`, `--ambient-caps=-all${kept}`, `--bounding-set=-all${kept}`, '--'],
    ...command,
  ]
  const covers = coversFor(sees, { uid, gid })
  if (covers.length === 0) return dropped
  assertProgram('unshare')
  if (!mayUseCapability(CAP.sysAdmin)) {
    const what = `run as user ${uid}: that one may not enter ${covers[0]}, and this root may not show it what is there`
    throw new HopliteError('NOT_PERMITTED', what, 'keep the state where others may enter: --state-dir /var/lib/hoplite')
  }
  // Beside the covers: what is under one is out of sight while the others are laid.
  const place = [tmpdir(), '/tmp', '/run', '/dev/shm'].find(
    directory => existsSync(directory) && !covers.some(cover => isWithin(directory, cover)),
  )
  const stage = mkdtempSync(path.join(place ?? '/', 'hoplite-stage-'))
  const script = [...shelter(covers, sees, stage), 'exec "$@"'].join('\n')
  return ['unshare', '--mount', '--propagation', 'slave', '--', '/bin/sh', '-ec', script, 'sh', ...dropped]
}

/** The outermost directories that keep the user from what it must see. */
export function coversFor(sees: readonly string[], user: DaemonUser): string[] {
  return [...new Set(sees.flatMap(directory => parentsOf(directory).find(parent => !mayEnter(parent, user)) ?? []))]
}

/** What a daemon sees of a configuration: its directory, in which a file may be replaced; where it may not enter, the file. */
export function configPlace(file: string, user: DaemonUser): string {
  const directory = path.dirname(file)
  return mayEnter(directory, user) ? directory : file
}

/** Throws CONFIG_UNREADABLE unless the user may read a file. */
export function assertReadable(file: string, user: DaemonUser): void {
  const found = statSync(file, { throwIfNoEntry: false })
  if (found === undefined || mayUse(found, user, OTHERS_MAY_READ)) return
  throw new HopliteError(
    'CONFIG_UNREADABLE',
    `read ${file}: the node runs as user ${user.uid}, who may not`,
    `chmod 644 ${file}; or, with a user "hoplite" on this machine, chown it to that one`,
  )
}

/** Throws STATE_UNREADABLE unless the user may write into a folder, where it is there. */
export function assertShared(folder: string, user: DaemonUser): void {
  const found = statSync(folder, { throwIfNoEntry: false })
  if (found === undefined || (mayUse(found, user, OTHERS_MAY_WRITE) && mayUse(found, user, OTHERS_MAY_ENTER))) return
  throw new HopliteError(
    'STATE_UNREADABLE',
    `write letters into ${folder}: the node runs as user ${user.uid}, who may not`,
    `chmod 777 ${folder}: letters are sealed; or, with a user "hoplite" on this machine, chown it to that one`,
  )
}

/** Commands that put an empty directory over each cover, with nothing in it but what must be seen, at its own place. */
export function shelter(covers: readonly string[], sees: readonly string[], stage: string): string[] {
  const kept = outermost(sees.filter(place => covers.some(cover => isWithin(place, cover))))
  const make = (at: string, like: string) => {
    const isDirectory = statSync(like, { throwIfNoEntry: false })?.isDirectory() ?? true
    return isDirectory ? `mkdir -p ${quote(at)}` : `mkdir -p ${quote(path.dirname(at))} && : > ${quote(at)}`
  }
  const tmpfs = (at: string) => `mount -t tmpfs -o mode=755,size=1m tmpfs ${quote(at)}`
  return [
    tmpfs(stage),
    ...kept.flatMap((place, i) => [
      make(`${stage}/${i}`, place),
      `mount --bind ${quote(place)} ${quote(`${stage}/${i}`)}`,
    ]),
    ...covers.map(tmpfs),
    ...kept.flatMap((place, i) => [make(place, place), `mount --move ${quote(`${stage}/${i}`)} ${quote(place)}`]),
    `umount ${quote(stage)}`,
    `rmdir ${quote(stage)}`,
  ]
}

/** From the root down, without the directory itself, which is given or open. */
function parentsOf(directory: string): string[] {
  const parts = directory.split('/').slice(1, -1)
  return parts.map((_, i) => `/${parts.slice(0, i + 1).join('/')}`)
}

function mayEnter(directory: string, user: DaemonUser): boolean {
  const found = statSync(directory, { throwIfNoEntry: false })
  return found === undefined || mayUse(found, user, OTHERS_MAY_ENTER)
}

function mayUse(found: Stats, { uid, gid }: DaemonUser, right: number): boolean {
  if (uid === 0) return true
  const shift = found.uid === uid ? 6 : found.gid === gid ? 3 : 0
  return ((found.mode >> shift) & right) !== 0
}

function outermost(directories: readonly string[]): string[] {
  const sorted = [...new Set(directories)].toSorted((a, b) => a.length - b.length)
  return sorted.filter((directory, i) => !sorted.slice(0, i).some(other => isWithin(directory, other)))
}

function isWithin(directory: string, other: string): boolean {
  return directory === other || directory.startsWith(`${other}/`)
}

/** For a shell: what stands between single quotes means itself. */
function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}

/** user_namespaces(7): first inside, first outside, how many. */
function isMapped(uid: number): boolean {
  return readText('/proc/self/uid_map')
    .split('\n')
    .map(line => line.trim().split(/\s+/).map(Number))
    .some(([first = 0, , count = 0]) => uid >= first && uid < first + count)
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
