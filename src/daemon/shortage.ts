// Why relays are not paid, for a while after it was seen last: the session that is not paid ends, and with it what the purse knows, but
// it is the reason why there is no route a moment later. Pure.

import type { PurseProblem } from '#credit/purse.ts'

export type Lack = Exclude<PurseProblem, 'relayIsIdle'>

const TOLD_MS = 60_000

export class Shortage {
  #lack: Lack | undefined
  #seenMs = Number.NEGATIVE_INFINITY

  /** What is lacking at `now`, by what the purse says and the tokens that are left. */
  look(problem: PurseProblem | undefined, tokens: number, now: number): Lack | undefined {
    if (problem === 'empty' || problem === 'limitReached') {
      this.#lack = problem
      this.#seenMs = now
    } else if (now - this.#seenMs >= TOLD_MS || (this.#lack === 'empty' && tokens > 0)) this.#lack = undefined
    return this.#lack
  }
}
