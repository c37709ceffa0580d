// Which relays to use: chosen at home from the whole directory, at random, weighted by capacity. Pure.
//
// No two hops share an operator, a family, an address, or a /16 (IPv6: /32). The exit is drawn first, then the guard, then
// the middles; a draw that leaves no way to finish is taken back, so a route is found whenever there is one.
//
// Peers, which lead to a WireGuard server, keep the same distance from each other. Each of them knows who its client is and
// which server he uses, so what a relay says of its capacity must not make it be drawn: every peer is as likely.

import type { Random } from '#crypto/random.ts'
import { parseIp } from '#wire/address.ts'
import type { PortRange, Role } from '#wire/descriptor.ts'
import type { RouteHop } from './way.ts'

/** What choosing needs to know of a relay. */
export interface Candidate extends RouteHop {
  readonly roles: readonly Role[]
  readonly family: readonly string[]
  readonly exitPorts: readonly PortRange[]
  readonly hasTunnel: boolean
  readonly capacityKbit: number
}

export interface ChooseOptions<T extends Candidate> {
  readonly relays: readonly T[]
  /** 1 to 5, the exit included. */
  readonly hopCount: number
  readonly random: Random
  /** Relays not to use, by id. */
  readonly avoid?: ReadonlySet<string>
  /** Guards to enter by, best first; any relay with that role when absent or none of them fits. */
  readonly guards?: readonly string[]
  /** Whether no other relay may be entered by. */
  readonly guardsOnly?: boolean
  /** The exit to use. */
  readonly exit?: string
  /** Whether the exit must carry IP packets. */
  readonly needsTunnel?: boolean
  /** Countries that the exit must claim one of; any without it. */
  readonly exitCountries?: ReadonlySet<string> | undefined
  /** Countries that the exit must not claim. */
  readonly notCountries?: ReadonlySet<string> | undefined
  /** Relays that know the client's address, by id: none of them is to be the exit. */
  readonly notExits?: ReadonlySet<string>
}

export type Chosen<T extends Candidate> =
  | { readonly hops: readonly T[]; readonly exit: T }
  | { readonly problem: string }

/** A draw is taken back at most this often before the search gives up. */
const MAX_STEPS = 20_000

/** Chooses the hops of a route; says what is missing when there are none. */
export function chooseRoute<T extends Candidate>(options: ChooseOptions<T>): Chosen<T> {
  const { hopCount, random, avoid = new Set<string>() } = options
  const usable: readonly T[] = options.relays.filter(relay => !avoid.has(relay.id))
  const guards = options.guards ?? []
  const roles: Role[] = [
    'exit',
    ...(hopCount > 1 ? ['guard' as const] : []),
    ...new Array<Role>(Math.max(0, hopCount - 2)).fill('middle'),
  ]
  const pools: { role: Role; order: T[] }[] = roles.map(role => {
    const pool = usable.filter(relay => relay.roles.includes(role) && (role !== 'exit' || isExitFor(options, relay)))
    return { role, order: weightedOrder(pool, random) }
  })
  const [exitPool, guardPool] = pools
  if (exitPool !== undefined) exitPool.order = leaveGuards(exitPool.order, guards)
  if (guardPool !== undefined && hopCount > 1) {
    guardPool.order = preferGuards(guardPool.order, guards, options.guardsOnly ?? false)
  }
  for (const { role, order } of pools)
    if (order.length === 0) {
      return { problem: `no usable relay has the role ${role}${role === 'exit' ? lackOf(options) : ''}` }
    }

  const picked = pickUnrelated(pools.map(({ order }) => order))
  if (picked.length < pools.length) {
    const operators = new Set(usable.map(relay => relay.operator)).size
    return {
      problem: `no ${hopCount} usable relays of different operators and networks: ${usable.length} relays of ${operators} operators known`,
    }
  }
  const [exit, ...before] = picked as [T, ...T[]]
  return { hops: before, exit }
}

function lackOf<T extends Candidate>({ needsTunnel, exitCountries, notCountries }: ChooseOptions<T>): string {
  const where = exitCountries !== undefined || (notCountries?.size ?? 0) > 0 ? ' in a country that is wanted' : ''
  return `${needsTunnel ? ' with a tunnel' : ''}${where}`
}

function isExitFor<T extends Candidate>(options: ChooseOptions<T>, relay: T): boolean {
  const { exit, needsTunnel, notExits, exitCountries, notCountries } = options
  const { id, hasTunnel, country = '' } = relay
  return (
    (exit === undefined || id === exit) &&
    (!needsTunnel || hasTunnel) &&
    !notExits?.has(id) &&
    (exitCountries === undefined || exitCountries.has(country)) &&
    !notCountries?.has(country)
  )
}

export interface ChoosePeersOptions<T extends Candidate> {
  readonly relays: readonly T[]
  /** How many are wanted; there may be fewer. */
  readonly count: number
  readonly random: Random
  /** Relays not to use, by id. */
  readonly avoid?: ReadonlySet<string>
  /** Relays that no peer may be related to: those in use already, and the client's own. */
  readonly apartFrom?: readonly Candidate[]
  /** IP addresses that no peer may share a network with: the client's own, and the server's. */
  readonly outsideOf?: readonly string[]
}

/** Chooses peers, no two of them related, in random order; as many as there are when `count` cannot be had. */
export function choosePeers<T extends Candidate>(options: ChoosePeersOptions<T>): readonly T[] {
  const { relays, count, random, avoid, apartFrom = [], outsideOf = [] } = options
  const networks = new Set(outsideOf.map(networkOf))
  const pool = relays.filter(
    relay =>
      relay.roles.includes('peer') &&
      !avoid?.has(relay.id) &&
      !networks.has(networkOf(relay.address.host)) &&
      !apartFrom.some(other => areRelated(relay, other)),
  )
  const order = weightedOrder(pool, random, () => 1)
  return pickUnrelated(new Array<readonly T[]>(count).fill(order))
}

/** Whether one party may stand behind both relays. */
export function areRelated(a: Candidate, b: Candidate): boolean {
  return (
    a.id === b.id ||
    a.operator.toLowerCase() === b.operator.toLowerCase() ||
    a.family.includes(b.id) ||
    b.family.includes(a.id) ||
    networkOf(a.address.host) === networkOf(b.address.host)
  )
}

/** The /16 of an IPv4 address or the /32 of an IPv6 one. */
function networkOf(host: string): string {
  const ip = parseIp(host) ?? new Uint8Array(0)
  return `${ip.length}:${ip.subarray(0, ip.length === 4 ? 2 : 4).join('.')}`
}

/** One relay of each pool, no two related, the first that fit; the longest that was found when there is none of each. */
function pickUnrelated<T extends Candidate>(pools: readonly (readonly T[])[]): readonly T[] {
  let steps = 0
  let longest: readonly T[] = []
  const picked: T[] = []
  const search = (position: number): boolean => {
    if (picked.length > longest.length) longest = [...picked]
    const pool = pools[position]
    if (pool === undefined) return true
    for (const relay of pool) {
      if (++steps > MAX_STEPS) return false
      if (picked.some(other => areRelated(relay, other))) continue
      picked.push(relay)
      if (search(position + 1)) return true
      picked.pop()
    }
    return false
  }
  search(0)
  return longest
}

const byCapacity = ({ capacityKbit }: Candidate) => Math.max(capacityKbit, 1)

/** All of `pool` in random order, the heavier the earlier (A-Res: keys u^(1/weight), largest first). */
function weightedOrder<T extends Candidate>(pool: readonly T[], random: Random, weigh = byCapacity): T[] {
  return pool
    .map(relay => ({ relay, key: Math.log(unit(random)) / weigh(relay) }))
    .sort((a, b) => b.key - a.key)
    .map(({ relay }) => relay)
}

function preferGuards<T extends Candidate>(order: readonly T[], guards: readonly string[], only: boolean): T[] {
  const preferred = guards.flatMap(id => order.find(relay => relay.id === id) ?? [])
  if (only) return preferred
  // Who is entered by is no exit for this client from then on: rather a relay that is none anyway.
  const others = order.filter(relay => !guards.includes(relay.id))
  const isExit = (relay: T) => relay.roles.includes('exit')
  return [...preferred, ...others.filter(relay => !isExit(relay)), ...others.filter(isExit)]
}

/** A guard knows the client's address: as an exit it is the last choice. */
function leaveGuards<T extends Candidate>(order: readonly T[], guards: readonly string[]): T[] {
  const isGuard = (relay: T) => guards.includes(relay.id)
  return [...order.filter(relay => !isGuard(relay)), ...order.filter(isGuard)]
}

/** A number above 0 and below 1. */
function unit(random: Random): number {
  return (Buffer.from(random(6)).readUIntBE(0, 6) + 1) / (2 ** 48 + 1)
}
