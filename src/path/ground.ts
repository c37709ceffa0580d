// What the agents of one node stand on: its bases, its candidates, and the way out. `Endpoint` is the only one; the agent sees
// no more of it than this.

import type { Random } from '#crypto/random.ts'
import type { Address } from '#wire/address.ts'
import type { Candidate, NatBehaviour, PathOffer } from '#wire/path-offer.ts'
import type { Base, Family } from './base.ts'
import type { ProbeBudget } from './probe-budget.ts'

/** Where a peer's packets go now. */
export type Path =
  /** From the socket `local` to the peer itself. */
  | { readonly kind: 'direct'; readonly local: number; readonly to: Address }
  /** Through the relay `local` of the shell (or through a relay of the peer, from the socket `local`). */
  | { readonly kind: 'relayed'; readonly local: number; readonly to: Address }
  /**
   * From the socket `local` to the TURN server `to`, four bytes before each packet (`writeChannelHeader`). Until there is a
   * channel, `Endpoint.send` carries packets.
   */
  | { readonly kind: 'turn'; readonly local: number; readonly to: Address; readonly channel: number | undefined }

/** What the shell is told to do, in order. */
export type PathCommand =
  | { readonly kind: 'send'; readonly local: number; readonly to: Address; readonly bytes: Uint8Array }
  /** Open so many sockets and give each to `Endpoint.addExtraSocket` with this number. */
  | { readonly kind: 'openSockets'; readonly request: number; readonly count: number; readonly family: Family }
  | { readonly kind: 'closeSocket'; readonly local: number }
  /** Carry this to the peer by the way that is slow and sure; only the newest counts. */
  | { readonly kind: 'offer'; readonly peer: number; readonly offer: PathOffer }
  | {
      readonly kind: 'path'
      readonly peer: number
      readonly path: Path | undefined
      readonly rttMs: number | undefined
    }
  /** Nothing answers; tried again on an offer, on traffic, or when the network changes. */
  | { readonly kind: 'failed'; readonly peer: number }

export interface Ground {
  readonly random: Random
  readonly budget: ProbeBudget
  /** Whether ports may be guessed without anybody else's word. */
  readonly guesses: boolean
  readonly out: PathCommand[]
  /** How long an idle mapping is left alone. */
  keepaliveMs(): number
  /** Whether servers have still to answer: candidates may be missing. */
  isGathering(): boolean
  /** Those that may lead to the peer. */
  bases(peer: number): Iterable<Base>
  candidates(): readonly Candidate[]
  nat(): NatBehaviour
  /** Asks servers and relays anew what our addresses are. */
  refresh(now: number): void
  send(base: Base, to: Address, bytes: Uint8Array, now: number): void
  path(base: Base, to: Address, isRelayed: boolean, now: number): Path
  /** Asks for sockets that are given back by `Agent.addSocket`. */
  openSockets(peer: number, count: number): void
  closeSocket(base: Base): void
}
