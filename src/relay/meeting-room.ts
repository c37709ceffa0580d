// Where two clients of a relay meet: each shows the same random token and asks that its flow be joined to the other's. The relay
// knows neither of them, nor what they say: they have the token from each other, by a letter. A pure machine.
//
//   (no flow) ──first with the token──► one waits ──second──► joined ──one leaves──► one waits ──leaves──► (no flow)
//
// A third that shows the token is refused, and so is a session that meets itself. A token that nobody shows is like any other:
// whoever guesses waits alone, and is told nothing.
//
// Bounds: flows of all clients, of one session, of one address (IPv6: /64), and how many are begun in a minute. Nothing goes for
// something new: what waits or is joined stays until it is idle (the data plane sweeps it) or its session ends.

import type { MeetingEnd } from '#forward/commands.ts'
import { REFUSAL, type Refusal } from '#wire/control.ts'
import { type Asker, originOf } from './wireguard-gate.ts'

const MAX_FLOWS_PER_SESSION = 8
const MINUTE_MS = 60_000
const MAX_BEGUN_PER_ORIGIN = 60

export interface MeetingLimits {
  /** Flows that wait or are joined, of all clients. */
  readonly maxFlows: number
  /** What one flow may send; the rest is dropped. */
  readonly bytesPerSecond: number
}

interface Guest extends MeetingEnd {
  readonly token: string
  readonly host: string
  readonly origin: string
}

export class MeetingRoom {
  readonly #limits: MeetingLimits
  /** One or two guests by the token that they showed. */
  readonly #byToken = new Map<string, readonly Guest[]>()
  readonly #guests = new Map<string, Guest>()
  readonly #origins = new Map<string, number>()
  #begun = new Map<string, number>()
  #begunSinceMs = Number.NEGATIVE_INFINITY

  constructor(limits: MeetingLimits) {
    this.#limits = limits
  }

  get bytesPerSecond(): number {
    return this.#limits.bytesPerSecond
  }

  /** Flows that wait or are joined. */
  get size(): number {
    return this.#guests.size
  }

  /** Lets a flow wait for the token's other one, or names it when it is there; or says why not. */
  enter(
    { session, host }: Asker,
    flow: number,
    token: Uint8Array,
    now: number,
  ): { readonly other: MeetingEnd | undefined } | { readonly refusal: Refusal } {
    const guest: Guest = { session, flow, token: Buffer.from(token).toString('latin1'), host, origin: originOf(host) }
    if (!this.#countBegun(guest.origin, now)) return { refusal: REFUSAL.tooMany }
    const present = this.#byToken.get(guest.token) ?? []
    const [other] = present
    if (present.length > 1 || other?.session === session) return { refusal: REFUSAL.notAllowed }
    if (!this.#hasRoom(guest)) return { refusal: REFUSAL.tooMany }
    this.#byToken.set(guest.token, [...present, guest])
    this.#guests.set(keyOf(guest), guest)
    this.#origins.set(guest.origin, (this.#origins.get(guest.origin) ?? 0) + 1)
    return { other: other && { session: other.session, flow: other.flow } }
  }

  /** Where the client is seen whose flow is joined to this one. */
  hostOfOther(session: number, flow: number): string | undefined {
    const guest = this.#guests.get(keyOf({ session, flow }))
    return guest && this.#byToken.get(guest.token)?.find(other => other !== guest)?.host
  }

  /** A flow ended; of those that did not enter nothing is known. */
  leave(session: number, flow: number): void {
    const guest = this.#guests.get(keyOf({ session, flow }))
    if (guest === undefined) return
    this.#guests.delete(keyOf(guest))
    const left = (this.#byToken.get(guest.token) ?? []).filter(each => each !== guest)
    if (left.length > 0) this.#byToken.set(guest.token, left)
    else this.#byToken.delete(guest.token)
    const ofOrigin = (this.#origins.get(guest.origin) ?? 1) - 1
    if (ofOrigin > 0) this.#origins.set(guest.origin, ofOrigin)
    else this.#origins.delete(guest.origin)
  }

  /** Whether nobody else can wait here. */
  get isFull(): boolean {
    return this.#guests.size >= this.#limits.maxFlows
  }

  #hasRoom({ session, origin }: Guest): boolean {
    const { maxFlows } = this.#limits
    if (this.isFull) return false
    // Whoever makes session after session does not take every place.
    if ((this.#origins.get(origin) ?? 0) >= Math.ceil(maxFlows / 4)) return false
    let ofSession = 0
    for (const guest of this.#guests.values()) if (guest.session === session) ofSession++
    return ofSession < MAX_FLOWS_PER_SESSION
  }

  /** The map has at most one entry for each flow that was asked for in a minute, which handshakes bound. */
  #countBegun(origin: string, now: number): boolean {
    if (now - this.#begunSinceMs >= MINUTE_MS) {
      this.#begun = new Map()
      this.#begunSinceMs = now
    }
    const begun = (this.#begun.get(origin) ?? 0) + 1
    if (begun > MAX_BEGUN_PER_ORIGIN || (begun === 1 && this.#begun.size >= this.#limits.maxFlows * 4)) return false
    this.#begun.set(origin, begun)
    return true
  }
}

function keyOf({ session, flow }: MeetingEnd): string {
  return `${session} ${flow}`
}
