// When the peer is told about us, and what (trickle, RFC 8838): the whole state each time, when it has changed, after servers had a
// moment to answer. What carries offers may be slow and dear, so two are never close together.

import type { PathOffer } from '#wire/path-offer.ts'
import { type Credentials, newCredentials } from './credentials.ts'
import type { Ground } from './ground.ts'

/** Offers wait this long for servers to answer, and are no closer together. */
const GATHER_MS = 120
const SPACING_MS = 200

export class Offering {
  readonly #ground: Ground
  #credentials: Credentials
  /** Those before the last restart: the peer may not have heard of the new ones. */
  #previous: Credentials | undefined
  #dueMs: number
  #offeredMs = Number.NEGATIVE_INFINITY
  #offered = ''
  #revision = 0

  constructor(ground: Ground, now: number) {
    this.#ground = ground
    this.#credentials = newCredentials(ground.random, 1)
    this.#dueMs = now + (ground.isGathering() ? GATHER_MS : 0)
  }

  /** Credentials that checks of the peer may be made with, the newest first. */
  get credentials(): readonly [Credentials, ...Credentials[]] {
    return this.#previous === undefined ? [this.#credentials] : [this.#credentials, this.#previous]
  }

  deadline(): number {
    return this.#dueMs
  }

  /** Something about us changed. */
  soon(now: number): void {
    const dueMs = Math.max(now + (this.#ground.isGathering() ? GATHER_MS : 0), this.#offeredMs + SPACING_MS)
    this.#dueMs = Math.min(this.#dueMs, dueMs)
  }

  restart(now: number): void {
    this.#previous = this.#credentials
    this.#credentials = newCredentials(this.#ground.random, this.#previous.generation + 1)
    this.#revision = 0
    this.#offered = ''
    this.soon(now)
  }

  /** The offer that is due; `undefined` when it is not, or says nothing new. */
  next(now: number): PathOffer | undefined {
    if (now < this.#dueMs) return undefined
    this.#dueMs = Number.POSITIVE_INFINITY
    const nat = this.#ground.nat()
    const candidates = this.#ground.candidates()
    const offered = JSON.stringify([nat, candidates])
    if (offered === this.#offered) return undefined
    this.#offered = offered
    this.#offeredMs = now
    this.#revision++
    const { generation, ufragBytes, passwordBytes } = this.#credentials
    return { generation, revision: this.#revision, ufrag: ufragBytes, password: passwordBytes, nat, candidates }
  }
}
