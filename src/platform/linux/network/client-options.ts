// What a client asks of its machine's network, and what follows from it before any rule is written: how much of each
// address family belongs to the tunnel.

import {
  checkEndpoint,
  checkInteger,
  checkInterfaceName,
  coverage,
  type Endpoint,
  type Family,
  formatUsers,
  type Network,
  ofFamily,
  parseInterface,
  parseNetwork,
  type UserRange,
} from './networks.ts'

/** The ranges that LAN access is chosen from: private, link-local and local multicast. No LAN can claim others as its own. */
export const LAN_RANGES = [
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '169.254.0.0/16',
  '224.0.0.0/24',
  '239.0.0.0/8',
  'fc00::/7',
  'fe80::/10',
  'ff02::/16',
  'ff05::/16',
] as const
export type LanRange = (typeof LAN_RANGES)[number]

/** How names come to be asked through the tunnel; `detectDnsWay` of dns.ts says which one fits the machine. */
export type DnsWay = 'resolved' | 'resolvconf' | 'cover' | 'rewrite'

export interface DnsOptions {
  /** At least one address; each is routed into the tunnel. */
  readonly servers: readonly string[]
  readonly search: readonly string[]
  readonly way: DnsWay
  /** With the way `cover`: where our resolv.conf is kept. */
  readonly stateDirectory: string
}

/** Who is in the tunnel: everybody but those excluded, or only those named. */
export interface Split {
  readonly excludeNetworks?: readonly string[]
  readonly excludeUsers?: readonly UserRange[]
  /** Paths of cgroups in the hierarchy of version 2, such as `user.slice/direct`; they exist already. */
  readonly excludeCgroups?: readonly string[]
  readonly onlyUsers?: readonly UserRange[]
  readonly onlyCgroups?: readonly string[]
}

export interface ClientNetworkOptions {
  /** The TUN's name. The firewall's table is called after it. */
  readonly tun: string
  /** The TUN's addresses with prefix lengths. A family without one is blocked where it would go around the tunnel. */
  readonly addresses: readonly string[]
  /** Bytes, 1280 to 65535. */
  readonly mtu: number
  readonly dns?: DnsOptions
  /** The first of four firewall marks in a row, and the number of the routing table. Our own sockets carry the first. */
  readonly mark: number
  /** The first of ten priorities of routing rules in a row, before that of table main. */
  readonly priority: number
  /** Where marked sockets may send. */
  readonly relays: readonly Endpoint[]
  /** Where unmarked sockets of the user `uid` may connect around the tunnel. */
  readonly control: readonly Endpoint[]
  readonly uid: number
  /** Networks that belong to the tunnel: `0.0.0.0/0` and `::/0`, or the AllowedIPs of a WireGuard file. */
  readonly routes: readonly string[]
  /** Those of them that the tunnel does not carry: programs are told at once that nothing leads there. */
  readonly refused?: readonly string[]
  /** One's own devices: the interface that leads to them, which may be this TUN, and the networks that they are of. */
  readonly devices?: { readonly interface: string; readonly networks: readonly string[] }
  readonly lan: readonly LanRange[]
  readonly split: Split
  readonly killSwitch: boolean
  /** Whether this kernel has IPv6; `kernelHasIpv6` says. */
  readonly hasIpv6: boolean
  /** Where the cgroups of version 2 are below /sys/fs/cgroup, when they share it with version 1: `unified`. */
  readonly cgroupMount?: string
}

/** A mark of 28 bits that other programs are unlikely to use. */
export const CLIENT_MARK = 0x0686f70
export const CLIENT_PRIORITY = 3200
/** What the sockets of the links to one's devices carry, whether there is a tunnel of the whole machine or not. */
export const LINK_MARK = marksOf({ mark: CLIENT_MARK }).links
export const EVERYTHING = ['0.0.0.0/0', '::/0'] as const

const MAX_ENTRIES = 1024

/** Throws RangeError for options that make no sense: nothing that was not checked reaches a command. */
export function checkClientOptions(options: ClientNetworkOptions): void {
  checkInterfaceName(options.tun)
  checkInteger(options.mtu, 1280, 65_535, 'MTU')
  checkInteger(options.mark, 256, 0x7fff_fff0, 'mark')
  checkInteger(options.priority, 1, 32_000, 'priority')
  checkInteger(options.uid, 0, 0xffff_fffe, 'user id')
  const { split } = options
  const { refused = [], devices = { interface: options.tun, networks: [] } } = options
  checkInterfaceName(devices.interface)
  const networks = [...options.routes, ...refused, ...devices.networks, ...(split.excludeNetworks ?? [])]
  const lists = [options.addresses, options.relays, options.control, networks, ...Object.values(split)]
  for (const list of lists) checkInteger(list.length, 0, MAX_ENTRIES, 'number of entries')
  options.addresses.forEach(parseInterface)
  ;[...options.relays, ...options.control].forEach(checkEndpoint)
  networks.forEach(parseNetwork)
  for (const range of options.lan) if (!LAN_RANGES.includes(range)) throw new RangeError(`not a LAN range: ${range}`)
  ;[...(split.excludeUsers ?? []), ...(split.onlyUsers ?? [])].forEach(formatUsers)
  ;[...(split.excludeCgroups ?? []), ...(split.onlyCgroups ?? [])].forEach(checkCgroup)
  if (options.cgroupMount !== undefined) checkCgroup(options.cgroupMount)
  options.dns?.servers.forEach(parseNetwork)
  options.dns?.search.forEach(checkDomain)
}

/** The marks: of our own sockets, of what goes around the tunnel, of what goes into it, and of the links to one's devices. */
export function marksOf({ mark }: Pick<ClientNetworkOptions, 'mark'>) {
  return { own: mark, outside: mark + 1, inside: mark + 2, links: mark + 3 } as const
}

/** Whether only some users or cgroups are in the tunnel. */
export function isSelective({ split }: ClientNetworkOptions): boolean {
  return (split.onlyUsers?.length ?? 0) + (split.onlyCgroups?.length ?? 0) > 0
}

/**
 * What of a family may leave through the tunnel only: all of it, or some networks. A tunnel that takes most of one family
 * and has no word on the other takes all of that too: what it cannot carry is blocked.
 */
export function walledOff(options: ClientNetworkOptions, family: Family): 'all' | readonly Network[] {
  const routes = ofFamily(options.routes, family)
  const other = ofFamily(options.routes, family === 4 ? 6 : 4)
  const isSilent = routes.length === 0 && coverage(other) > 0.5
  return isSilent || coverage(routes) === 1 ? 'all' : routes
}

/** Whether everything that this machine sends belongs to the tunnel. */
export function isSealed(options: ClientNetworkOptions): boolean {
  return !isSelective(options) && walledOff(options, 4) === 'all' && walledOff(options, 6) === 'all'
}

/** Throws RangeError unless it is the path of a cgroup, without a slash at its ends. */
export function checkCgroup(path: string): void {
  const isPath = path.split('/').every(name => /^[A-Za-z0-9_.@:-]+$/.test(name) && !/^\.+$/.test(name))
  if (!isPath) throw new RangeError(`not the path of a cgroup: ${path}`)
}

function checkDomain(name: string): void {
  if (!/^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?$/.test(name)) throw new RangeError(`not a domain: ${name}`)
}
