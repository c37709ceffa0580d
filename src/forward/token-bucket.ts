// A rate with a burst: what may pass now. Pure machines; one of them is of several threads.

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

/** Bytes that may pass now, and the millisecond up to which they were counted. */
const TOKENS = 0
const FILLED = 1
/** The clocks of two threads are not further apart; a larger step back is the counter of milliseconds that began anew. */
const MAX_LAG_MS = 60_000

/**
 * The same rate for several threads together, over two cells of shared memory: each makes an object of its own with the same rate.
 * Whoever is first in a millisecond fills up for all.
 */
export class SharedTokenBucket {
  static readonly cells = 2
  readonly #cells: Int32Array
  readonly #perMs: number
  readonly #most: number
  #fraction = 0

  /** Full at first. @param bytesPerSecond Infinity lets everything through */
  constructor(cells: Int32Array, bytesPerSecond: number, now: number, burstMs = 100) {
    this.#cells = cells
    this.#perMs = bytesPerSecond / 1000
    this.#most = Math.min(Math.max(Math.floor(this.#perMs * burstMs), 65_536), 0x3fff_ffff)
    Atomics.store(cells, TOKENS, this.#most)
    Atomics.store(cells, FILLED, Math.floor(now) | 0)
  }

  /** Whether `bytes` may pass at `now`. */
  take(bytes: number, now: number): boolean {
    if (this.#perMs === Number.POSITIVE_INFINITY) return true
    const cells = this.#cells
    const at = Math.floor(now) | 0
    const before = Atomics.load(cells, FILLED)
    const passed = (at - before) | 0
    const isFirst = passed > 0 || passed < -MAX_LAG_MS
    if (isFirst && Atomics.compareExchange(cells, FILLED, before, at) === before) this.#fill(passed)
    if (Atomics.sub(cells, TOKENS, bytes) >= bytes) return true
    Atomics.add(cells, TOKENS, bytes)
    return false
  }

  #fill(passed: number): void {
    const more = passed < 0 ? this.#most : Math.min(passed * this.#perMs + this.#fraction, this.#most)
    const whole = Math.floor(more)
    this.#fraction = more - whole
    const tokens = Atomics.add(this.#cells, TOKENS, whole) + whole
    if (tokens > this.#most) Atomics.sub(this.#cells, TOKENS, tokens - this.#most)
  }
}
