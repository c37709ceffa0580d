// One daemon for one state directory. The lock is a file with the holder's process id; one that its holder left behind when
// it was killed is taken over.

import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'

/** Takes the lock; throws STATE_LOCKED while another process has it. Call the result to give it back. */
export function lockState(directory: string): () => void {
  const file = path.join(directory, 'daemon.pid')
  for (let tries = 0; tries < 3; tries++) {
    try {
      const handle = openSync(file, 'wx', 0o600)
      writeSync(handle, `${process.pid}\n`)
      closeSync(handle)
      return () => {
        if (holderOf(file) === process.pid) rmSync(file, { force: true })
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
        throw new HopliteError(
          'STATE_UNREADABLE',
          `lock ${directory}: ${(error as Error).message}`,
          'check who owns it, and the disk',
          error,
        )
      }
    }
    const holder = holderOf(file)
    if (holder !== undefined && holder !== process.pid && isHoplite(holder)) {
      throw new HopliteError(
        'STATE_LOCKED',
        `use ${directory}: process ${holder} uses it`,
        'stop that one first, or give this one another --state-dir',
      )
    }
    rmSync(file, { force: true })
  }
  throw new HopliteError('STATE_LOCKED', `use ${directory}: another process takes it at the same moment`, 'try again')
}

/** The process id in a lock file; `undefined` when there is none. */
function holderOf(file: string): number | undefined {
  try {
    const pid = Number(readFileSync(file, 'utf8').trim())
    return Number.isSafeInteger(pid) && pid > 0 ? pid : undefined
  } catch {
    return undefined
  }
}

/** Whether the process lives and, where the system tells, is one of ours: process ids are used again. */
function isHoplite(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  if (process.platform !== 'linux') return true
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('main.')
  } catch {
    return false
  }
}
