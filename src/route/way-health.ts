// Whether packets still come back along a way, from probes to the exit and their echoes. A pure machine.
//
// Round-trip time and its variation are smoothed as TCP does (RFC 6298). A way is silent when a probe has gone
// unanswered for longer than they allow.

/** A probe is sent this often while applications wait for data, and this often while nothing happens. */
export const BUSY_INTERVAL_MS = 200
export const IDLE_INTERVAL_MS = 600
const MIN_TIMEOUT_MS = 450
/** Longer only where the round trip itself takes longer. */
const MAX_TIMEOUT_MS = 1_500
const FIRST_RTT_MS = 150
const MAX_OUTSTANDING = 64

export class WayHealth {
  readonly #sent = new Map<string, number>()
  #expectedMs = FIRST_RTT_MS
  #rttMs: number | undefined
  #variationMs = 0
  #oldestUnansweredMs: number | undefined
  #nextProbeMs = 0
  #lastEchoMs = Number.NEGATIVE_INFINITY

  /** Smoothed round-trip time to the exit; undefined before the first echo. */
  get rttMs(): number | undefined {
    return this.#rttMs
  }

  get lastEchoMs(): number {
    return this.#lastEchoMs
  }

  /** The round trip that the handshake with the exit took: what is expected before the first echo. */
  expect(rttMs: number): void {
    this.#expectedMs = Math.max(rttMs, FIRST_RTT_MS)
  }

  /** How long a probe may go unanswered. */
  get timeoutMs(): number {
    const rtt = this.#rttMs ?? this.#expectedMs
    const most = Math.max(MAX_TIMEOUT_MS, 1.5 * rtt + 4 * this.#variationMs + 200)
    return Math.min(Math.max(2 * rtt + 4 * this.#variationMs + 100, MIN_TIMEOUT_MS), most)
  }

  /** When the next probe is due. */
  nextProbeMs(isBusy: boolean): number {
    return isBusy
      ? Math.min(this.#nextProbeMs, this.#nextProbeMs - IDLE_INTERVAL_MS + BUSY_INTERVAL_MS)
      : this.#nextProbeMs
  }

  /** Something hints that the way is broken: the next probe is due at once. */
  hurry(): void {
    this.#nextProbeMs = 0
  }

  /** What was asked will not be answered, and that means nothing: it is asked anew, at once. */
  forget(): void {
    this.#sent.clear()
    this.#oldestUnansweredMs = undefined
    this.#nextProbeMs = 0
  }

  /** A probe with this token was sent. */
  handleProbe(token: Uint8Array, now: number): void {
    if (this.#sent.size >= MAX_OUTSTANDING) {
      const oldest = this.#sent.keys().next().value
      if (oldest !== undefined) this.#sent.delete(oldest)
    }
    this.#sent.set(probeKey(token), now)
    this.#oldestUnansweredMs ??= now
    this.#nextProbeMs = now + IDLE_INTERVAL_MS
  }

  /** An echo came; false when its probe was not sent along this way. */
  handleEcho(token: Uint8Array, now: number): boolean {
    const sentMs = this.#sent.get(probeKey(token))
    if (sentMs === undefined) return false
    const rtt = Math.max(now - sentMs, 0)
    if (this.#rttMs === undefined) {
      this.#rttMs = rtt
      this.#variationMs = rtt / 2
    } else {
      this.#variationMs = 0.75 * this.#variationMs + 0.25 * Math.abs(this.#rttMs - rtt)
      this.#rttMs = 0.875 * this.#rttMs + 0.125 * rtt
    }
    this.#lastEchoMs = now
    for (const [older, at] of this.#sent) if (at <= sentMs) this.#sent.delete(older)
    this.#oldestUnansweredMs = this.#sent.values().next().value
    return true
  }

  /** How long the oldest unanswered probe has been out; 0 when none is. */
  silentMs(now: number): number {
    return this.#oldestUnansweredMs === undefined ? 0 : Math.max(now - this.#oldestUnansweredMs, 0)
  }

  /** When the way will count as silent, should no echo come; Infinity while none is owed. */
  get silentAtMs(): number {
    return this.#oldestUnansweredMs === undefined
      ? Number.POSITIVE_INFINITY
      : this.#oldestUnansweredMs + this.timeoutMs + 1
  }

  isSilent(now: number): boolean {
    return this.silentMs(now) > this.timeoutMs
  }
}

/** What a probe is remembered by. */
export function probeKey(token: Uint8Array): string {
  return Buffer.from(token.buffer, token.byteOffset, token.length).toString('latin1')
}
