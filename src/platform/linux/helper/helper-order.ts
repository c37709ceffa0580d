// What the helper is told: by root, once and before anything else, its order; by the daemon, requests of a fixed list.
//
// The order has everything that is known beforehand: whose machine goes where, what is denied, which commands a file has. A
// request has only what the network tells: addresses of relays, a size. It has no command, path, rule or name, so whoever
// owns the daemon can say no more than these verbs.
//
// A request is a line of JSON, at most `MAX_LINE_BYTES` long. Unknown fields, other types and values out of range are refused.

import type { WgQuickHook } from '#wire/wg-quick.ts'
import type { LanRange, Split } from '../network/client-options.ts'
import type { OperatorRule } from '../network/exit-network.ts'
import {
  checkEndpoint,
  checkInteger,
  type Endpoint,
  type Family,
  familyOf,
  formatNetwork,
  parseInterface,
  parseNetwork,
} from '../network/networks.ts'

/** 1024 endpoints of IPv6, and then some. */
export const MAX_LINE_BYTES = 256 * 1024
export const MAX_ENDPOINTS = 1024
export const MAX_QUEUES = 64
/** Of all the peers of a file. */
const MAX_ROUTES = 8_192
const DOMAIN =
  /^(?=.{1,254}$)~?(\.|[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?)$/

export interface ClientOrder {
  readonly kind: 'client'
  readonly name: string
  /** Addresses with prefix lengths. */
  readonly addresses: readonly string[]
  readonly dnsServers: readonly string[]
  readonly dnsSearch: readonly string[]
  /** Networks that go through the tunnel. */
  readonly routes: readonly string[]
  readonly killSwitch: boolean
  readonly lan: readonly LanRange[]
  readonly split: Split
  /** Of `routes`, what the tunnel does not carry. */
  readonly refused?: readonly string[]
  /** One's own devices: the interface that leads to them, by default this tunnel's, and their networks. */
  readonly devices?: { readonly interface?: string; readonly networks: readonly string[] }
}

export interface ExitOrder {
  readonly kind: 'exit'
  readonly name: string
  readonly addresses: readonly string[]
  readonly denied: readonly string[]
  readonly rules: readonly OperatorRule[]
  readonly allowed: readonly Endpoint[]
  readonly resolver: { readonly address: string; readonly servers: readonly string[] }
}

const HOOK_MOMENTS = ['PreUp', 'PostUp', 'PreDown', 'PostDown'] as const satisfies WgQuickHook['when'][]

/** The network of one's devices: what may be an address in it. */
export interface MeshOrder {
  readonly network: string
  readonly ipv4: string
  /** The domain of the devices' names. */
  readonly zone: string
  /** What is not the internet, where a device offers that. */
  readonly denied: readonly string[]
  /** The interface's name, if it matters. */
  readonly interface?: string
}

/** What one device may reach behind this one. */
export interface MeshGrant {
  readonly addresses: readonly string[]
  readonly networks: readonly string[]
  /** What it reaches through the interface itself: other devices, or networks behind them. */
  readonly onward: readonly string[]
  readonly internet: boolean
}

export interface HelperOrder {
  readonly tunnel?: ClientOrder | ExitOrder
  readonly mesh?: MeshOrder
  /** Where the journal is: a directory of this user alone. */
  readonly journal: string
  /** The user that the daemon runs as. */
  readonly uid: number
  /** The commands of a WireGuard file that its user wants run. */
  readonly hooks: readonly WgQuickHook[]
  /** Whether a person may start the tunnel of a VPN of his from the daemon's page. */
  readonly mayEnter?: boolean
}

export type HelperRequest =
  /** The daemon's loop turns: who has said so once and is silent for half a minute is ended, and started again. */
  | { readonly verb: 'alive' }
  /** Makes the TUN and changes the network, in the place of an earlier tunnel. Gives `queues` descriptors. */
  | { readonly verb: 'open'; readonly mtu: number; readonly queues: number; readonly control: readonly Endpoint[] }
  /** Gives a UDP socket with large buffers and, for a client, the mark. */
  | { readonly verb: 'socket'; readonly family: 4 | 6 }
  /** Lets marked sockets send to these and no others. */
  | { readonly verb: 'relays'; readonly relays: readonly Endpoint[] }
  /** Lets the daemon's user connect to these and no others, around the tunnel. */
  | { readonly verb: 'control'; readonly control: readonly Endpoint[] }
  /** Lets the links to one's devices speak to these hosts and no others. */
  | { readonly verb: 'links'; readonly hosts: readonly string[] }
  | { readonly verb: 'mtu'; readonly mtu: number }
  /** Ends TCP connections from the tunnel's addresses. */
  | { readonly verb: 'reset' }
  /** Puts the network back as it was. */
  | { readonly verb: 'restore' }
  /** Runs the commands of one moment. */
  | { readonly verb: 'hooks'; readonly when: WgQuickHook['when'] }
  /** Gives a socket that listens where wg(8) looks for the tunnel. */
  | { readonly verb: 'wg' }
  /** Makes the interface of one's devices. Gives its descriptor. */
  | { readonly verb: 'openMesh'; readonly ipv6: string; readonly ipv4: string | null }
  /** These IPv4 addresses, and no others, lead into it. */
  | { readonly verb: 'meshRoutes'; readonly ipv4: readonly string[] }
  /** Gives sockets for questions at the interface's own addresses, and tells the system of it. */
  | { readonly verb: 'meshNames' }
  /** Devices reach this behind the machine, and nothing else. */
  | { readonly verb: 'meshGrants'; readonly grants: readonly MeshGrant[] }
  /** These networks lead into the interface, or nowhere, and no others. */
  | {
      readonly verb: 'meshNetworks'
      readonly networks: readonly { readonly network: string; readonly isUp: boolean }[]
    }
  /**
   * Gives the two ends of a way to a helper of another tunnel, that of one's own VPN, for a process of the daemon's: what its file
   * says of the network, and nothing else. In the place of an earlier one.
   */
  | {
      readonly verb: 'entry'
      readonly addresses: readonly string[]
      readonly dnsServers: readonly string[]
      readonly dnsSearch: readonly string[]
      readonly routes: readonly string[]
      readonly killSwitch: boolean
    }
  /** Whether that tunnel has left changes of the network. */
  | { readonly verb: 'entryLeft' }
  /** Undoes them, when nobody uses it. */
  | { readonly verb: 'entryRestore' }
  /** Gives a UDP socket with the mark of links, bound to a port of every address; 0 is any. */
  | { readonly verb: 'linkSocket'; readonly family: 4 | 6; readonly port: number }

/** Reads a request; `undefined` when it is none. */
export function parseRequest(line: string): HelperRequest | undefined {
  try {
    const found: unknown = JSON.parse(line)
    return isRecord(found) ? readRequest(found) : undefined
  } catch {
    return undefined
  }
}

function readRequest(found: Readonly<Record<string, unknown>>): HelperRequest | undefined {
  const has = (...names: string[]) => Object.keys(found).sort().join() === ['verb', ...names].sort().join()
  const { verb } = found
  switch (verb) {
    case 'open':
      if (!has('mtu', 'queues', 'control')) return undefined
      return {
        verb,
        mtu: integer(found['mtu'], 1_280, 65_535),
        queues: integer(found['queues'], 1, MAX_QUEUES),
        control: endpoints(found['control'], 'tcp'),
      }
    case 'socket':
      return has('family')
        ? { verb, family: integer(found['family'], 4, 6) === 4 ? 4 : six(found['family']) }
        : undefined
    case 'relays':
      return has('relays') ? { verb, relays: endpoints(found['relays'], 'udp') } : undefined
    case 'control':
      return has('control') ? { verb, control: endpoints(found['control'], 'tcp') } : undefined
    case 'links':
      return has('hosts') ? { verb, hosts: addresses(found['hosts']) } : undefined
    case 'mtu':
      return has('mtu') ? { verb, mtu: integer(found['mtu'], 1_280, 65_535) } : undefined
    case 'hooks': {
      const when = HOOK_MOMENTS.find(moment => moment === found['when'])
      return has('when') && when !== undefined ? { verb, when } : undefined
    }
    case 'openMesh': {
      const { ipv4 } = found
      if (!has('ipv6', 'ipv4')) return undefined
      return { verb, ipv6: address(found['ipv6'], 6), ipv4: ipv4 === null ? null : address(ipv4, 4) }
    }
    case 'meshRoutes': {
      const { ipv4 } = found
      if (!has('ipv4') || !Array.isArray(ipv4) || ipv4.length > MAX_ENDPOINTS) return undefined
      return { verb, ipv4: ipv4.map(entry => address(entry, 4)) }
    }
    case 'meshGrants':
      return has('grants') ? { verb, grants: list(found['grants'], grant) } : undefined
    case 'meshNetworks':
      return has('networks') ? { verb, networks: list(found['networks'], meshNetwork) } : undefined
    case 'linkSocket': {
      const { port } = found
      if (!has('family', 'port')) return undefined
      return {
        verb,
        family: integer(found['family'], 4, 6) === 4 ? 4 : six(found['family']),
        port: port === 0 ? 0 : integer(port, 1_024, 65_535),
      }
    }
    case 'entry': {
      if (!has('addresses', 'dnsServers', 'dnsSearch', 'routes', 'killSwitch')) return undefined
      const { killSwitch } = found
      if (typeof killSwitch !== 'boolean') return undefined
      return {
        verb,
        addresses: list(found['addresses'], ownAddress),
        dnsServers: addresses(found['dnsServers']),
        dnsSearch: list(found['dnsSearch'], domain),
        routes: list(found['routes'], network, MAX_ROUTES),
        killSwitch,
      }
    }
    case 'alive':
    case 'entryLeft':
    case 'entryRestore':
    case 'reset':
    case 'restore':
    case 'meshNames':
    case 'wg':
      return has() ? { verb } : undefined
    default:
      return undefined
  }
}

function integer(value: unknown, least: number, most: number): number {
  if (typeof value !== 'number') throw new RangeError('not a number')
  checkInteger(value, least, most, 'number')
  return value
}

function address(value: unknown, family: Family): string {
  if (typeof value !== 'string' || familyOf(value) !== family) throw new RangeError('not an address')
  return value
}

function six(value: unknown): 6 {
  if (value !== 6) throw new RangeError('not a family')
  return value
}

function endpoints(value: unknown, wanted: Endpoint['protocol']): readonly Endpoint[] {
  if (!Array.isArray(value) || value.length > MAX_ENDPOINTS) throw new RangeError('not a list')
  return value.map((entry: unknown) => {
    if (!isRecord(entry) || Object.keys(entry).sort().join() !== 'address,port,protocol')
      throw new RangeError('not one')
    const { address, protocol, port } = entry
    if (typeof address !== 'string' || protocol !== wanted || typeof port !== 'number') throw new RangeError('not one')
    checkEndpoint({ address, protocol: wanted, port })
    return { address, protocol: wanted, port }
  })
}

function addresses(value: unknown): readonly string[] {
  if (!Array.isArray(value) || value.length > MAX_ENDPOINTS) throw new RangeError('not a list')
  return value.map((host: unknown) => {
    if (typeof host !== 'string') throw new RangeError('not one')
    familyOf(host)
    return host
  })
}

function list<Entry>(value: unknown, read: (entry: unknown) => Entry, most = MAX_ENDPOINTS): readonly Entry[] {
  if (!Array.isArray(value) || value.length > most) throw new RangeError('not a list')
  return value.map(read)
}

function grant(entry: unknown): MeshGrant {
  if (!isRecord(entry) || Object.keys(entry).sort().join() !== 'addresses,internet,networks,onward')
    throw new RangeError('not one')
  const { internet } = entry
  if (typeof internet !== 'boolean') throw new RangeError('not one')
  const [networks, onward] = [list(entry['networks'], network), list(entry['onward'], network)]
  return { addresses: addresses(entry['addresses']), networks, onward, internet }
}

function meshNetwork(entry: unknown): { readonly network: string; readonly isUp: boolean } {
  if (!isRecord(entry) || Object.keys(entry).sort().join() !== 'isUp,network') throw new RangeError('not one')
  const { isUp } = entry
  if (typeof isUp !== 'boolean') throw new RangeError('not one')
  return { network: network(entry['network']), isUp }
}

function network(value: unknown): string {
  if (typeof value !== 'string') throw new RangeError('not a network')
  return formatNetwork(parseNetwork(value))
}

/** An address with the length of its network. */
function ownAddress(value: unknown): string {
  if (typeof value !== 'string') throw new RangeError('not an address')
  return formatNetwork(parseInterface(value))
}

/** A domain that names are looked for in; with `~` one whose names alone are asked there. */
function domain(value: unknown): string {
  if (typeof value !== 'string' || !DOMAIN.test(value)) throw new RangeError('not a domain')
  return value
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
