// One daemon for one state directory. The lock is a file with the holder's process id and the time that process began, where
// the system tells it: process ids are used again, and a lock that its holder left behind when it was killed is taken over.

import { closeSync, linkSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'

const SOON_MS = 5_000
const SOON_STEP_MS = 50

interface Holder {
  readonly pid: number
  /** Clock ticks between the system's start and the process's; '' where it is not known. */
  readonly began: string
}

/** Locks that this process has: at most one for each node that it runs. */
const held = new Set<string>()

/** Takes the lock; throws STATE_LOCKED while another has it. Call the result to give it back. */
export function lockState(directory: string): () => void {
  const file = path.join(directory, 'daemon.pid')
  for (let tries = 0; tries < 3; tries++) {
    if (create(file)) {
      held.add(file)
      return () => {
        if (held.delete(file) && holderOf(file)?.pid === process.pid) rmSync(file, { force: true })
      }
    }
    const holder = holderOf(file)
    if (holder !== undefined && lives(holder, file)) {
      throw new HopliteError(
        'STATE_LOCKED',
        `use ${directory}: process ${holder.pid} uses it`,
        'stop that one first, or give this one another --state-dir',
      )
    }
    removeStale(file, holder)
  }
  throw new HopliteError('STATE_LOCKED', `use ${directory}: another process takes it at the same moment`, 'try again')
}

/** Takes the lock when whoever has it gives it back within five seconds. Throws STATE_LOCKED. */
export async function lockStateSoon(directory: string): Promise<() => void> {
  for (let waited = 0; ; waited += SOON_STEP_MS) {
    try {
      return lockState(directory)
    } catch (error) {
      if (waited >= SOON_MS || !(error instanceof HopliteError) || error.code !== 'STATE_LOCKED') throw error
    }
    await new Promise(resolve => setTimeout(resolve, SOON_STEP_MS))
  }
}

/** Whether a process that lives has the lock of a state directory. */
export function isStateLocked(directory: string): boolean {
  return stateHolder(directory)?.isAlive ?? false
}

/** The process that has the lock of a state directory, and whether it lives; `undefined` when there is none. */
export function stateHolder(directory: string): { readonly pid: number; readonly isAlive: boolean } | undefined {
  const file = path.join(directory, 'daemon.pid')
  const holder = holderOf(file)
  return holder && { pid: holder.pid, isAlive: lives(holder, file) }
}

/** Writes the lock; false when there is one. Throws STATE_UNREADABLE. */
function create(file: string): boolean {
  try {
    const handle = openSync(file, 'wx', 0o600)
    writeSync(handle, `${process.pid} ${beganAt(process.pid)}\n`)
    closeSync(handle)
    return true
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return false
    const advice = 'check who owns it, and the disk'
    throw new HopliteError('STATE_UNREADABLE', `lock ${path.dirname(file)}: ${code ?? message}`, advice, error)
  }
}

/** Removes the lock of `holder`, and not the one that another process may have put in its place meanwhile. */
function removeStale(file: string, holder: Holder | undefined): void {
  const aside = `${file}.stale-${process.pid}`
  try {
    renameSync(file, aside)
    if (holderOf(aside)?.pid !== holder?.pid) linkSync(aside, file)
  } catch {
    // Somebody was quicker: the next try sees what is there now.
  }
  rmSync(aside, { force: true })
}

/** Who has the lock; `undefined` when there is none or it makes no sense. */
function holderOf(file: string): Holder | undefined {
  try {
    const match = /^([1-9][0-9]{0,9}) ([0-9]*)\n$/.exec(readFileSync(file, 'latin1'))
    return match === null ? undefined : { pid: Number(match[1]), began: match[2] ?? '' }
  } catch {
    return undefined
  }
}

function lives({ pid, began }: Holder, file: string): boolean {
  if (pid === process.pid) return held.has(file)
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  return began === '' || beganAt(pid) === began
}

/** Field 22 of proc(5) stat; '' where there is no such file, and of a process that is dead and not yet waited for. */
function beganAt(pid: number): string {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ')
    return fields?.[0] === 'Z' ? '' : (fields?.[19] ?? '')
  } catch {
    return ''
  }
}
