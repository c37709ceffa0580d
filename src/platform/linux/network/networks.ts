// Networks, endpoints and user ranges as ip and nft take them: read once, written in one way, so that nothing that was not
// understood reaches a command or a rule.

import { isIP } from 'node:net'
import { formatIPv6, parseIp } from '#wire/address.ts'

export type Family = 4 | 6

export interface Network {
  readonly family: Family
  readonly address: string
  readonly bits: number
}

/** Where packets may go that carry the tunnel itself. */
export interface Endpoint {
  readonly address: string
  readonly protocol: 'udp' | 'tcp'
  readonly port: number
}

/** Users, first and last included. */
export interface UserRange {
  readonly from: number
  readonly to: number
}

const MAX_UID = 0xffff_fffe

/** Reads `10.0.0.0/8`, or an address alone as a network of one; bits of a host in it are cleared. Throws RangeError. */
export function parseNetwork(text: string): Network {
  const { family, address, bits } = parseInterface(text)
  const ip = Uint8Array.from(
    parseIp(address) ?? [],
    (byte, i) => byte & (0xff00 >> Math.min(Math.max(bits - i * 8, 0), 8)),
  )
  const first = family === 4 ? ip.join('.') : formatIPv6(ip)
  if (first === undefined) throw new RangeError(`not a network of IPv6: ${text}`)
  return { family, address: first, bits }
}

/** Reads `10.0.0.2/24`, an address and its network, or an address alone. Throws RangeError. */
export function parseInterface(text: string): Network {
  const [address = '', given, more] = text.toLowerCase().split('/')
  const family = familyOf(address)
  const most = family === 4 ? 32 : 128
  const bits = given === undefined ? most : /^[0-9]{1,3}$/.test(given) ? Number(given) : Number.NaN
  if (more !== undefined || !(bits <= most)) throw new RangeError(`not a network like 10.0.0.0/8: ${text}`)
  return { family, address, bits }
}

/** Networks of one family. */
export function ofFamily(networks: readonly string[], family: Family): Network[] {
  return networks.map(parseNetwork).filter(network => network.family === family)
}

/** What part of its family's addresses the networks cover, 0 to 1. Overlapping ones count once. */
export function coverage(networks: readonly Network[]): number {
  const kept: Network[] = []
  for (const network of networks.toSorted((a, b) => a.bits - b.bits)) {
    if (!kept.some(wider => contains(wider, network))) kept.push(network)
  }
  return kept.reduce((sum, { bits }) => sum + 2 ** -bits, 0)
}

function contains(wider: Network, { address, bits }: Network): boolean {
  return bits >= wider.bits && parseNetwork(`${address}/${wider.bits}`).address === wider.address
}

/** Whether an address is of a network. Throws RangeError for what is neither. */
export function isWithin(address: string, network: string): boolean {
  const [own, wider] = [parseNetwork(address), parseNetwork(network)]
  return own.family === wider.family && contains(wider, own)
}

export function formatNetwork({ address, bits }: Network): string {
  return `${address}/${bits}`
}

/** 4 or 6. Throws RangeError for what is no address, or one with a zone. */
export function familyOf(address: string): Family {
  const family = isIP(address)
  if (family === 0 || address.includes('%')) throw new RangeError(`not an IP address: ${address}`)
  return family === 4 ? 4 : 6
}

/** Throws RangeError unless it is an endpoint. */
export function checkEndpoint({ address, protocol, port }: Endpoint): void {
  familyOf(address)
  if (protocol !== 'udp' && protocol !== 'tcp') throw new RangeError(`not udp or tcp: ${protocol}`)
  checkInteger(port, 1, 65_535, 'port')
}

/** Formats `1000-1999`. Throws RangeError. */
export function formatUsers({ from, to }: UserRange): string {
  checkInteger(from, 0, MAX_UID, 'user id')
  checkInteger(to, from, MAX_UID, 'last user id')
  return `${from}-${to}`
}

/** The name of an interface that is ours to make: at most 15 letters, digits, `_` and `-`. Throws RangeError. */
export function checkInterfaceName(name: string): void {
  if (!/^[A-Za-z0-9_-]{1,15}$/.test(name)) throw new RangeError(`not an interface name: ${name}`)
}

export function checkInteger(value: number, least: number, most: number, what: string): void {
  if (!Number.isInteger(value) || value < least || value > most) throw new RangeError(`not a ${what}: ${value}`)
}
