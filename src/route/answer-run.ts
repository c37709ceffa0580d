// How long somebody has kept answering without a longer pause. A pure machine.

export class AnswerRun {
  readonly #gapMs: number
  #sinceMs = Number.NEGATIVE_INFINITY
  #lastMs = Number.NEGATIVE_INFINITY

  /** @param gapMs a pause longer than this ends the run */
  constructor(gapMs: number) {
    this.#gapMs = gapMs
  }

  /** When the last answer came. */
  get lastMs(): number {
    return this.#lastMs
  }

  handleAnswer(now: number): void {
    if (now - this.#lastMs > this.#gapMs) this.#sinceMs = now
    this.#lastMs = now
  }

  /** When the run began that still goes on; Infinity when none does. */
  sinceMs(now: number): number {
    return now - this.#lastMs > this.#gapMs ? Number.POSITIVE_INFINITY : this.#sinceMs
  }

  /** What was heard so far does not count any more. */
  reset(): void {
    this.#lastMs = Number.NEGATIVE_INFINITY
  }
}
