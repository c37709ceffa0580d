// When a STUN request is sent again (RFC 8489 §6.2.1): after RTO, doubled each time, seven times; it has failed 16 RTO after the
// last.

const RTO_MS = 500
const MAX_SENDS = 7
const LAST_WAIT_RTOS = 16

export class Retransmission {
  readonly firstMs: number
  readonly #maxSends: number
  readonly #rtoMs: number
  #sends = 1
  #dueMs: number

  constructor(now: number, rtoMs = RTO_MS, maxSends = MAX_SENDS) {
    this.firstMs = now
    this.#rtoMs = rtoMs
    this.#maxSends = maxSends
    this.#dueMs = now + rtoMs
  }

  get dueMs(): number {
    return this.#dueMs
  }

  /** How often it was sent; a round trip can only be measured while that is once. */
  get sends(): number {
    return this.#sends
  }

  /** What to do at `now`: wait, send again (it counts as done), or give up. */
  next(now: number): 'wait' | 'send' | 'failed' {
    if (now < this.#dueMs) return 'wait'
    if (this.#sends >= this.#maxSends) return 'failed'
    this.#sends++
    const isLast = this.#sends === this.#maxSends
    this.#dueMs = now + this.#rtoMs * (isLast ? LAST_WAIT_RTOS : 2 ** (this.#sends - 1))
    return 'send'
  }
}
