// IP prefixes as text: `192.0.2.0/24`, `2001:db8::/32`; an address alone is a prefix of all its bits.
//
// The printed form is that of inet_ntop(3), which WireGuard's tools print: RFC 5952, and the last 32 bits dotted where the
// address is IPv4-mapped (::ffff:192.0.2.1) or IPv4-compatible (::192.0.2.1).

import { formatIPv6, parseIp } from './address.ts'

/** An IP address in the form of inet_ntop(3), and how many of its first bits count: 0 to 32 or 0 to 128. */
export interface IpPrefix {
  readonly address: string
  readonly prefix: number
}

/** Reads `address` or `address/bits`, bits behind the prefix included; `undefined` when it is anything else. */
export function parsePrefix(text: string): IpPrefix | undefined {
  const match = /^([0-9a-fA-F:.]{2,45})(?:\/([0-9]{1,3}))?$/.exec(text)
  const ip = parseIp(match?.[1] ?? '')
  if (match === null || ip === undefined) return undefined
  const prefix = match[2] === undefined ? ip.length * 8 : Number(match[2])
  return prefix > ip.length * 8 ? undefined : { address: formatIp(ip), prefix }
}

/** The same prefix with every bit behind it zero, as routing tables hold it. */
export function maskPrefix({ address, prefix }: IpPrefix): IpPrefix {
  const ip = parseIp(address)
  if (ip === undefined) throw new TypeError('mask a prefix: the address is not an IP address')
  for (let i = 0; i < ip.length; i++) {
    const kept = Math.min(8, Math.max(0, prefix - i * 8))
    ip[i] = (ip[i] ?? 0) & (0xff00 >> kept)
  }
  return { address: formatIp(ip), prefix }
}

/** Whether every address of the second prefix is of the first. */
export function covers(wider: IpPrefix, narrower: IpPrefix): boolean {
  if (wider.address.includes(':') !== narrower.address.includes(':') || wider.prefix > narrower.prefix) return false
  return maskPrefix({ address: narrower.address, prefix: wider.prefix }).address === maskPrefix(wider).address
}

/** Whether two prefixes have an address in common: then one is of the other. */
export function overlap(a: IpPrefix, b: IpPrefix): boolean {
  return covers(a, b) || covers(b, a)
}

/** `address/bits`. */
export function formatPrefix({ address, prefix }: IpPrefix): string {
  return `${address}/${prefix}`
}

/** The text of 4 or 16 bytes, as inet_ntop(3) gives it. */
export function formatIp(ip: Uint8Array): string {
  if (ip.length === 4) return ip.join('.')
  const isZero = (from: number, to: number) => ip.subarray(from, to).every(byte => byte === 0)
  if (isZero(0, 12) && !isZero(12, 14)) return `::${ip.subarray(12).join('.')}`
  return formatIPv6(ip) ?? `::ffff:${ip.subarray(12).join('.')}`
}
