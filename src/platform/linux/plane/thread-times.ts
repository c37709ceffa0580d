// How busy the threads of this process are, from /proc/self/task/ID/schedstat: nanoseconds on a processor, first of three numbers.
// Looked up when somebody asks, and not more often than makes sense.

import { readFileSync } from 'node:fs'

const INTERVAL_MS = 1_000

export class ThreadTimes {
  readonly #threadOf: (worker: number) => number
  readonly #last = new Map<number, number>()
  #busy: readonly number[] = []
  #sampledMs = Number.NEGATIVE_INFINITY

  /** @param threadOf the kernel's id of a worker's thread; 0 when it has none */
  constructor(threadOf: (worker: number) => number) {
    this.#threadOf = threadOf
  }

  /** The part of a core that each of the first `workers` used since it was last looked up, a second ago or more: 0 to 1. */
  busy(workers: number, now: number): readonly number[] {
    const passedMs = now - this.#sampledMs
    if (passedMs < INTERVAL_MS) return this.#busy
    this.#sampledMs = now
    this.#busy = Array.from({ length: workers }, (_, worker) => {
      const spentMs = milliseconds(this.#threadOf(worker))
      const before = this.#last.get(worker) ?? spentMs
      this.#last.set(worker, spentMs)
      return Math.min(Math.max((spentMs - before) / passedMs, 0), 1)
    })
    return this.#busy
  }
}

function milliseconds(thread: number): number {
  try {
    const [nanoseconds] = readFileSync(`/proc/self/task/${thread}/schedstat`, 'utf8').split(' ')
    return Number(nanoseconds) / 1e6
  } catch {
    // It has ended, or the kernel counts nothing.
    return 0
  }
}
