// The pre-shared key of a WireGuard session between two nodes: an ML-KEM-768 secret, so that who records the session and
// has a quantum computer later still cannot read it (docs/spec/wireguard.md). Two pure machines over an authenticated
// control channel, which may lose, repeat and reorder.
//
//   PskInitiator                              PskResponder
//     │── offer: a fresh KEM key ───────────────►│
//     │◄───────────────────── answer: ciphertext │
//     │── confirm: a tag under the secret ──────►│  uses the key
//     │◄──────────── done: a tag under the secret│
//   uses the key, and begins a handshake
//
// Handshakes between the two uses fail and are repeated; packets go on under the keys of before. A key is renewed after
// 120 s and lives for 180. When there is none, or none any more, the slot holds random bytes that nobody else has: no
// handshake succeeds, and the failure is told. There is never a fall-back to a session without the secret.

import { blake2s, keyedBlake2s, noiseHkdf } from '#crypto/blake2s.ts'
import { decapsulateMlKem, encapsulateMlKem, type MlKemKeyPair, mlKemFromSeed } from '#crypto/mlkem768.ts'
import type { Random } from '#crypto/random.ts'
import { decodePskMessage, EXCHANGE_ID_BYTES, encodePskMessage, type PskMessage } from '#wire/psk-exchange.ts'
import { type PskCommand, PskSlot } from './psk-slot.ts'

export const PSK_RENEW_MS = 120_000
/** A path opens on one side before the other: what is lost then is said again soon, and ever more rarely. */
const FIRST_REPEAT_MS = 150
const MAX_REPEAT_MS = 1_000
/** An exchange that is not done by then is begun anew: the other side may have been restarted in the middle. */
const EXCHANGE_MS = 15_000
const NEVER = Number.POSITIVE_INFINITY
const LABEL = Buffer.from('hoplite wireguard psk v1')
const TAG_LABELS = { confirm: Buffer.from('confirm'), done: Buffer.from('done') } as const

export interface PskExchangeOptions {
  /** WireGuard public keys, 32 bytes each. */
  readonly ownPublicKey: Uint8Array
  readonly peerPublicKey: Uint8Array
  readonly random: Random
}

interface Agreed {
  readonly psk: Uint8Array
  readonly tagKey: Uint8Array
}

/** The side that renews. Begins at once. */
export class PskInitiator {
  readonly #options: PskExchangeOptions
  readonly #slot: PskSlot
  #exchange:
    | { readonly id: Uint8Array; readonly kem: MlKemKeyPair; readonly offer: Uint8Array; agreed?: Agreed }
    | undefined
  #unanswered: Uint8Array = new Uint8Array(0)
  #repeatAt = NEVER
  #repeatMs = FIRST_REPEAT_MS
  #abandonAt = NEVER
  #renewAt = NEVER

  constructor(options: PskExchangeOptions, now: number) {
    this.#options = options
    this.#slot = new PskSlot(options.random, now)
    this.#begin(now)
  }

  /** What to do, in this order; each is given once. */
  take(): readonly PskCommand[] {
    return this.#slot.take()
  }

  deadline(): number {
    return Math.min(this.#repeatAt, this.#abandonAt, this.#renewAt, this.#slot.expiresAt)
  }

  handleDeadline(now: number): void {
    this.#slot.expire(now)
    if (now >= this.#renewAt || now >= this.#abandonAt) this.#begin(now)
    else if (now >= this.#repeatAt) this.#repeat(now)
  }

  /** Takes a message from the channel; whether it was of use. */
  handleMessage(bytes: Uint8Array, now: number): boolean {
    const message = decodePskMessage(bytes)
    const exchange = this.#exchange
    if (message === undefined || exchange === undefined || !isEqual(message.exchange, exchange.id)) return false
    const { ownPublicKey, peerPublicKey } = this.#options
    if (message.kind === 'answer' && exchange.agreed === undefined) {
      const secret = decapsulateMlKem(exchange.kem.privateKey, message.body)
      if (secret === undefined) return false
      exchange.agreed = agree(ownPublicKey, peerPublicKey, exchange.offer, bytes, secret)
      this.#send(
        encodePskMessage({ kind: 'confirm', exchange: exchange.id, body: tag(exchange.agreed, 'confirm') }),
        now,
      )
      return true
    }
    const { agreed } = exchange
    if (message.kind !== 'done' || agreed === undefined || !isEqual(message.body, tag(agreed, 'done'))) return false
    this.#slot.use(Uint8Array.from(agreed.psk), true, now)
    this.#end()
    this.#renewAt = now + PSK_RENEW_MS
    return true
  }

  /** Ends it: what is left to take puts random bytes into the slot. */
  close(): void {
    this.#end()
    this.#renewAt = NEVER
    this.#slot.close()
  }

  #begin(now: number): void {
    this.#end()
    const { random } = this.#options
    const id = random(EXCHANGE_ID_BYTES)
    const kem = mlKemFromSeed(random(64))
    const offer = encodePskMessage({ kind: 'offer', exchange: id, body: kem.publicKey })
    this.#exchange = { id, kem, offer }
    this.#renewAt = NEVER
    this.#abandonAt = now + EXCHANGE_MS
    this.#send(offer, now)
  }

  #send(bytes: Uint8Array, now: number): void {
    this.#unanswered = bytes
    this.#repeatMs = FIRST_REPEAT_MS
    this.#repeatAt = now + FIRST_REPEAT_MS
    this.#slot.push({ kind: 'send', bytes })
  }

  #repeat(now: number): void {
    this.#repeatMs = Math.min(2 * this.#repeatMs, MAX_REPEAT_MS)
    this.#repeatAt = now + this.#repeatMs
    this.#slot.push({ kind: 'send', bytes: this.#unanswered })
  }

  #end(): void {
    this.#exchange?.agreed?.psk.fill(0)
    this.#exchange?.agreed?.tagKey.fill(0)
    this.#exchange = undefined
    this.#repeatAt = NEVER
    this.#abandonAt = NEVER
  }
}

/** The side that answers. It holds one exchange under way and remembers one that is done. */
export class PskResponder {
  readonly #options: PskExchangeOptions
  readonly #slot: PskSlot
  #exchange: { readonly offer: PskMessage; readonly answer: Uint8Array; readonly agreed: Agreed } | undefined
  #done: { readonly confirm: Uint8Array; readonly answer: Uint8Array } | undefined

  constructor(options: PskExchangeOptions, now: number) {
    this.#options = options
    this.#slot = new PskSlot(options.random, now)
  }

  take(): readonly PskCommand[] {
    return this.#slot.take()
  }

  deadline(): number {
    return this.#slot.expiresAt
  }

  handleDeadline(now: number): void {
    this.#slot.expire(now)
  }

  /** Takes a message from the channel; whether it was of use. */
  handleMessage(bytes: Uint8Array, now: number): boolean {
    const message = decodePskMessage(bytes)
    if (message === undefined || this.#slot.isClosed) return false
    if (message.kind === 'offer') return this.#answer(message, bytes)
    if (message.kind !== 'confirm') return false
    if (this.#done !== undefined && isEqual(this.#done.confirm, bytes)) {
      this.#slot.push({ kind: 'send', bytes: this.#done.answer })
      return true
    }
    const exchange = this.#exchange
    if (exchange === undefined || !isEqual(message.exchange, exchange.offer.exchange)) return false
    if (!isEqual(message.body, tag(exchange.agreed, 'confirm'))) return false
    const done = encodePskMessage({ kind: 'done', exchange: message.exchange, body: tag(exchange.agreed, 'done') })
    exchange.agreed.tagKey.fill(0)
    this.#exchange = undefined
    this.#done = { confirm: Uint8Array.from(bytes), answer: done }
    this.#slot.use(exchange.agreed.psk, false, now)
    this.#slot.push({ kind: 'send', bytes: done })
    return true
  }

  close(): void {
    this.#forget()
    this.#done = undefined
    this.#slot.close()
  }

  #answer(offer: PskMessage, bytes: Uint8Array): boolean {
    const known = this.#exchange
    if (known !== undefined && isEqual(known.offer.exchange, offer.exchange)) {
      if (!isEqual(known.offer.body, offer.body)) return false
      this.#slot.push({ kind: 'send', bytes: known.answer })
      return true
    }
    const made = encapsulateMlKem(offer.body)
    if (made === undefined) return false
    const { ownPublicKey, peerPublicKey } = this.#options
    const answer = encodePskMessage({ kind: 'answer', exchange: offer.exchange, body: made.ciphertext })
    this.#forget()
    this.#exchange = { offer, answer, agreed: agree(peerPublicKey, ownPublicKey, bytes, answer, made.secret) }
    this.#slot.push({ kind: 'send', bytes: answer })
    return true
  }

  #forget(): void {
    this.#exchange?.agreed.psk.fill(0)
    this.#exchange?.agreed.tagKey.fill(0)
    this.#exchange = undefined
  }
}

/** The keys of an exchange: of the secret, which is wiped, and of everything both sides know of it. */
function agree(
  initiator: Uint8Array,
  responder: Uint8Array,
  offer: Uint8Array,
  answer: Uint8Array,
  secret: Uint8Array,
): Agreed {
  const transcript = blake2s(LABEL, initiator, responder, offer, answer)
  const [psk, tagKey] = noiseHkdf('blake2s256', transcript, secret, 2) as [Uint8Array, Uint8Array]
  secret.fill(0)
  return { psk, tagKey }
}

function tag({ tagKey }: Agreed, kind: 'confirm' | 'done'): Uint8Array {
  return keyedBlake2s(tagKey, TAG_LABELS[kind], 32)
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  let difference = 0
  for (let i = 0; i < a.length; i++) difference |= (a[i] ?? 0) ^ (b[i] ?? 0)
  return difference === 0
}
