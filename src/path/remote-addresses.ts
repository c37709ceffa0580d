// Where the peer may be: what it offered, and addresses that its checks came from (peer-reflexive, RFC 8445 §7.3.1.3).
// Bounds: 24 offered, 32 seen; the one seen first goes first.

import type { Address } from '#wire/address.ts'
import { type Candidate, MAX_CANDIDATES } from '#wire/path-offer.ts'
import { type Base, candidatePriority, isSameAddress } from './base.ts'
import type { RemoteCandidate } from './checklist.ts'

const MAX_SEEN_AT = 32

export class RemoteAddresses {
  #offered: readonly RemoteCandidate[] = []
  readonly #seenAt: RemoteCandidate[] = []

  offer(candidates: readonly Candidate[]): void {
    this.#offered = candidates.slice(0, MAX_CANDIDATES)
  }

  get offered(): readonly RemoteCandidate[] {
    return this.#offered
  }

  all(): readonly RemoteCandidate[] {
    return [...this.#offered, ...this.#seenAt]
  }

  /** The candidate at an address that a packet of the peer came from. */
  seen(base: Base, from: Address, priority: number): RemoteCandidate {
    const known = this.all().find(({ address }) => isSameAddress(address, from))
    if (known !== undefined) return known
    const kind = 'peerReflexive' as const
    const candidate = { kind, priority: priority || candidatePriority(kind, base.family), address: { ...from } }
    // Ports that were guessed lead to one socket only.
    if (!base.isExtra) {
      this.#seenAt.push(candidate)
      if (this.#seenAt.length > MAX_SEEN_AT) this.#seenAt.shift()
    }
    return candidate
  }
}
