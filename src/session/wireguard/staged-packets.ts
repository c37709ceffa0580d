// Packets that wait for keys: copies with room around them for header, padding and tag. At most 128 for each peer and
// 256 KiB; the oldest goes first.

import { TRANSPORT_HEADER_BYTES } from '#wire/transport.ts'

const MAX_PACKETS = 128
const MAX_BYTES = 256 * 1024
/** 15 bytes of padding and 16 of tag, rounded up. */
export const TAILROOM_BYTES = 32

export interface StagedPacket {
  readonly buffer: Uint8Array
  readonly offset: number
  readonly length: number
}

export class StagedPackets {
  #packets: StagedPacket[] = []
  #bytes = 0

  get size(): number {
    return this.#packets.length
  }

  /** Keeps a copy; returns how many had to go for it. */
  push(from: Uint8Array, offset: number, length: number): number {
    const buffer = Buffer.allocUnsafeSlow(TRANSPORT_HEADER_BYTES + length + TAILROOM_BYTES)
    buffer.set(from.subarray(offset, offset + length), TRANSPORT_HEADER_BYTES)
    this.#packets.push({ buffer, offset: TRANSPORT_HEADER_BYTES, length })
    this.#bytes += length
    let gone = 0
    while (this.#packets.length > MAX_PACKETS || (this.#bytes > MAX_BYTES && this.#packets.length > 1)) {
      this.#bytes -= this.#packets.shift()?.length ?? 0
      gone++
    }
    return gone
  }

  /** Hands all of them over, oldest first. */
  drain(): readonly StagedPacket[] {
    const packets = this.#packets
    this.#packets = []
    this.#bytes = 0
    return packets
  }
}
