// The secret of one tunnel between two devices, made anew every two minutes with ML-KEM-768 and mixed with that of their
// conversation: what is recorded today stays closed when a device is taken over, or a quantum computer built, later.
// A pure machine around session/wireguard/psk-exchange.ts.
//
// The exchange goes along the path beside WireGuard, each message sealed under the conversation's secret:
//
//   offset  size  field
//   0       1     type = 0x48
//   1       16    random, which makes the key of this message
//   17      n     the message (wire/psk-exchange.ts), sealed with ChaCha20-Poly1305 and counter 0
//   17+n    16    tag
//
// Length policy: exact for each kind of message. Without an agreed secret there is no session, and that is told.

import { copyBytes } from '#bytes/copy.ts'
import { openInPlace, sealInPlace, TAG_BYTES } from '#crypto/aead.ts'
import { blake2s, keyedBlake2s } from '#crypto/blake2s.ts'
import type { Random } from '#crypto/random.ts'
import { PskInitiator, PskResponder } from '#session/wireguard/psk-exchange.ts'

const TYPE = 0x48
const NONCE_BYTES = 16
const HEADER_BYTES = 1 + NONCE_BYTES
const MIN_BYTES = HEADER_BYTES + TAG_BYTES
const MAX_BYTES = 1_280
/** An offer that somebody has recorded is answered no more often, wherever it comes from. */
const MAX_SENT_PER_SECOND = 8
const LABEL = Buffer.from('hoplite device secret v1')

export interface SecretRenewalOptions {
  /** WireGuard public keys, 32 bytes each. The side whose key is smaller renews. */
  readonly ownPublicKey: Uint8Array
  readonly peerPublicKey: Uint8Array
  /** Of their conversation, 32 bytes. */
  readonly secret: Uint8Array
  readonly random: Random
  /** Along the path to the peer. */
  readonly send: (bytes: Uint8Array) => void
  /** The pre-shared key from now on, 32 bytes; with `begins`, a handshake is to begin at once. */
  readonly use: (presharedKey: Uint8Array, begins: boolean) => void
  /** Whether there is an agreed secret now: without one no handshake succeeds. */
  readonly told: (isAgreed: boolean) => void
}

export class SecretRenewal {
  readonly #options: SecretRenewalOptions
  readonly #exchange: PskInitiator | PskResponder
  readonly #sendKey: Uint8Array
  readonly #receiveKey: Uint8Array
  #sent = { sinceMs: 0, count: 0 }

  constructor(options: SecretRenewalOptions, now: number) {
    this.#options = options
    const { ownPublicKey, peerPublicKey, secret, random } = options
    const keyFor = (from: Uint8Array, to: Uint8Array) => keyedBlake2s(secret, blake2s(LABEL, from, to), 32)
    this.#sendKey = keyFor(ownPublicKey, peerPublicKey)
    this.#receiveKey = keyFor(peerPublicKey, ownPublicKey)
    const own = { ownPublicKey, peerPublicKey, random }
    const renews = Buffer.compare(ownPublicKey, peerPublicKey) < 0
    this.#exchange = renews ? new PskInitiator(own, now) : new PskResponder(own, now)
    this.#carryOut(now)
  }

  /** Takes a message from the path; whether it was of this pair. */
  receive(bytes: Uint8Array, now: number): boolean {
    if (bytes.length < MIN_BYTES || bytes.length > MAX_BYTES || bytes[0] !== TYPE) return false
    const message = copyBytes(bytes)
    const key = keyedBlake2s(this.#receiveKey, message.subarray(1, HEADER_BYTES), 32)
    if (!openInPlace(key, 0, message, HEADER_BYTES, message.length - HEADER_BYTES)) return false
    this.#exchange.handleMessage(message.subarray(HEADER_BYTES, message.length - TAG_BYTES), now)
    this.#carryOut(now)
    return true
  }

  deadline(): number {
    return this.#exchange.deadline()
  }

  handleDeadline(now: number): void {
    if (this.#exchange.deadline() > now) return
    this.#exchange.handleDeadline(now)
    this.#carryOut(now)
  }

  close(): void {
    this.#exchange.close()
  }

  #carryOut(now: number): void {
    const { secret, send, use, told } = this.#options
    for (const command of this.#exchange.take()) {
      switch (command.kind) {
        case 'send':
          if (now - this.#sent.sinceMs >= 1_000) this.#sent = { sinceMs: now, count: 0 }
          if (++this.#sent.count <= MAX_SENT_PER_SECOND) send(this.#seal(command.bytes))
          break
        case 'use':
          use(keyedBlake2s(secret, command.psk.bytes, 32), command.handshake)
          command.psk.wipe()
          break
        case 'agreed':
        case 'failed':
          told(command.kind === 'agreed')
      }
    }
  }

  #seal(message: Uint8Array): Uint8Array {
    const nonce = this.#options.random(NONCE_BYTES)
    const bytes = new Uint8Array(HEADER_BYTES + message.length + TAG_BYTES)
    bytes[0] = TYPE
    bytes.set(nonce, 1)
    bytes.set(message, HEADER_BYTES)
    sealInPlace(keyedBlake2s(this.#sendKey, nonce, 32), 0, bytes, HEADER_BYTES, message.length)
    return bytes
  }
}

/** Whether a datagram may be a message of a renewal. */
export function isRenewal(buffer: Uint8Array, offset: number, length: number): boolean {
  return buffer[offset] === TYPE && length >= MIN_BYTES && length <= MAX_BYTES
}
