// The values of a wg-quick configuration, one function each. They return `undefined` for what is malformed.

import { parseIp } from './address.ts'
import { isTargetHost, type Target } from './control.ts'
import { formatIp, type IpPrefix, parsePrefix } from './ip-prefix.ts'

/** Which routing table gets the routes: the automatic choice of wg-quick, none, or one by number or name. */
export type RoutingTable =
  | { readonly kind: 'auto' }
  | { readonly kind: 'off' }
  | { readonly kind: 'number'; readonly number: number }
  | { readonly kind: 'name'; readonly name: string }

/** A whole decimal number of at most ten digits, from `least` to `most`. */
export function readNumber(text: string, least: number, most: number): number | undefined {
  const value = /^[0-9]{1,10}$/.test(text) ? Number(text) : -1
  return value >= least && value <= most ? value : undefined
}

/** `off` (0), a decimal or `0x` number of 32 bits. */
export function readMark(text: string): number | undefined {
  if (/^off$/i.test(text)) return 0
  if (/^0x[0-9a-f]{1,8}$/i.test(text)) return Number.parseInt(text, 16)
  return readNumber(text, 0, 0xffff_ffff)
}

/** `off` (0) or seconds. */
export function readKeepalive(text: string): number | undefined {
  return /^off$/i.test(text) ? 0 : readNumber(text, 0, 65_535)
}

/** `auto`, `off`, a table's number, or a name of at most 32 characters. */
export function readTable(text: string): RoutingTable | undefined {
  if (/^auto$/i.test(text)) return { kind: 'auto' }
  if (/^off$/i.test(text)) return { kind: 'off' }
  const number = readMark(text)
  if (number !== undefined) return number === 0 ? undefined : { kind: 'number', number }
  return /^[A-Za-z_][A-Za-z0-9_.-]{0,31}$/.test(text) ? { kind: 'name', name: text } : undefined
}

/** `true` or `false`. */
export function readFlag(text: string): boolean | undefined {
  return /^true$/i.test(text) ? true : /^false$/i.test(text) ? false : undefined
}

/** Prefixes, separated by commas (and by spaces too, when `isSpaced`). A comma with nothing beside it is passed over. */
export function readPrefixes(text: string, isSpaced: boolean): readonly IpPrefix[] | undefined {
  const parts = isSpaced ? text.split(/[\s,]+/) : text.split(',').map(part => part.replace(/\s+/g, ''))
  const prefixes: IpPrefix[] = []
  for (const part of parts) {
    if (part === '') continue
    const prefix = parsePrefix(part)
    if (prefix === undefined) return undefined
    prefixes.push(prefix)
  }
  return prefixes
}

/** Addresses of resolvers and search domains, separated by commas or spaces: digits and dots, or a colon, mean an address. */
export function readResolvers(text: string): { readonly servers: string[]; readonly domains: string[] } | undefined {
  const servers: string[] = []
  const domains: string[] = []
  for (const part of text.split(/[\s,]+/)) {
    if (part === '') continue
    if (part.includes(':') || /^[0-9.]+$/.test(part)) {
      const ip = parseIp(part)
      if (ip === undefined) return undefined
      servers.push(formatIp(ip))
    } else {
      // systemd-resolved writes domains that only route with a `~`, and `~.` for all of them.
      const name = part.toLowerCase().replace(/^~/, '')
      if (!(part === '~.' || isTargetHost(name))) return undefined
      domains.push(part.toLowerCase())
    }
  }
  return { servers, domains }
}

/** `IPv4:port`, `[IPv6]:port` or `name:port`; an IPv4-mapped address is the IPv4 address that it means. */
export function readEndpoint(text: string): Target | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([^\s:[\]]{1,253})):([0-9]{1,5})$/.exec(text)
  const port = readNumber(match?.[3] ?? '', 1, 65_535)
  if (match === null || port === undefined) return undefined
  const host = (match[1] ?? match[2] ?? '').toLowerCase()
  const ip = parseIp(host)
  if ((match[1] !== undefined) !== (ip?.length === 16) || !isTargetHost(host)) return undefined
  return { host: ip === undefined ? host : formatIp(ip).replace(/^::ffff:(?=.*\.)/, ''), port }
}
