// What a peer lends to others' WireGuard tunnels: which servers, how many at once, how much in a day, at which hours.
// A pure machine; the rate is kept by the data plane, and that the far end is a WireGuard server is proven there
// (forward/flow-proof.ts).

import { type Address, formatAddress } from '#wire/address.ts'
import { REFUSAL, type Refusal } from '#wire/control.ts'

const MINUTE_MS = 60_000
const DAY_MS = 86_400_000
/** Flows of all clients to one server. */
const MAX_FLOWS_PER_TARGET = 256
/** Flows opened in a minute: each may send three initiations to somebody who did not ask for them. */
const MAX_OPENS_PER_SESSION = 12
const MAX_OPENS_PER_TARGET = 120
const MAX_TARGETS = 4_096

/** Whole hours of the day, local time: from the first up to the last, which may lie behind midnight. */
export interface Hours {
  readonly from: number
  readonly to: number
}

export interface WireGuardLimits {
  /** Clients with a flow at one time. */
  readonly maxClients: number
  readonly maxFlowsPerClient: number
  /** Both directions together; Infinity for no limit. */
  readonly bytesPerDay: number
  /** When flows are carried; always when undefined. */
  readonly hours?: Hours
}

export interface WireGuardGateOptions {
  readonly limits: WireGuardLimits
  /** Whether this address may be reached at all: public, and not one of our own. */
  readonly mayReach: (address: Address) => boolean
  /** The hour and the day of `now`, where the operator lives. */
  readonly calendar: (now: number) => { readonly hour: number; readonly day: string }
}

interface Flow {
  readonly session: number
  readonly flow: number
  readonly target: string
}

/** Why nothing is carried now; undefined while it is. */
export type Closed = 'volume' | 'hours' | undefined

export class WireGuardGate {
  readonly #options: WireGuardGateOptions
  readonly #flows = new Map<string, Flow>()
  readonly #clients = new Map<number, number>()
  readonly #targets = new Map<string, number>()
  #opens = new Map<string | number, number>()
  #opensSinceMs = Number.NEGATIVE_INFINITY
  #day: string
  #carried: number

  /** @param carried bytes that were carried already on `day` */
  constructor(options: WireGuardGateOptions, now: number, carried?: { readonly day: string; readonly bytes: number }) {
    this.#options = options
    this.#day = options.calendar(now).day
    this.#carried = carried?.day === this.#day ? carried.bytes : 0
  }

  get clients(): number {
    return this.#clients.size
  }

  get flows(): number {
    return this.#flows.size
  }

  /** What was carried today. */
  get carried(): { readonly day: string; readonly bytes: number } {
    return { day: this.#day, bytes: this.#carried }
  }

  /** Admits a flow of a session to a server, or says why not. */
  admit(session: number, flow: number, address: Address, now: number): Refusal | undefined {
    const { limits, mayReach } = this.#options
    const target = formatAddress(address)
    if (!mayReach(address)) return REFUSAL.notAllowed
    if (this.closed(now) !== undefined) return REFUSAL.tooMany
    const ofClient = this.#clients.get(session) ?? 0
    if (ofClient === 0 && this.#clients.size >= limits.maxClients) return REFUSAL.tooMany
    if (ofClient >= limits.maxFlowsPerClient) return REFUSAL.tooMany
    if ((this.#targets.get(target) ?? 0) >= MAX_FLOWS_PER_TARGET) return REFUSAL.tooMany
    if (!this.#countOpen(session, target, now)) return REFUSAL.tooMany
    this.#flows.set(keyOf(session, flow), { session, flow, target })
    this.#clients.set(session, ofClient + 1)
    this.#targets.set(target, (this.#targets.get(target) ?? 0) + 1)
    return undefined
  }

  /** A flow ended; of those that were not admitted here nothing is known. */
  release(session: number, flow: number): void {
    const key = keyOf(session, flow)
    const entry = this.#flows.get(key)
    if (entry === undefined) return
    this.#flows.delete(key)
    decrease(this.#clients, session)
    decrease(this.#targets, entry.target)
  }

  /** Bytes were carried since the last call. */
  handleCarried(bytes: number, now: number): void {
    const { day } = this.#options.calendar(now)
    if (day !== this.#day) this.#carried = 0
    this.#day = day
    this.#carried += bytes
  }

  /** Why nothing is carried at `now`. */
  closed(now: number): Closed {
    const { limits, calendar } = this.#options
    const { hour, day } = calendar(now)
    if (day === this.#day && this.#carried >= limits.bytesPerDay) return 'volume'
    return limits.hours === undefined || isWithin(hour, limits.hours) ? undefined : 'hours'
  }

  /** Every flow that was admitted and not released. */
  all(): { readonly session: number; readonly flow: number }[] {
    return [...this.#flows.values()].map(({ session, flow }) => ({ session, flow }))
  }

  #countOpen(session: number, target: string, now: number): boolean {
    if (now - this.#opensSinceMs >= MINUTE_MS || this.#opens.size > MAX_TARGETS) {
      this.#opens = new Map()
      this.#opensSinceMs = now
    }
    const bySession = (this.#opens.get(session) ?? 0) + 1
    const byTarget = (this.#opens.get(target) ?? 0) + 1
    if (bySession > MAX_OPENS_PER_SESSION || byTarget > MAX_OPENS_PER_TARGET) return false
    this.#opens.set(session, bySession)
    this.#opens.set(target, byTarget)
    return true
  }
}

/** The hour and day at a place that is `offsetMs` ahead of UTC, when `now` is Unix time. */
export function calendarAt(offsetMs: number): WireGuardGateOptions['calendar'] {
  return now => {
    const local = now + offsetMs
    return { hour: Math.floor((local % DAY_MS) / 3_600_000), day: new Date(local).toISOString().slice(0, 10) }
  }
}

function isWithin(hour: number, { from, to }: Hours): boolean {
  return from <= to ? hour >= from && hour < to : hour >= from || hour < to
}

function keyOf(session: number, flow: number): string {
  return `${session}/${flow}`
}

function decrease<K>(counts: Map<K, number>, key: K): void {
  const left = (counts.get(key) ?? 1) - 1
  if (left > 0) counts.set(key, left)
  else counts.delete(key)
}
