// The checks between us and one peer, both ways: made with the password of whoever is asked, believed only with ours (RFC 8445 §7).
// What follows from them is the agent's (agent.ts).

import type { Address } from '#wire/address.ts'
import type { PathOffer } from '#wire/path-offer.ts'
import { type DecodedStun, STUN_ATTRIBUTE, type StunMessage, stunAttribute, unknownRequired } from '#wire/stun.ts'
import { readErrorCode } from '#wire/stun-value.ts'
import { type Base, candidatePriority, isSameAddress } from './base.ts'
import {
  checkAnswer,
  checkRequest,
  ROLE_CONFLICT,
  readCheck,
  roleConflict,
  unknownAttributes,
} from './check-message.ts'
import { ufragOf } from './credentials.ts'
import type { Ground } from './ground.ts'
import type { Offering } from './offering.ts'
import { type Check, Outstanding } from './outstanding.ts'
import { Role } from './role.ts'
import { iceKey, iceText, isAuthentic, type StunKey, sealStun } from './stun-auth.ts'

/** A check of the peer's that was answered. */
export interface HeardCheck {
  readonly priority: number
  /** 0 where it nominates nothing, or has no right to. */
  readonly nomination: number
  /** The peer had our role, and we gave way. */
  readonly isRoleChanged: boolean
}

export type CheckOutcome =
  | { readonly kind: 'confirmed'; readonly check: Check }
  /** The peer has the role that the check was made in; the next is made in the other. */
  | { readonly kind: 'roleConflict'; readonly check: Check }

export class Checks {
  readonly #ground: Ground
  readonly #offering: Offering
  readonly #outstanding: Outstanding
  readonly #role: Role
  #remote: PathOffer | undefined
  #remoteKey: StunKey | undefined

  constructor(ground: Ground, offering: Offering, isControlling: boolean) {
    this.#ground = ground
    this.#offering = offering
    this.#outstanding = new Outstanding(ground.random)
    this.#role = new Role(isControlling, ground.random)
  }

  /** Transaction ids of ours begin with it. */
  get tag(): string {
    return this.#outstanding.tag
  }

  get isControlling(): boolean {
    return this.#role.isControlling
  }

  /** What the peer said last about itself. */
  get remote(): PathOffer | undefined {
    return this.#remote
  }

  learn(offer: PathOffer): void {
    this.#remote = offer
    this.#remoteKey = iceKey(offer.password)
  }

  /** Sends a check; `undefined` when there is no offer yet, or that address has had enough of them. */
  send(base: Base, to: Address, now: number, nomination?: number, isGuess = false): Uint8Array | undefined {
    const remote = this.#remote
    if (remote === undefined || !this.#ground.budget.spend(to.host, isGuess ? 'guess' : 'check', now)) return undefined
    const { isControlling, tieBreaker } = this.#role
    const check = { base, to, sentMs: now, nomination, wasControlling: isControlling }
    const request = checkRequest(this.#outstanding.add(check, isGuess), {
      username: `${iceText(remote.ufrag)}:${this.#offering.credentials[0].ufrag}`,
      priority: candidatePriority('peerReflexive', base.family),
      isControlling,
      tieBreaker,
      nomination,
    })
    const bytes = sealStun(request, this.#remoteKey)
    this.#ground.send(base, to, bytes, now)
    return bytes
  }

  /** Answers a check of the peer's; `undefined` when it proves nothing, or is refused. */
  handleRequest(
    bytes: Uint8Array,
    message: DecodedStun,
    from: Address,
    base: Base,
    now: number,
  ): HeardCheck | undefined {
    const ufrag = ufragOf(message)
    const own = this.#offering.credentials.find(each => each.ufrag === ufrag)
    if (own === undefined || !isAuthentic(bytes, message, own.key.key)) return undefined
    const answer = (reply: StunMessage) => this.#ground.send(base, from, sealStun(reply, own.key), now)
    const unknown = unknownRequired(message)
    if (unknown.length > 0) {
      answer(unknownAttributes(message, unknown))
      return undefined
    }
    const settled = this.#role.settle(message)
    if (settled === 'peerMustChange') {
      answer(roleConflict(message))
      return undefined
    }
    answer(checkAnswer(message, from))
    const { priority, nomination } = readCheck(message)
    return { priority, nomination: this.#role.isControlling ? 0 : nomination, isRoleChanged: settled === 'changed' }
  }

  /** Takes an answer to a check of ours; `undefined` when it shows nothing. */
  handleAnswer(bytes: Uint8Array, message: DecodedStun, from: Address, base: Base): CheckOutcome | undefined {
    const check = this.#outstanding.get(message.transaction)
    const key = this.#remoteKey
    if (check === undefined || key === undefined || !isAuthentic(bytes, message, key.key)) return undefined
    this.#outstanding.delete(message.transaction)
    if (message.class === 'error') {
      const code = readErrorCode(stunAttribute(message, STUN_ATTRIBUTE.errorCode))
      if (code !== ROLE_CONFLICT) return undefined
      this.#role.yield(check.wasControlling)
      return { kind: 'roleConflict', check }
    }
    // RFC 8445 §7.2.5.2.1: an answer that came another way shows no path.
    return base === check.base && isSameAddress(from, check.to) ? { kind: 'confirmed', check } : undefined
  }

  forgetGuesses(): void {
    this.#outstanding.forgetGuesses()
  }

  clear(): void {
    this.#outstanding.clear()
  }
}
