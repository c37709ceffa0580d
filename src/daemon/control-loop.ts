// Drives a pure machine: after every input its commands go to the data plane, and a timer is set to its next deadline.

import { monotonicMs } from '#platform/clock.ts'

const MAX_SLEEP_MS = 60_000
/** A timer that is this late means that the process did not run: what it waited for may have come and gone. */
const LATE_MS = 1_500

export interface Driven {
  /** What was asked before is not answered because nobody listened. */
  handleWake?(now: number): void
  handleDeadline(now: number): void
  deadline(): number
}

export class ControlLoop {
  readonly #machine: Driven
  readonly #drain: (now: number) => void
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  /** @param drain carries out what the machine decided */
  constructor(machine: Driven, drain: (now: number) => void) {
    this.#machine = machine
    this.#drain = drain
  }

  /** Runs `input` on the machine, carries out what follows, and sets the timer. */
  run(input: (now: number) => void): void {
    if (this.#isClosed) return
    const now = monotonicMs()
    input(now)
    this.#settle(now)
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
  }

  #settle(now: number): void {
    this.#drain(now)
    clearTimeout(this.#timer)
    if (this.#isClosed) return
    const wait = Math.min(Math.max(this.#machine.deadline() - now, 0), MAX_SLEEP_MS)
    this.#timer = setTimeout(() => {
      this.run(later => {
        if (later - now - wait > LATE_MS) this.#machine.handleWake?.(later)
        this.#machine.handleDeadline(later)
      })
    }, wait)
  }
}
