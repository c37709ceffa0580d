// What servers see of one socket: its reflexive addresses, and how the NAT assigns ports. A pure machine; only servers that it
// was given are asked, there are none by default.
//
// Requests go out Ta (50 ms) apart (RFC 8445 §14.2), so their order is the order in which the NAT made mappings. Each round
// replaces what the last one learned, once it has learned something.
// Bounds: 4 servers.

import type { Random } from '#crypto/random.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import type { NatBehaviour } from '#wire/path-offer.ts'
import { type DecodedStun, encodeStun, STUN_ATTRIBUTE, STUN_METHOD, stunAttribute } from '#wire/stun.ts'
import { readPlainAddress, readXorAddress } from '#wire/stun-value.ts'
import { type Base, familyOf, isSameAddress } from './base.ts'
import { natBehaviour, type Observation, UNKNOWN_NAT } from './nat-behaviour.ts'
import { Retransmission } from './retransmission.ts'

const MAX_SERVERS = 4
const TA_MS = 50

interface Query {
  readonly server: Address
  readonly order: number
  readonly transaction: Uint8Array
  readonly bytes: Uint8Array
  timer: Retransmission | undefined
  readonly startMs: number
}

export interface GathererOptions {
  readonly base: Base
  readonly servers: readonly Address[]
  readonly random: Random
  readonly send: (to: Address, bytes: Uint8Array) => void
}

export class Gatherer {
  readonly base: Base
  readonly #options: GathererOptions
  readonly #servers: readonly Address[]
  #queries: Query[] = []
  #observations: Observation[] = []
  #isFreshRound = false

  constructor(options: GathererOptions) {
    this.#options = options
    this.base = options.base
    this.#servers = options.servers.filter(({ host }) => familyOf(host) === options.base.family).slice(0, MAX_SERVERS)
  }

  /** Whether every server has answered or is given up. */
  get isDone(): boolean {
    return this.#queries.length === 0
  }

  /** Addresses that servers saw, the newest last. */
  get mapped(): readonly Address[] {
    const unique = new Map<string, Address>()
    for (const { mapped } of this.#observations) {
      unique.delete(formatAddress(mapped))
      unique.set(formatAddress(mapped), mapped)
    }
    return [...unique.values()]
  }

  get nat(): NatBehaviour {
    return this.#observations.length === 0 ? UNKNOWN_NAT : natBehaviour(this.#observations)
  }

  /** Asks every server, anew. */
  begin(now: number): void {
    this.#isFreshRound = true
    this.#queries = this.#servers.map((server, order) => {
      const transaction = this.#options.random(12)
      const bytes = encodeStun({ class: 'request', method: STUN_METHOD.binding, transaction, attributes: [] })
      return { server, order, transaction, bytes, timer: undefined, startMs: now + order * TA_MS }
    })
    this.handleDeadline(now)
  }

  /** Takes an answer; false when it is to no question of this socket. */
  handleAnswer(message: DecodedStun, from: Address): boolean {
    const query = this.#queries.find(({ transaction }) => Buffer.compare(transaction, message.transaction) === 0)
    if (query === undefined || !isSameAddress(query.server, from)) return false
    this.#queries = this.#queries.filter(each => each !== query)
    const mapped =
      readXorAddress(stunAttribute(message, STUN_ATTRIBUTE.xorMappedAddress), message.transaction) ??
      readPlainAddress(stunAttribute(message, STUN_ATTRIBUTE.mappedAddress))
    if (message.class !== 'success' || mapped === undefined || familyOf(mapped.host) !== this.base.family) return true
    if (this.#isFreshRound) this.#observations = []
    this.#isFreshRound = false
    this.#observations.push({ server: query.server.host, mapped, order: query.order })
    return true
  }

  deadline(): number {
    return Math.min(Number.POSITIVE_INFINITY, ...this.#queries.map(({ timer, startMs }) => timer?.dueMs ?? startMs))
  }

  handleDeadline(now: number): void {
    for (const query of this.#queries) {
      if (query.timer === undefined && query.startMs > now) continue
      const what = query.timer === undefined ? 'send' : query.timer.next(now)
      query.timer ??= new Retransmission(now)
      if (what === 'send') this.#options.send(query.server, query.bytes)
      if (what === 'failed') this.#queries = this.#queries.filter(each => each !== query)
    }
  }
}
