// How long a NAT keeps a mapping that is idle, so that keepalives are as rare as they may be (NATs differ: 15 s to hours). From a
// socket of its own a server is asked to answer twice, at once and after a silence; if the second answer comes through, the
// mapping lived that long. A pure machine.
//
//   first answer      has ECHO-AFTER: the server will answer again; without it the server cannot, and 15 s it stays
//   second answer     on time: a longer silence is tried, until the longest
//   no second answer  the last length that held is taken, less a margin

import type { Random } from '#crypto/random.ts'
import type { Address } from '#wire/address.ts'
import { type DecodedStun, encodeStun, STUN_ATTRIBUTE, STUN_METHOD, stunAttribute, u32Value } from '#wire/stun.ts'
import { MIN_ECHO_REQUEST_BYTES } from './answer-binding.ts'
import { isSameAddress } from './base.ts'

/** RFC 8445 §11: what every NAT is taken to survive. */
export const DEFAULT_KEEPALIVE_MS = 15_000
const SILENCES_SECONDS = [25, 55, 115]
const MARGIN_MS = 5_000
const FIRST_ANSWER_MS = 2_000
const LATE_MS = 3_000
const MAX_FIRST_TRIES = 3

export class MappingLifetime {
  keepaliveMs = DEFAULT_KEEPALIVE_MS
  readonly #server: Address
  readonly #random: Random
  readonly #send: (to: Address, bytes: Uint8Array) => void
  #step = 0
  #tries = 0
  #transaction: Uint8Array | undefined
  #isPromised = false
  #dueMs = Number.POSITIVE_INFINITY

  constructor(server: Address, random: Random, send: (to: Address, bytes: Uint8Array) => void) {
    this.#server = server
    this.#random = random
    this.#send = send
  }

  get isDone(): boolean {
    return this.#dueMs === Number.POSITIVE_INFINITY
  }

  begin(now: number): void {
    this.#ask(now)
  }

  handleAnswer(message: DecodedStun, from: Address, now: number): void {
    const transaction = this.#transaction
    if (transaction === undefined || !isSameAddress(from, this.#server) || message.class !== 'success') return
    if (Buffer.compare(transaction, message.transaction) !== 0) return
    const silenceMs = (SILENCES_SECONDS[this.#step] ?? 0) * 1_000
    if (!this.#isPromised) {
      if (stunAttribute(message, STUN_ATTRIBUTE.echoAfter) === undefined) return this.#end()
      this.#isPromised = true
      this.#dueMs = now + silenceMs + LATE_MS
      return
    }
    // A copy of the first answer proves nothing.
    if (now < this.#dueMs - LATE_MS - FIRST_ANSWER_MS) return
    this.keepaliveMs = silenceMs - MARGIN_MS
    this.#step++
    this.#tries = 0
    if (this.#step === SILENCES_SECONDS.length) return this.#end()
    this.#ask(now)
  }

  deadline(): number {
    return this.#dueMs
  }

  handleDeadline(now: number): void {
    if (now < this.#dueMs) return
    // One lost answer is not a lost mapping, but trying twice costs minutes: what held before is good enough.
    if (this.#isPromised || this.#tries === MAX_FIRST_TRIES) return this.#end()
    this.#ask(now)
  }

  #ask(now: number): void {
    this.#tries++
    this.#isPromised = false
    this.#dueMs = now + FIRST_ANSWER_MS
    const transaction = this.#random(12)
    this.#transaction = transaction
    const attributes = [
      { type: STUN_ATTRIBUTE.echoAfter, value: u32Value(SILENCES_SECONDS[this.#step] ?? 0) },
      { type: STUN_ATTRIBUTE.software, value: new Uint8Array(MIN_ECHO_REQUEST_BYTES - 40).fill(0x20) },
    ]
    this.#send(this.#server, encodeStun({ class: 'request', method: STUN_METHOD.binding, transaction, attributes }))
  }

  #end(): void {
    this.#transaction = undefined
    this.#dueMs = Number.POSITIVE_INFINITY
  }
}
