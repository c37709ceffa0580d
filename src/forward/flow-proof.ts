// Proof that the far end of a flow is what the flow is for: a relay is not a way to send datagrams to just anybody.
//
//   proving --(at most 3 initiations out)--> proving --(an answer with an initiation's index)--> open
//
// Before the flow is open nothing but initiations goes out and nothing but an answer to one comes in; after it, only
// handshake and transport packets pass. Answers are shorter than initiations, so nothing is amplified.
//
// A hop and a WireGuard server differ in the types and sizes of their handshakes (wire/packet-type.ts, wire/wireguard.ts).
// A WireGuard server that is busy answers with a cookie alone, which therefore opens the flow; a hop's does not.

import { HOP_HANDSHAKE } from '#wire/packet-type.ts'
import { isTransport, readU32 } from '#wire/transport.ts'
import { WIREGUARD_HANDSHAKE } from '#wire/wireguard.ts'

const MAX_UNPROVEN = 3
const HANDSHAKES = {
  hop: { ...HOP_HANDSHAKE, cookieOpens: false },
  wireguard: { ...WIREGUARD_HANDSHAKE, cookieOpens: true },
} as const

export type ProofKind = keyof typeof HANDSHAKES

export class FlowProof {
  readonly kind: ProofKind
  readonly #indices: number[] = []
  #isOpen = false

  constructor(kind: ProofKind) {
    this.kind = kind
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Whether a datagram of the client may go out. */
  admitsOutward(buffer: Uint8Array, offset: number, length: number): boolean {
    if (this.#isOpen) return this.#isHandshakeOrTransport(buffer, offset, length, this.kind === 'hop')
    const { initiation, initiationBytes } = HANDSHAKES[this.kind]
    const isInitiation = isMessage(buffer, offset, length, initiation, initiationBytes)
    if (!isInitiation || this.#indices.length >= MAX_UNPROVEN) return false
    this.#indices.push(readU32(buffer, offset + 4))
    return true
  }

  /** Whether a datagram from the far end may come in. */
  admitsInward(buffer: Uint8Array, offset: number, length: number): boolean {
    if (this.#isOpen) return this.#isHandshakeOrTransport(buffer, offset, length, false)
    const shape = HANDSHAKES[this.kind]
    if (isMessage(buffer, offset, length, shape.response, shape.responseBytes)) {
      this.#isOpen = this.#indices.includes(readU32(buffer, offset + 8))
      return this.#isOpen
    }
    if (!isMessage(buffer, offset, length, shape.cookieReply, shape.cookieReplyBytes)) return false
    const isOurs = this.#indices.includes(readU32(buffer, offset + 4))
    this.#isOpen = isOurs && shape.cookieOpens
    return isOurs
  }

  /** Either end of a WireGuard flow may begin a handshake; of a hop's flow only the client. */
  #isHandshakeOrTransport(buffer: Uint8Array, offset: number, length: number, fromClientOfHop: boolean): boolean {
    if (isTransport(buffer, offset, length)) return true
    const shape = HANDSHAKES[this.kind]
    const begins = isMessage(buffer, offset, length, shape.initiation, shape.initiationBytes)
    if (fromClientOfHop) return begins
    return (
      (begins && this.kind === 'wireguard') ||
      isMessage(buffer, offset, length, shape.response, shape.responseBytes) ||
      isMessage(buffer, offset, length, shape.cookieReply, shape.cookieReplyBytes)
    )
  }
}

function isMessage(buffer: Uint8Array, offset: number, length: number, type: number, bytes: number): boolean {
  return length === bytes && buffer[offset] === type && isZero3(buffer, offset + 1)
}

function isZero3(buffer: Uint8Array, offset: number): boolean {
  return buffer[offset] === 0 && buffer[offset + 1] === 0 && buffer[offset + 2] === 0
}
