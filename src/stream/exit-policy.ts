// Where an exit lets streams and datagrams go. Asked about the very address that is dialled, after names were resolved:
// a name that points into the exit's own network opens nothing. Pure.
//
// Denied always, unless the exact address and port stand in `allowPrivate`: everything that is not a public unicast address
// (private, loopback, link-local, carrier-grade NAT, multicast, reserved, documentation, and the IPv6 forms that have such an
// IPv4 address inside), and the exit's own addresses.

import { BlockList } from 'node:net'
import type { Address } from '#wire/address.ts'
import { formatIPv6, parseIp } from '#wire/address.ts'
import type { PortRange } from '#wire/descriptor.ts'

/** A rule: the first that matches decides. */
export interface ExitRule {
  readonly action: 'allow' | 'deny'
  /** CIDR, for example 203.0.113.0/24; absent: any address. */
  readonly network?: string
  /** Absent: any port. */
  readonly ports?: PortRange
}

export interface ExitPolicyOptions {
  readonly rules: readonly ExitRule[]
  readonly ownAddresses: readonly string[]
  /** Laboratories only: exactly these private addresses may be reached. */
  readonly allowPrivate: readonly Address[]
}

/** Mail is shut unless a rule opens it: port 25 is what exits are abused for first. */
const SMTP = 25

export class ExitPolicy {
  readonly #own = new Set<string>()
  readonly #private = new Set<string>()
  readonly #rules: readonly { readonly rule: ExitRule; readonly list: BlockList | undefined }[]

  /** Throws when a rule's network is no CIDR. */
  constructor(options: ExitPolicyOptions) {
    for (const host of options.ownAddresses) this.#own.add(canonicalHost(host) ?? host)
    for (const { host, port } of options.allowPrivate) this.#private.add(`${canonicalHost(host) ?? host} ${port}`)
    this.#rules = options.rules.map(rule => ({
      rule,
      list: rule.network === undefined ? undefined : listOf(rule.network),
    }))
  }

  /** Whether `host` (an IP address) and `port` may be reached. */
  allows(host: string, port: number): boolean {
    if (port < 1 || port > 65535) return false
    const canonical = canonicalHost(host)
    if (canonical === undefined) return false
    if (this.#private.has(`${canonical} ${port}`)) return true
    if (this.#own.has(canonical) || !isPublicAddress(canonical)) return false
    for (const { rule, list } of this.#rules) {
      if (list !== undefined && !list.check(canonical, canonical.includes(':') ? 'ipv6' : 'ipv4')) continue
      if (rule.ports !== undefined && (port < rule.ports.from || port > rule.ports.to)) continue
      return rule.action === 'allow'
    }
    return port !== SMTP
  }
}

/** Whether an IP address is a public unicast one, whichever way it is written. */
export function isPublicAddress(host: string): boolean {
  const ip = parseIp(host)
  if (ip === undefined) return false
  if (ip.length === 4) return !NOT_PUBLIC.check(host, 'ipv4')
  const inside = embeddedIPv4(ip)
  if (inside !== undefined) return false
  // Global unicast is 2000::/3; the rest is special or not assigned.
  return ((ip[0] ?? 0) & 0xe0) === 0x20 && !NOT_PUBLIC.check(host, 'ipv6')
}

function canonicalHost(host: string): string | undefined {
  const ip = parseIp(host)
  if (ip === undefined) return undefined
  return ip.length === 4 ? ip.join('.') : formatIPv6(ip)
}

/** The IPv4 address inside an IPv6 one: mapped, compatible, NAT64, 6to4 or Teredo. None of them is dialled. */
function embeddedIPv4(ip: Uint8Array): Uint8Array | undefined {
  const starts = (...prefix: number[]) => prefix.every((byte, i) => ip[i] === byte)
  if (ip.subarray(0, 10).every(byte => byte === 0)) return ip.subarray(12)
  if (starts(0, 0x64, 0xff, 0x9b)) return ip.subarray(12)
  if (starts(0x20, 0x02)) return ip.subarray(2, 6)
  if (starts(0x20, 0x01, 0, 0)) return ip.subarray(12)
  return undefined
}

function listOf(network: string): BlockList {
  const [host = '', bits = ''] = network.split('/')
  const ip = parseIp(host)
  const most = ip?.length === 4 ? 32 : 128
  if (ip === undefined || !/^[0-9]{1,3}$/.test(bits) || Number(bits) > most) {
    throw new RangeError(`read an exit rule: "${network}" is not a network like 203.0.113.0/24`)
  }
  const list = new BlockList()
  list.addSubnet(host, Number(bits), ip.length === 4 ? 'ipv4' : 'ipv6')
  return list
}

/** The IANA special-purpose registries (RFC 6890 and later); of IPv6, what global unicast has of them. */
export const NOT_PUBLIC_NETWORKS = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  // Not in the registries: a cloud's metadata service on a public address (others use link-local and private ones).
  '168.63.129.16/32',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/3',
  '2001::/23',
  '2001:db8::/32',
  '2002::/16',
  '3fff::/20',
] as const

const NOT_PUBLIC = new BlockList()
for (const network of NOT_PUBLIC_NETWORKS) {
  const [host = '', bits] = network.split('/')
  NOT_PUBLIC.addSubnet(host, Number(bits), host.includes(':') ? 'ipv6' : 'ipv4')
}
