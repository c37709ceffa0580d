// The pairs of one agent: a base of ours and an address of the peer (RFC 8445 §6.1.2), best first.
//
//   waiting ──check sent──► inProgress ──answer──► valid ──(asked, silent)──► failed
//      ▲                        └──(seven tries)──► failed                      │
//      └────────────────────────(revived: something changed)────────────────────┘
//
// Bound: 96 pairs; a new one takes the place of the worst that failed, or is refused.

import { type Address, formatAddress } from '#wire/address.ts'
import type { CandidateKind } from '#wire/path-offer.ts'
import { type Base, candidatePriority, familyOf, isLoopback, isPrivate, isUnreachable } from './base.ts'
import type { Retransmission } from './retransmission.ts'

export interface RemoteCandidate {
  readonly kind: CandidateKind | 'peerReflexive'
  readonly priority: number
  readonly address: Address
}

/** The check that a pair in progress waits for. */
export interface PendingCheck {
  readonly bytes: Uint8Array
  readonly timer: Retransmission
}

export interface Pair {
  readonly base: Base
  remote: RemoteCandidate
  /** Packets take the way over a relay, of ours or of the peer. */
  isRelayed: boolean
  state: 'waiting' | 'inProgress' | 'valid' | 'failed'
  check: PendingCheck | undefined
  /** When it was last asked, and last answered. */
  askedMs: number
  heardMs: number
  /** When the first question was asked that nothing has answered since, and how many there were. */
  silentSinceMs: number
  unanswered: number
  rttMs: number | undefined
  /** The peer nominated it before it was valid. */
  nominated: number
}

const MAX_PAIRS = 96

export class Checklist {
  readonly #pairs = new Map<string, Pair>()

  /** Makes the pairs of every ordinary base with every candidate of the same family. */
  form(bases: Iterable<Base>, remotes: readonly RemoteCandidate[]): void {
    for (const base of bases) {
      if (base.isExtra) continue
      if (base.meets !== undefined) {
        // Both know the other's end without being told.
        this.add(base, {
          kind: 'peerReflexive',
          priority: candidatePriority('relayed', base.family),
          address: base.meets.to,
        })
        continue
      }
      for (const remote of remotes) if (canReach(base, remote.address)) this.add(base, remote)
    }
  }

  get(base: Base, to: Address): Pair | undefined {
    return this.#pairs.get(keyOf(base, to))
  }

  /** The pair, made if it is new; `undefined` when there are too many. */
  add(base: Base, remote: RemoteCandidate): Pair | undefined {
    const known = this.get(base, remote.address)
    if (known !== undefined) return known
    if (this.#pairs.size === MAX_PAIRS && !this.#evict()) return undefined
    const pair: Pair = {
      base,
      remote,
      isRelayed: base.kind !== 'socket' || remote.kind === 'relayed',
      state: 'waiting',
      check: undefined,
      askedMs: Number.NEGATIVE_INFINITY,
      heardMs: Number.NEGATIVE_INFINITY,
      silentSinceMs: Number.POSITIVE_INFINITY,
      unanswered: 0,
      rttMs: undefined,
      nominated: 0,
    }
    this.#pairs.set(keyOf(base, remote.address), pair)
    return pair
  }

  removeBase(local: number): void {
    for (const [key, { base }] of this.#pairs) if (base.local === local) this.#pairs.delete(key)
  }

  clear(): void {
    this.#pairs.clear()
  }

  /**
   * The peer's candidates changed: pairs of those that it no longer has go, unless they work; an address that was seen
   * before it was named gets its name, so that a relay is known for one.
   */
  learn(remotes: readonly RemoteCandidate[]): void {
    const named = new Map(remotes.map(remote => [formatAddress(remote.address), remote]))
    for (const [key, pair] of this.#pairs) {
      const remote = named.get(formatAddress(pair.remote.address))
      if (remote !== undefined) {
        pair.remote = remote
        pair.isRelayed = pair.base.kind !== 'socket' || remote.kind === 'relayed'
      } else if (pair.state !== 'valid' && pair.remote.kind !== 'peerReflexive') {
        this.#pairs.delete(key)
      }
    }
  }

  /** Something changed: what failed or is slow is tried anew. */
  revive(): void {
    for (const pair of this.#pairs.values()) {
      if (pair.state === 'valid' || pair.base.isExtra) continue
      pair.state = 'waiting'
      pair.check = undefined
    }
  }

  /** The best pair that was not checked yet, of those that are or are not relayed. */
  nextWaiting(isRelayed: boolean): Pair | undefined {
    let best: Pair | undefined
    for (const pair of this.#pairs.values()) {
      if (pair.state !== 'waiting' || pair.isRelayed !== isRelayed) continue
      if (best === undefined || isBetter(pair, best)) best = pair
    }
    return best
  }

  /** The best pair that works. */
  bestValid(): Pair | undefined {
    let best: Pair | undefined
    for (const pair of this.#pairs.values()) {
      // One that has begun to fail comes after all that have not.
      if (pair.state === 'valid' && (best === undefined || isPreferred(pair, best))) best = pair
    }
    return best
  }

  /** The pairs whose mappings are kept: the one in use, the best relayed one and the best other direct one. */
  kept(current: Pair | undefined): readonly (Pair | undefined)[] {
    let relayed: Pair | undefined
    let direct: Pair | undefined
    for (const pair of this.#pairs.values()) {
      if (pair.state !== 'valid' || pair === current) continue
      if (pair.isRelayed) relayed = relayed === undefined || isBetter(pair, relayed) ? pair : relayed
      else direct = direct === undefined || isBetter(pair, direct) ? pair : direct
    }
    return [current, relayed, direct]
  }

  pairs(): Iterable<Pair> {
    return this.#pairs.values()
  }

  #evict(): boolean {
    let worst: string | undefined
    let worstPair: Pair | undefined
    for (const [key, pair] of this.#pairs) {
      if (pair.state !== 'failed') continue
      if (worstPair === undefined || isBetter(worstPair, pair)) {
        worst = key
        worstPair = pair
      }
    }
    return worst !== undefined && this.#pairs.delete(worst)
  }
}

/** Direct before relayed, then by the priorities of both candidates (RFC 8445 §6.1.2.3, without the tie-breaking last bit). */
export function isBetter(a: Pair, b: Pair): boolean {
  if (a.isRelayed !== b.isRelayed) return b.isRelayed
  const [aMin, aMax] = priorities(a)
  const [bMin, bMax] = priorities(b)
  return aMin === bMin ? aMax > bMax : aMin > bMin
}

function isPreferred(a: Pair, b: Pair): boolean {
  const isWellA = a.unanswered < 3
  return isWellA === b.unanswered < 3 ? isBetter(a, b) : isWellA
}

function priorities({ base, remote }: Pair): readonly [number, number] {
  const own = candidatePriority(base.kind === 'socket' ? 'host' : 'relayed', base.family)
  return [Math.min(own, remote.priority), Math.max(own, remote.priority)]
}

function canReach(base: Base, to: Address): boolean {
  if (familyOf(to.host) !== base.family) return false
  if (isUnreachable(to.host)) return base.isOnLoopback === true && isLoopback(to.host)
  // A relay on the internet has no way into the peer's home.
  return base.address === undefined || isPrivate(base.address.host) || !isPrivate(to.host)
}

function keyOf(base: Base, to: Address): string {
  return `${base.local} ${formatAddress(to)}`
}
