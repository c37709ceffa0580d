// Which relays to use: chosen at home from the whole directory, at random, weighted by capacity. Pure.
//
// No two hops share an operator, a family, an address, or a /16 (IPv6: /32). The exit is drawn first, then the guard, then
// the middles; a draw that leaves no way to finish is taken back, so a route is found whenever there is one.

import type { Random } from '#crypto/random.ts'
import { parseIp } from '#wire/address.ts'
import type { PortRange, Role } from '#wire/descriptor.ts'
import type { RouteHop } from './way.ts'

/** What choosing needs to know of a relay. */
export interface Candidate extends RouteHop {
  readonly roles: readonly Role[]
  readonly family: readonly string[]
  readonly exitPorts: readonly PortRange[]
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
    const pool = usable.filter(
      relay => relay.roles.includes(role) && (role !== 'exit' || !options.exit || relay.id === options.exit),
    )
    return { role, order: weightedOrder(pool, random) }
  })
  const [exitPool, guardPool] = pools
  if (exitPool !== undefined) exitPool.order = leaveGuards(exitPool.order, guards)
  if (guardPool !== undefined && hopCount > 1) {
    guardPool.order = preferGuards(guardPool.order, guards, options.guardsOnly ?? false)
  }
  for (const { role, order } of pools)
    if (order.length === 0) return { problem: `no usable relay has the role ${role}` }

  let steps = 0
  const picked: T[] = []
  const search = (position: number): boolean => {
    const pool = pools[position]
    if (pool === undefined) return true
    for (const relay of pool.order) {
      if (++steps > MAX_STEPS) return false
      if (picked.some(other => areRelated(relay, other))) continue
      picked.push(relay)
      if (search(position + 1)) return true
      picked.pop()
    }
    return false
  }
  if (!search(0)) {
    const operators = new Set(usable.map(relay => relay.operator)).size
    return {
      problem: `no ${hopCount} usable relays of different operators and networks: ${usable.length} relays of ${operators} operators known`,
    }
  }
  const [exit, ...before] = picked as [T, ...T[]]
  return { hops: before, exit }
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

/** All of `pool` in random order, the larger the earlier (A-Res: keys u^(1/weight), largest first). */
function weightedOrder<T extends Candidate>(pool: readonly T[], random: Random): T[] {
  return pool
    .map(relay => ({ relay, key: Math.log(unit(random)) / Math.max(relay.capacityKbit, 1) }))
    .sort((a, b) => b.key - a.key)
    .map(({ relay }) => relay)
}

function preferGuards<T extends Candidate>(order: readonly T[], guards: readonly string[], only: boolean): T[] {
  const preferred = guards.flatMap(id => order.find(relay => relay.id === id) ?? [])
  return only ? preferred : [...preferred, ...order.filter(relay => !guards.includes(relay.id))]
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
