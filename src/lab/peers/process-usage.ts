// What processes have used, as Linux counts it under /proc.

import { readdirSync, readFileSync } from 'node:fs'
import type { SubjectProcess } from './subject.ts'

/** Linux counts a process's time in hundredths of a second, whatever the kernel's own tick. */
const TICKS_PER_SECOND = 100

export interface Usage {
  readonly name: string
  /** User and system time of all its threads and children. */
  readonly cpuSeconds: number
  /** The most memory one process has had in RAM: VmHWM. */
  readonly peakMemoryBytes: number
}

/** What each process has used since its start, its descendants counted in; one that is gone is left out. */
export function usageOf(processes: readonly SubjectProcess[]): Usage[] {
  return processes.flatMap(({ name, pid }) => {
    const family = withDescendants(pid).flatMap(member => usageOfOne(member) ?? [])
    if (family.length === 0) return []
    const cpuSeconds = family.reduce((sum, one) => sum + one.cpuSeconds, 0)
    return [{ name, cpuSeconds, peakMemoryBytes: Math.max(...family.map(one => one.peakMemoryBytes)) }]
  })
}

/** CPU seconds of all of them together. */
export function cpuSecondsOf(processes: readonly SubjectProcess[]): number {
  return usageOf(processes).reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0)
}

/** User and system time in a line of /proc/PID/stat, in seconds; the name in it may have spaces and parentheses. */
export function cpuSecondsInStat(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  // Counted from the third field of proc(5), the state: utime is field 14, stime 15.
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/** VmHWM in /proc/PID/status, in bytes; 0 where there is none. */
export function peakMemoryInStatus(status: string): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1_024
}

function usageOfOne(pid: number): Omit<Usage, 'name'> | undefined {
  try {
    return {
      cpuSeconds: cpuSecondsInStat(readFileSync(`/proc/${pid}/stat`, 'utf8')),
      peakMemoryBytes: peakMemoryInStatus(readFileSync(`/proc/${pid}/status`, 'utf8')),
    }
  } catch {
    return undefined
  }
}

function withDescendants(pid: number): number[] {
  try {
    const children = readdirSync(`/proc/${pid}/task`).flatMap(thread =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
    )
    return [pid, ...children.flatMap(withDescendants)]
  } catch {
    return [pid]
  }
}
