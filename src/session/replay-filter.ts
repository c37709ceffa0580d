// Which initiations were seen lately. Who replays one would make a hop work and hold a half-open session for nothing.
//
// Two sets of ephemeral keys, the current and the one before; each takes 65,536 or lasts a minute. An initiation that is
// replayed later than that costs one handshake and leaves a session that is never confirmed.

const EPOCH_MS = 60_000
const MAX_PER_EPOCH = 65_536
const E_OFFSET = 8
const E_BYTES = 32

export class ReplayFilter {
  #current = new Set<string>()
  #previous = new Set<string>()
  #sinceMs = 0

  get size(): number {
    return this.#current.size + this.#previous.size
  }

  /** Whether this initiation is new; from then on it is not. */
  admit(initiation: Uint8Array, now: number): boolean {
    if (this.#current.size >= MAX_PER_EPOCH || now - this.#sinceMs >= EPOCH_MS) {
      this.#previous = now - this.#sinceMs >= 2 * EPOCH_MS ? new Set() : this.#current
      this.#current = new Set()
      this.#sinceMs = now
    }
    const e = Buffer.from(initiation.buffer, initiation.byteOffset + E_OFFSET, E_BYTES).toString('latin1')
    if (this.#current.has(e) || this.#previous.has(e)) return false
    this.#current.add(e)
    return true
  }
}
