// A log file that stays short: past a size or an age what it has is copied aside and the file emptied. Emptied, not renamed:
// the descriptors that append to it, this process's standard error among them, go on.

import {
  closeSync,
  copyFileSync,
  existsSync,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
} from 'node:fs'
import path from 'node:path'
import type { Config } from './config.ts'

const CHECK_MS = 60_000
const DAY_MS = 86_400_000
const MIB = 2 ** 20
const STDERR = 2

/** The log of the daemon with this state directory. */
export function logFile(stateDir: string): string {
  return path.join(stateDir, 'daemon.log')
}

/** Looks once a minute whether the log is due, if this process's standard error goes there. */
export function keepLogShort(config: Config, stateDir: string): void {
  const file = logFile(stateDir)
  if (!isStandardError(file)) return
  setInterval(() => rotateLog(file, config.log, Date.now()), CHECK_MS).unref()
}

/** Copies `FILE` to `FILE.1` and empties it, if it is too long or too old; older copies move up by one. */
export function rotateLog(file: string, limits: Config['log'], nowMs: number): void {
  try {
    const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0
    if (size === 0) return
    const isDue = size > limits.file_mib * MIB || nowMs - beganAt(file, nowMs) > limits.file_days * DAY_MS
    if (!isDue) return
    const copies = limits.files - 1
    rmSync(`${file}.${copies}`, { force: true })
    for (let n = copies - 1; n >= 1; n--) if (existsSync(`${file}.${n}`)) renameSync(`${file}.${n}`, `${file}.${n + 1}`)
    if (copies > 0) copyFileSync(file, `${file}.1`)
    truncateSync(file)
  } catch {
    // A full disk: emptying the log is then what helps most.
    truncateQuietly(file)
  }
}

/** The time of its first line; now when that has none. */
function beganAt(file: string, nowMs: number): number {
  const handle = openSync(file, 'r')
  try {
    const head = Buffer.alloc(100)
    const time = /^\{"time":"([^"]+)"/.exec(head.toString('utf8', 0, readSync(handle, head)))?.[1]
    const began = time === undefined ? Number.NaN : Date.parse(time)
    return Number.isNaN(began) ? nowMs : began
  } finally {
    closeSync(handle)
  }
}

function isStandardError(file: string): boolean {
  try {
    const [there, here] = [statSync(file), fstatSync(STDERR)]
    return there.isFile() && there.ino === here.ino && there.dev === here.dev
  } catch {
    return false
  }
}

function truncateQuietly(file: string): void {
  try {
    truncateSync(file)
  } catch {
    // Then it is not ours to mend.
  }
}
