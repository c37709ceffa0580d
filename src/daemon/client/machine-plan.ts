// What `up --tun` is asked for: who and what goes through the route, and what stays within reach beside it.

import { execFileSync } from 'node:child_process'
import { HopliteError } from '#api/errors.ts'
import type { ClientOrder } from '#platform/linux/helper/helper-order.ts'
import {
  checkCgroup,
  EVERYTHING,
  LAN_RANGES,
  type LanRange,
  type Split,
} from '#platform/linux/network/client-options.ts'
import { formatUsers, parseNetwork, type UserRange } from '#platform/linux/network/networks.ts'
import { TUNNEL_RESOLVER } from '#wire/tunnel-addresses.ts'
import { CLIENT_ADDRESSES } from './tunnel-flow.ts'

/** The words of the command line. */
export interface MachineFlags {
  /** Networks that go around the route. */
  readonly exclude?: readonly string[]
  readonly excludeUser?: readonly string[]
  readonly excludeCgroup?: readonly string[]
  /** The only networks that go through it. */
  readonly only?: readonly string[]
  readonly onlyUser?: readonly string[]
  readonly onlyCgroup?: readonly string[]
  /** Of `LAN_RANGES`, or `all`. */
  readonly lan?: readonly string[]
  readonly killSwitch: boolean
  /** A device of one's own, by its name or id, that everything goes through in place of a route. */
  readonly via?: string
}

export interface MachinePlan {
  /** Networks that belong to the route. */
  readonly routes: readonly string[]
  readonly split: Split
  readonly lan: readonly LanRange[]
  readonly killSwitch: boolean
  readonly via?: string
}

/** Reads the flags. Throws REQUEST_INVALID. */
export function planMachine(flags: MachineFlags): MachinePlan {
  return {
    routes: flags.only?.map(readNetwork) ?? EVERYTHING,
    split: {
      excludeNetworks: (flags.exclude ?? []).map(readNetwork),
      excludeUsers: (flags.excludeUser ?? []).map(readUsers),
      excludeCgroups: (flags.excludeCgroup ?? []).map(readCgroup),
      onlyUsers: (flags.onlyUser ?? []).map(readUsers),
      onlyCgroups: (flags.onlyCgroup ?? []).map(readCgroup),
    },
    lan: (flags.lan ?? []).flatMap(readRange),
    killSwitch: flags.killSwitch,
    ...(flags.via !== undefined && { via: flags.via }),
  }
}

/** What changes the machine is told of a plan. */
export function machineOrder({ routes, split, lan, killSwitch }: MachinePlan): ClientOrder {
  return {
    kind: 'client',
    name: 'hoplite0',
    addresses: CLIENT_ADDRESSES,
    dnsServers: [TUNNEL_RESOLVER],
    dnsSearch: [],
    routes,
    killSwitch,
    lan,
    split,
  }
}

/** The same plan as words for another process. */
export function machineWords({ routes, split, lan, killSwitch, via }: MachinePlan): string[] {
  const words = (flag: string, values: readonly string[] = []) => (values.length === 0 ? [] : [flag, ...values])
  return [
    ...words('--only', routes === EVERYTHING ? [] : routes),
    ...words('--exclude', split.excludeNetworks),
    ...words('--exclude-user', split.excludeUsers?.map(formatUsers)),
    ...words('--exclude-cgroup', split.excludeCgroups),
    ...words('--only-user', split.onlyUsers?.map(formatUsers)),
    ...words('--only-cgroup', split.onlyCgroups),
    ...words('--lan', lan),
    ...(killSwitch ? [] : ['--no-kill-switch']),
    ...(via === undefined ? [] : ['--via', via]),
  ]
}

function readNetwork(text: string): string {
  try {
    const { address, bits } = parseNetwork(text)
    return `${address}/${bits}`
  } catch {
    throw invalid(`found the network "${text}"`, 'write it like 203.0.113.0/24 or 2001:db8::/32')
  }
}

/** A name, a number, or the first and the last of a range. */
function readUsers(text: string): UserRange {
  const [, from, to = from] = /^([0-9]{1,10})(?:-([0-9]{1,10}))?$/.exec(text) ?? []
  const found = from === undefined ? idOf(text) : { from: Number(from), to: Number(to) }
  try {
    formatUsers(found)
    return found
  } catch {
    throw invalid(`found the user "${text}"`, 'write a name, a number, or a range like 1000-1999')
  }
}

function idOf(name: string): UserRange {
  try {
    const id = Number(execFileSync('id', ['-u', '--', name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))
    return { from: id, to: id }
  } catch {
    throw invalid(`there is no user "${name}"`, 'write a name, a number, or a range like 1000-1999')
  }
}

function readCgroup(text: string): string {
  const path = text.replace(/^\/+|\/+$/g, '')
  try {
    checkCgroup(path)
    return path
  } catch {
    throw invalid(`found the cgroup "${text}"`, 'write its path below /sys/fs/cgroup, like user.slice/direct')
  }
}

function readRange(text: string): readonly LanRange[] {
  if (text === 'all') return LAN_RANGES
  const found = LAN_RANGES.find(range => range === text.toLowerCase())
  if (found !== undefined) return [found]
  throw invalid(`found the LAN range "${text}"`, `choose of these, or "all": ${LAN_RANGES.join(' ')}`)
}

function invalid(what: string, advice: string): HopliteError {
  return new HopliteError('REQUEST_INVALID', `read the flags: ${what}`, advice)
}
