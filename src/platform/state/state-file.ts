// Files of the state directory: written whole or not at all, readable by their owner alone, and never overwritten when they
// are damaged: those are set aside.

import {
  accessSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeSync,
} from 'node:fs'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'

const MAX_SET_ASIDE = 100

/**
 * Makes the directory (0700) with its parents. One that exists and is open to others is made private when it is empty, and
 * refused when it is not: it may be somebody's home. Throws STATE_UNREADABLE.
 */
export function prepareStateDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    if (process.platform === 'win32') return
    const mode = statSync(directory).mode & 0o777
    if ((mode & 0o077) === 0) return
    if (readdirSync(directory).length > 0) {
      throw new HopliteError(
        'STATE_UNREADABLE',
        `use ${directory}: others may look into it (mode ${mode.toString(8)})`,
        `run: chmod 700 ${directory}; or choose another with --state-dir`,
      )
    }
    chmodSync(directory, 0o700)
  } catch (error) {
    throw coded('use', directory, error)
  }
}

/** Writes a file (0600): after a crash there is the old one or the new one. Throws STATE_UNREADABLE. */
export function writeStateFile(file: string, bytes: Uint8Array | string): void {
  replaceFile(file, bytes)
}

/** The same with a file of somebody's: it stays whose it was, and who could read it still can. */
export function writeOwnersFile(file: string, text: string): void {
  replaceFile(file, text, statSync(file, { throwIfNoEntry: false }))
}

/** Whether this process may write a file in this way. */
export function mayReplace(file: string): boolean {
  if (process.permission?.has('fs.write', temporaryOf(file)) === false) return false
  let folder = path.dirname(file)
  while (!existsSync(folder) && path.dirname(folder) !== folder) folder = path.dirname(folder)
  try {
    accessSync(folder, constants.W_OK | constants.X_OK)
    return true
  } catch {
    return false
  }
}

function temporaryOf(file: string): string {
  return `${file}.new-${process.pid}`
}

function replaceFile(file: string, bytes: Uint8Array | string, before?: Stats): void {
  const temporary = temporaryOf(file)
  try {
    rmSync(temporary, { force: true })
    writeDurably(temporary, typeof bytes === 'string' ? Buffer.from(bytes) : bytes)
    if (before !== undefined) {
      if (process.getuid?.() === 0) chownSync(temporary, before.uid, before.gid)
      chmodSync(temporary, before.mode & 0o777)
    }
    renameSync(temporary, file)
    if (process.platform !== 'win32') syncDirectory(path.dirname(file))
  } catch (error) {
    rmSync(temporary, { force: true })
    throw coded('write', file, error)
  }
}

/** Reads a file of at most `maxBytes`; `undefined` when there is none. Throws STATE_UNREADABLE. */
export function readStateFile(file: string, maxBytes: number): Uint8Array | undefined {
  try {
    const found = statSync(file, { throwIfNoEntry: false })
    if (found === undefined) return undefined
    if (!found.isFile()) throw new Error('it is not a file')
    if (found.size > maxBytes) throw new Error(`it has ${found.size} bytes, at most ${maxBytes} are read`)
    return readFileSync(file)
  } catch (error) {
    throw coded('read', file, error)
  }
}

/** Throws unless only the owner may read the file. */
export function assertPrivate(file: string): void {
  if (process.platform === 'win32') return
  const mode = statSync(file).mode & 0o777
  if ((mode & 0o077) === 0) return
  throw new HopliteError(
    'STATE_UNREADABLE',
    `read ${file}: others may read it (mode ${mode.toString(8)})`,
    `run: chmod 600 ${file}`,
  )
}

/** Renames a file to `NAME.damaged-N` (or another `word`); returns the new name. Throws when there are 100 of them. */
export function setAside(file: string, word = 'damaged'): string {
  for (let n = 1; n <= MAX_SET_ASIDE; n++) {
    const aside = `${file}.${word}-${n}`
    if (existsSync(aside)) continue
    renameSync(file, aside)
    return aside
  }
  throw new HopliteError(
    'STATE_UNREADABLE',
    `set ${file} aside: there are ${MAX_SET_ASIDE} such files already`,
    `look into ${path.dirname(file)} and remove them`,
  )
}

/**
 * Writes a file (0600) that is not there yet; it is on the disk when this returns. By O_SYNC: Node's permission model, which services run
 * under, has no fsync. Throws what Node does.
 */
export function writeDurably(file: string, data: Uint8Array): void {
  const { O_WRONLY, O_CREAT, O_EXCL, O_SYNC } = constants
  const handle = openSync(file, O_WRONLY | O_CREAT | O_EXCL | (O_SYNC ?? 0), 0o600)
  try {
    let written = 0
    while (written < data.length) written += writeSync(handle, data, written)
    if (O_SYNC === undefined) fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}

/** A rename outlives a power cut once its directory is on the disk; a service leaves that to the file system. */
function syncDirectory(directory: string): void {
  if (process.permission !== undefined) return
  const handle = openSync(directory, 'r')
  try {
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}

function coded(action: string, file: string, error: unknown): HopliteError {
  if (error instanceof HopliteError) return error
  const { code, message } = error as NodeJS.ErrnoException
  const advice = 'check who owns it, and the disk'
  return new HopliteError('STATE_UNREADABLE', `${action} ${file}: ${code ?? message}`, advice, error)
}
