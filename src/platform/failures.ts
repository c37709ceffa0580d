// What to do about failures that may come again: try once more, later each time, and give up when they follow each other close.

const FIRST_WAIT_MS = 200
const MAX_WAIT_MS = 10_000
/** As many failures within this time are no accident. */
const WINDOW_MS = 120_000
const MAX_FAILURES = 5

export class Failures {
  #at: number[] = []

  /** Notes one more: how many there were of late, whether that is a loop, and how long to wait before the next try. */
  add(now: number): { readonly count: number; readonly isLoop: boolean; readonly waitMs: number } {
    this.#at = [...this.#at.filter(at => now - at < WINDOW_MS), now]
    const count = this.#at.length
    const waitMs = Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** (count - 1))
    return { count, isLoop: count >= MAX_FAILURES, waitMs }
  }
}
