// Whether a process lives, by its id: one that has ended and was not waited for by its parent does not.

import { readFileSync } from 'node:fs'

/** A process of somebody else's lives too. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  return fieldsOf(pid)[0] !== 'Z'
}

/** Clock ticks between the system's start and the process's; '' where it is not known. */
export function beganAt(pid: number): string {
  return fieldsOf(pid)[19] ?? ''
}

/** The fields of proc(5) stat from the third on, the state; none where there is no such file. */
function fieldsOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ') ?? []
  } catch {
    return []
  }
}
