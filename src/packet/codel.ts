// CoDel (RFC 8289): tells a queue that stands from one that a burst has filled. It looks at nothing but how long each packet has
// waited. A burst is gone before long; when for a whole interval no packet has waited less than the target, the queue is of
// no use to anyone, and packets are shed one by one, sooner and sooner, until their senders have slowed down.
//
//   wait      ▁▃▇▅▂▁▁▂▄▆▇▇▇▇▇▇▇▇▇▇▇▆▅▃▁
//   target    ─ ─ ─ ─ ─│◄─interval─►│x─ ─x─ x─ ─ ─ ─   x: shed

/** The wait that a queue may settle on: long enough to keep a path busy. RFC 8289 §4.4 */
const TARGET_MS = 5
/** The longest round trip that is usual: senders need that long to be told and to obey. RFC 8289 §4.3 */
const INTERVAL_MS = 100

export interface CodelOptions {
  readonly targetMs?: number
  readonly intervalMs?: number
}

export class Codel {
  readonly #targetMs: number
  readonly #intervalMs: number
  /** When the wait will have been over the target for an interval; 0 while it is below. */
  #standsFromMs = 0
  #isShedding = false
  #nextMs = 0
  /** Packets shed since shedding began, and how many there were when it began. */
  #count = 0
  #countBefore = 0

  constructor({ targetMs = TARGET_MS, intervalMs = INTERVAL_MS }: CodelOptions = {}) {
    this.#targetMs = targetMs
    this.#intervalMs = intervalMs
  }

  /**
   * Whether the packet that leaves the queue now, after `waitMs` in it, is to be shed: dropped, or marked where its sender
   * understands that. `isLast`: nothing is left behind it, so nothing would move up.
   */
  sheds(waitMs: number, isLast: boolean, now: number): boolean {
    const stands = this.#stands(waitMs, isLast, now)
    if (!this.#isShedding) return stands && this.#begin(now)
    if (!stands) {
      this.#isShedding = false
      return false
    }
    if (now < this.#nextMs) return false
    this.#count++
    // One that was not asked for a while does not make up for it.
    this.#nextMs = this.#after(Math.max(this.#nextMs, now - this.#intervalMs))
    return true
  }

  #stands(waitMs: number, isLast: boolean, now: number): boolean {
    if (waitMs < this.#targetMs || isLast) {
      this.#standsFromMs = 0
      return false
    }
    if (this.#standsFromMs === 0) this.#standsFromMs = now + this.#intervalMs
    return now >= this.#standsFromMs
  }

  /** Begins where it left off not long ago: the rate that was enough then is likely to be so again (§4.2). */
  #begin(now: number): boolean {
    const delta = this.#count - this.#countBefore
    const isRecent = now - this.#nextMs < 16 * this.#intervalMs
    this.#count = delta > 1 && isRecent ? delta : 1
    this.#countBefore = this.#count
    this.#nextMs = this.#after(now)
    this.#isShedding = true
    return true
  }

  #after(ms: number): number {
    return ms + this.#intervalMs / Math.sqrt(this.#count)
  }
}
