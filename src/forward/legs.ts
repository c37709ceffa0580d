// The legs of an entry: several peers that each hold a flow to one WireGuard server, and which of them a datagram takes.
//
//   unproven ──(an initiation goes out, its answer comes back)──► proven
//       └──(three initiations for nothing)──► spent: the peer lets no more through
//
// Transport packets take the leg in use. Initiations take a leg that is not proven yet, because only the answer to one opens
// its flow; when that was for nothing, the next takes the leg in use. So spare legs are proven in passing, by handshakes
// that the client makes anyway. A server follows its client to whichever leg its packets come by.
//
// A packet that a server has seen before is dropped by it without a trace: a copy of one keeps spare legs from ending.

import { isTransport, TRANSPORT_OVERHEAD_BYTES } from '#wire/transport.ts'
import { WIREGUARD_HANDSHAKE } from '#wire/wireguard.ts'

const MAX_INITIATIONS = 3
/** WireGuard repeats an initiation after five seconds; one that comes later is a new beginning. */
const REPEATED_WITHIN_MS = 12_000
const REFRESH_MS = 60_000
const NO_LEGS: readonly Leg[] = []

export interface Leg {
  readonly session: number
  readonly flow: number
  isProven: boolean
  /** Initiations sent before the leg was proven. */
  initiations: number
}

export class Legs {
  #legs: Leg[] = []
  #inUse: Leg | undefined
  #initiatedMs = Number.NEGATIVE_INFINITY
  #unansweredSinceMs: number | undefined
  #refreshedMs = Number.NEGATIVE_INFINITY
  /** What the last datagram inward has changed. */
  readonly #before = { unansweredSinceMs: undefined as number | undefined, initiatedMs: Number.NEGATIVE_INFINITY }

  add(session: number, flow: number): Leg {
    this.remove(session)
    const leg: Leg = { session, flow, isProven: false, initiations: 0 }
    this.#legs.push(leg)
    return leg
  }

  remove(session: number): Leg | undefined {
    const leg = this.#legs.find(leg => leg.session === session)
    this.#legs = this.#legs.filter(other => other !== leg)
    if (leg === this.#inUse) this.#inUse = undefined
    return leg
  }

  /** Takes a leg into use; none when `session` is undefined or has none. */
  use(session: number | undefined): Leg | undefined {
    this.#inUse = this.#legs.find(leg => leg.session === session)
    this.#unansweredSinceMs = undefined
    return this.#inUse
  }

  get inUse(): Leg | undefined {
    return this.#inUse
  }

  get all(): readonly Leg[] {
    return this.#legs
  }

  /** The leg for a datagram to the server; undefined when no leg may carry it. */
  outward(buffer: Uint8Array, offset: number, length: number, now: number): Leg | undefined {
    const leg = this.#inUse
    if (leg === undefined) return undefined
    if (buffer[offset] === WIREGUARD_HANDSHAKE.initiation) return this.#forInitiation(leg, now)
    if (!leg.isProven) return this.#legs.find(other => other.isProven)
    if (isTransport(buffer, offset, length) && length > TRANSPORT_OVERHEAD_BYTES) this.#unansweredSinceMs ??= now
    return leg
  }

  /** A datagram of WireGuard's `type` came from the server by `leg`; whether that proves the leg. */
  inward(leg: Leg, type: number | undefined): boolean {
    this.#before.unansweredSinceMs = this.#unansweredSinceMs
    this.#before.initiatedMs = this.#initiatedMs
    if (leg === this.#inUse) this.#unansweredSinceMs = undefined
    const isAnswer = type === WIREGUARD_HANDSHAKE.response || type === WIREGUARD_HANDSHAKE.cookieReply
    if (type === WIREGUARD_HANDSHAKE.response) this.#initiatedMs = Number.NEGATIVE_INFINITY
    if (leg.isProven || !isAnswer) return false
    leg.isProven = true
    return true
  }

  /** The datagram of the last `inward` was not the server's: nothing has come. */
  retract(leg: Leg, wasProof: boolean): void {
    this.#unansweredSinceMs = this.#before.unansweredSinceMs
    this.#initiatedMs = this.#before.initiatedMs
    if (wasProof) leg.isProven = false
  }

  /** Proven spare legs that a copy of this transport packet is to take, once a minute. */
  refreshed(now: number): readonly Leg[] {
    if (now - this.#refreshedMs < REFRESH_MS) return NO_LEGS
    this.#refreshedMs = now
    return this.#legs.filter(leg => leg.isProven && leg !== this.#inUse)
  }

  /** How long data has gone out on the leg in use and nothing has come back; 0 when that is not so. */
  silentMs(now: number): number {
    return this.#unansweredSinceMs === undefined ? 0 : now - this.#unansweredSinceMs
  }

  #forInitiation(inUse: Leg, now: number): Leg | undefined {
    const isRepeated = now - this.#initiatedMs < REPEATED_WITHIN_MS
    this.#initiatedMs = now
    const open = this.#legs.filter(leg => leg.isProven || leg.initiations < MAX_INITIATIONS)
    const unproven = open.filter(leg => !leg.isProven).sort((a, b) => a.initiations - b.initiations)
    const prefersInUse = open.includes(inUse) && (isRepeated || !inUse.isProven)
    const chosen = prefersInUse ? inUse : (unproven[0] ?? open.find(leg => leg === inUse) ?? open[0])
    if (chosen !== undefined && !chosen.isProven) chosen.initiations++
    return chosen
  }
}

/** Whether no more initiations may be sent by a leg that was never answered. */
export function isSpent(leg: Leg): boolean {
  return !leg.isProven && leg.initiations >= MAX_INITIATIONS
}
