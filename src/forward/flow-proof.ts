// Proof that the far end of a hop's flow is a Hoplite hop: a relay is not a way to send datagrams to just anybody.
//
//   proving --(at most 3 initiations out)--> proving --(a response with the initiation's index)--> open
//
// Before the flow is open nothing but initiations goes out and nothing but an answer to one comes in; after it, only
// handshake and transport packets pass. The answer is shorter than the initiation, so nothing is amplified.

import { HOP_HANDSHAKE } from '#wire/packet-type.ts'
import { isTransport, readU32 } from '#wire/transport.ts'

const MAX_UNPROVEN = 3

export class FlowProof {
  readonly #indices: number[] = []
  #isOpen = false

  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Whether a datagram of the client may go out. */
  admitsOutward(buffer: Uint8Array, offset: number, length: number): boolean {
    const isInitiation = buffer[offset] === HOP_HANDSHAKE.initiation && length === HOP_HANDSHAKE.initiationBytes
    if (this.#isOpen) return isInitiation || isTransport(buffer, offset, length)
    if (!isInitiation || this.#indices.length >= MAX_UNPROVEN) return false
    this.#indices.push(readU32(buffer, offset + 4))
    return true
  }

  /** Whether a datagram from the far end may come in. */
  admitsInward(buffer: Uint8Array, offset: number, length: number): boolean {
    const type = buffer[offset]
    if (type === HOP_HANDSHAKE.response && length === HOP_HANDSHAKE.responseBytes) {
      if (this.#indices.includes(readU32(buffer, offset + 8))) this.#isOpen = true
      return this.#isOpen
    }
    if (type === HOP_HANDSHAKE.cookieReply && length === HOP_HANDSHAKE.cookieReplyBytes) {
      return this.#isOpen || this.#indices.includes(readU32(buffer, offset + 4))
    }
    return this.#isOpen && isTransport(buffer, offset, length)
  }
}
