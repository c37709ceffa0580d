// What a peer lends to others' WireGuard tunnels: which servers, how many at once, how much in a day, at which hours.
// A pure machine; the rate is kept by the data plane, and that the far end is a WireGuard server is proven there
// (forward/flow-proof.ts).

import { type Address, formatAddress, parseIp } from '#wire/address.ts'
import { REFUSAL, type Refusal } from '#wire/control.ts'

const MINUTE_MS = 60_000
const DAY_MS = 86_400_000
/** Flows of all clients to one server. */
const MAX_FLOWS_PER_TARGET = 256
/** Flows opened in a minute: each may send three initiations to somebody who did not ask for them. */
const MAX_OPENS_PER_SESSION = 12
const MAX_OPENS_PER_TARGET = 120
const MAX_OPENS = 4_096

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

/** Who asks: a session, and the IP address that it was begun from. */
export interface Asker {
  readonly session: number
  readonly host: string
}

interface Client {
  readonly origin: string
  flows: number
}

interface Flow {
  readonly session: number
  readonly flow: number
  readonly target: string
}

/** Why nothing is carried now; undefined while it is. */
export type Closed = 'volume' | 'hours' | undefined

/** Why a flow was not admitted. */
export type RefusedOpen =
  | 'address'
  | 'volume'
  | 'hours'
  | 'clients'
  | 'clientsOfAddress'
  | 'flowsOfClient'
  | 'flowsOfServer'
  | 'opens'

/** What was carried on a day. */
export interface DayUsage {
  /** As `2027-01-31`, where the operator lives. */
  readonly day: string
  readonly bytes: number
}

export class WireGuardGate {
  readonly #options: WireGuardGateOptions
  #limits: WireGuardLimits
  readonly #flows = new Map<string, Flow>()
  readonly #clients = new Map<number, Client>()
  /** Clients by where they come from. */
  readonly #origins = new Map<string, number>()
  readonly #targets = new Map<string, number>()
  /** Opens of this minute by session and by target: at most twice as many entries as opens. */
  #opens = new Map<string | number, number>()
  #openCount = 0
  #opensSinceMs = Number.NEGATIVE_INFINITY
  #day: string
  #carried: number
  /** How many flows were not admitted, by the reason. */
  readonly refused = new Map<RefusedOpen, number>()

  /** @param carried what an earlier run carried */
  constructor(options: WireGuardGateOptions, now: number, carried?: DayUsage) {
    this.#options = options
    this.#limits = options.limits
    this.#day = options.calendar(now).day
    this.#carried = carried?.day === this.#day ? carried.bytes : 0
  }

  /** What is lent from now on; clients that are here stay, even if they are more. */
  relimit(limits: WireGuardLimits): void {
    this.#limits = limits
  }

  get clients(): number {
    return this.#clients.size
  }

  get flows(): number {
    return this.#flows.size
  }

  /** What was carried on the day of the last call of `handleCarried`. */
  get carried(): DayUsage {
    return { day: this.#day, bytes: this.#carried }
  }

  /** Admits a flow to a server, or says why not. */
  admit(asker: Asker, flow: number, address: Address, now: number): Refusal | undefined {
    return this.#options.mayReach(address) ? this.admitHop(asker, flow, address, now) : this.#refuse('address')
  }

  /** The same for a flow to another hop, whose address the caller has allowed. */
  admitHop({ session, host }: Asker, flow: number, address: Address, now: number): Refusal | undefined {
    const limits = this.#limits
    const target = formatAddress(address)
    const closed = this.closed(now)
    if (closed !== undefined) return this.#refuse(closed)
    const client = this.#clients.get(session) ?? { origin: originOf(host), flows: 0 }
    const isNew = client.flows === 0
    if (isNew && this.#clients.size >= limits.maxClients) return this.#refuse('clients')
    // Whoever makes session after session does not take every place.
    const ofOrigin = this.#origins.get(client.origin) ?? 0
    if (isNew && ofOrigin >= Math.ceil(limits.maxClients / 2)) return this.#refuse('clientsOfAddress')
    if (client.flows >= limits.maxFlowsPerClient) return this.#refuse('flowsOfClient')
    if ((this.#targets.get(target) ?? 0) >= MAX_FLOWS_PER_TARGET) return this.#refuse('flowsOfServer')
    if (!this.#countOpen(session, target, now)) return this.#refuse('opens')
    this.#flows.set(keyOf(session, flow), { session, flow, target })
    client.flows++
    this.#clients.set(session, client)
    if (isNew) this.#origins.set(client.origin, ofOrigin + 1)
    this.#targets.set(target, (this.#targets.get(target) ?? 0) + 1)
    return undefined
  }

  /** A flow ended; of those that were not admitted here nothing is known. */
  release(session: number, flow: number): void {
    const key = keyOf(session, flow)
    const entry = this.#flows.get(key)
    if (entry === undefined) return
    this.#flows.delete(key)
    decrease(this.#targets, entry.target)
    const client = this.#clients.get(session)
    if (client === undefined || --client.flows > 0) return
    this.#clients.delete(session)
    decrease(this.#origins, client.origin)
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
    const { calendar } = this.#options
    const limits = this.#limits
    const { hour, day } = calendar(now)
    if (day === this.#day && this.#carried >= limits.bytesPerDay) return 'volume'
    return limits.hours === undefined || isWithin(hour, limits.hours) ? undefined : 'hours'
  }

  /** Every flow that was admitted and not released. */
  all(): { readonly session: number; readonly flow: number }[] {
    return [...this.#flows.values()].map(({ session, flow }) => ({ session, flow }))
  }

  #countOpen(session: number, target: string, now: number): boolean {
    if (now - this.#opensSinceMs >= MINUTE_MS) {
      this.#opens = new Map()
      this.#openCount = 0
      this.#opensSinceMs = now
    }
    if (this.#openCount >= Math.min(MAX_OPENS, this.#limits.maxClients * MAX_OPENS_PER_SESSION)) return false
    const bySession = (this.#opens.get(session) ?? 0) + 1
    const byTarget = (this.#opens.get(target) ?? 0) + 1
    if (bySession > MAX_OPENS_PER_SESSION || byTarget > MAX_OPENS_PER_TARGET) return false
    this.#opens.set(session, bySession)
    this.#opens.set(target, byTarget)
    this.#openCount++
    return true
  }

  #refuse(reason: RefusedOpen): Refusal {
    this.refused.set(reason, (this.refused.get(reason) ?? 0) + 1)
    return reason === 'address' ? REFUSAL.notAllowed : REFUSAL.tooMany
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

/** An IPv4 address, or the /64 of an IPv6 one: what one subscriber has. */
export function originOf(host: string): string {
  const ip = parseIp(host)
  return ip?.length === 16 ? ip.subarray(0, 8).join(':') : host
}

function keyOf(session: number, flow: number): string {
  return `${session}/${flow}`
}

function decrease<K>(counts: Map<K, number>, key: K): void {
  const left = (counts.get(key) ?? 1) - 1
  if (left > 0) counts.set(key, left)
  else counts.delete(key)
}
