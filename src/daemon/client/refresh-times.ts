// When a client asks for the directory again. A young network grows within seconds, an old one is asked once an hour; but whoever finds
// no way through what he knows asks more often, since what he knows may be of yesterday. Pure.

const REFRESH_MS = 3_600_000
const FIRST_RETRY_MS = 700
const MAX_RETRY_MS = 60_000
/** A directory smaller than this may still be filling. */
const SMALL = 12

export class RefreshTimes {
  #retryMs = FIRST_RETRY_MS
  #jitter = 1
  #refreshedMs = Number.NEGATIVE_INFINITY

  /** @param jitter from 0.8 up to 1.2 */
  handleRefreshed(hasChanged: boolean, now: number, jitter: number): void {
    this.#retryMs = hasChanged ? FIRST_RETRY_MS : Math.min(this.#retryMs * 2, MAX_RETRY_MS)
    this.#jitter = jitter
    this.#refreshedMs = now
  }

  /** How long from `now` until it is time, as things stand: 0 when it is. */
  waitMs(relays: number, isStuck: boolean, now: number): number {
    const everyMs = (relays < SMALL || isStuck ? this.#retryMs : REFRESH_MS) * this.#jitter
    return Math.max(0, this.#refreshedMs + everyMs - now)
  }
}
