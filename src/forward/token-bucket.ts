// A rate with a burst: what may pass now. A pure machine.

/** Lets through what a rate allows, with up to `burstMs` of it saved up while nothing passes. */
export class TokenBucket {
  #perMs: number
  #most: number
  #tokens: number
  #filledMs: number

  /** @param bytesPerSecond Infinity lets everything through */
  constructor(bytesPerSecond: number, now: number, burstMs = 100) {
    this.#perMs = bytesPerSecond / 1000
    this.#most = Math.max(this.#perMs * burstMs, 65_536)
    this.#tokens = this.#most
    this.#filledMs = now
  }

  /** Whether `bytes` may pass at `now`. */
  take(bytes: number, now: number): boolean {
    if (this.#perMs === Number.POSITIVE_INFINITY) return true
    this.#tokens = Math.min(this.#tokens + (now - this.#filledMs) * this.#perMs, this.#most)
    this.#filledMs = now
    if (this.#tokens < bytes) return false
    this.#tokens -= bytes
    return true
  }
}
