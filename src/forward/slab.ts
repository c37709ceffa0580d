// Memory that packets are sealed in: one buffer used round and round, with room before each packet for the headers of
// every layer and behind it for the tags.
//
// A packet may still be on its way out when the end of the buffer is reached. Sends complete within the event that made
// them, a thousand packets before that; while a socket has a backlog the engine says `retain`, and at the end of the
// buffer a new one is taken and the old one left to those who still read it.

import { vectorMemory } from '#bytes/vector-memory.ts'

/** Eight layers of frame header and transport header. */
export const HEADROOM = 8 * 20
const TAILROOM = 8 * 16
const SLAB_BYTES = 2 * 1024 * 1024

export class Slab {
  buffer: Uint8Array = vectorMemory(SLAB_BYTES)
  #next = 0
  #isRetained = false

  /** Reserves room for `length` bytes with the room around them; returns where the room begins in `buffer`. */
  take(length: number): number {
    const total = HEADROOM + length + TAILROOM
    if (this.#next + total > SLAB_BYTES) {
      // Plain memory, which is made sooner: who has a backlog has other troubles than sums.
      if (this.#isRetained) this.buffer = Buffer.allocUnsafeSlow(SLAB_BYTES)
      this.#isRetained = false
      this.#next = 0
    }
    const at = this.#next
    this.#next += total
    return at
  }

  /** Takes back the room of the last `take`, which was for `length` bytes and is not used. */
  giveBack(length: number): void {
    this.#next -= HEADROOM + length + TAILROOM
  }

  /** Somebody still reads packets of this buffer: it is not to be written again. */
  retain(): void {
    this.#isRetained = true
  }
}
