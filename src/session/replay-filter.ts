// Which initiations were seen lately. Who replays one would make a hop work and hold a half-open session for nothing.
//
// Two sets of mac1 values, the current and the one before; each takes 65,536 or lasts a minute, then the older is dropped
// whole. mac1 covers the whole message, and the payload seals the only field outside the Noise part, so nobody can make a
// second initiation from one that was overheard, nor have the true one refused by sending a spoiled copy first.

import { HOP_HANDSHAKE } from '#wire/packet-type.ts'
import { mac1Of } from './cookie.ts'

const EPOCH_MS = 60_000
const MAX_PER_EPOCH = 65_536

export class ReplayFilter {
  #current = new Set<string>()
  #previous = new Set<string>()
  #sinceMs = 0

  get size(): number {
    return this.#current.size + this.#previous.size
  }

  /** Whether this initiation, whose mac1 was checked, is new; from then on it is not. */
  admit(initiation: Uint8Array, now: number): boolean {
    if (initiation.length !== HOP_HANDSHAKE.initiationBytes) return false
    if (this.#current.size >= MAX_PER_EPOCH || now - this.#sinceMs >= EPOCH_MS) {
      this.#previous = now - this.#sinceMs >= 2 * EPOCH_MS ? new Set() : this.#current
      this.#current = new Set()
      this.#sinceMs = now
    }
    const mac1 = Buffer.from(mac1Of(initiation)).toString('latin1')
    if (this.#current.has(mac1) || this.#previous.has(mac1)) return false
    this.#current.add(mac1)
    return true
  }
}
