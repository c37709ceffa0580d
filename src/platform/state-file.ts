// Files of the state directory: written whole or not at all, readable by their owner alone, and never overwritten when they
// are damaged: those are set aside.

import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'

const MAX_SET_ASIDE = 100

/** Makes the directory (0700) with its parents. */
export function prepareStateDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    chmodSync(directory, 0o700)
  } catch (error) {
    throw unreadable(directory, error)
  }
}

/** Writes a file (0600): after a crash there is the old one or the new one. */
export function writeStateFile(file: string, bytes: Uint8Array | string): void {
  const temporary = `${file}.new-${process.pid}`
  const handle = openSync(temporary, 'w', 0o600)
  try {
    const data = typeof bytes === 'string' ? Buffer.from(bytes) : bytes
    let written = 0
    while (written < data.length) written += writeSync(handle, data, written)
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
  renameSync(temporary, file)
}

/** Reads a file of at most `maxBytes`; `undefined` when there is none. Throws STATE_UNREADABLE. */
export function readStateFile(file: string, maxBytes: number): Uint8Array | undefined {
  if (!existsSync(file)) return undefined
  try {
    const { size } = statSync(file)
    if (size > maxBytes) throw new Error(`it has ${size} bytes, at most ${maxBytes} are read`)
    return readFileSync(file)
  } catch (error) {
    throw unreadable(file, error)
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

/** Renames a damaged file to `NAME.damaged-N`; returns the new name. */
export function setAside(file: string): string {
  for (let n = 1; n <= MAX_SET_ASIDE; n++) {
    const aside = `${file}.damaged-${n}`
    if (existsSync(aside)) continue
    renameSync(file, aside)
    return aside
  }
  throw new HopliteError(
    'STATE_UNREADABLE',
    `set ${file} aside: there are ${MAX_SET_ASIDE} damaged ones already`,
    `look into ${path.dirname(file)} and remove them`,
  )
}

function unreadable(file: string, error: unknown): HopliteError {
  if (error instanceof HopliteError) return error
  return new HopliteError(
    'STATE_UNREADABLE',
    `read ${file}: ${(error as Error).message}`,
    'check who owns it, and the disk',
    error,
  )
}
