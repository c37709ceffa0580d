// Which networks a device may offer another, and which of those offered lead there: a device is never the way to what is public,
// to devices, to where this machine is, to what it needs outside of the tunnel, or to what another device is the way to.

import { covers, formatPrefix, type IpPrefix, maskPrefix, overlap, parsePrefix } from '#wire/ip-prefix.ts'

/** Private networks: nobody on the internet has them. */
const PRIVATE: readonly IpPrefix[] = [
  { address: '10.0.0.0', prefix: 8 },
  { address: '172.16.0.0', prefix: 12 },
  { address: '192.168.0.0', prefix: 16 },
  { address: 'fc00::', prefix: 7 },
]
/** Of IPv6 a site has no more (RFC 4193 §3.1). */
const LEAST_BITS_6 = 48

export interface Surroundings {
  /** The network of the devices themselves. */
  readonly devices: IpPrefix
  /** Networks that this machine is attached to. */
  readonly attached: readonly IpPrefix[]
  /** Addresses that are reached outside of the tunnel: relays, and where letters go. */
  readonly needed: readonly string[]
}

/** Reads a network to offer, masked; `undefined` for what cannot be offered, whoever offers it. */
export function readShareable(text: string, devices: IpPrefix): IpPrefix | undefined {
  const read = parsePrefix(text)
  const network = read && maskPrefix(read)
  return network !== undefined && isShareable(network, devices) ? network : undefined
}

/** Why an offered network cannot lead to its device from here, in words; `undefined` when it can. */
export function problemWith(network: IpPrefix, { devices, attached, needed }: Surroundings): string | undefined {
  if (!isShareable(network, devices)) return 'only private networks can be offered, and no part of that of devices'
  if (attached.some(own => overlap(own, network))) return 'this machine is in such a network itself'
  const isNeeded = needed.flatMap(text => parsePrefix(text) ?? []).some(address => covers(network, address))
  return isNeeded ? 'a relay or a server for letters has an address in it' : undefined
}

/** The network of another that this one overlaps; `undefined` when there is none. */
export function overlapping(network: IpPrefix, others: readonly IpPrefix[]): string | undefined {
  const found = others.find(other => overlap(other, network))
  return found && formatPrefix(found)
}

function isShareable(network: IpPrefix, devices: IpPrefix): boolean {
  const isNarrow = !network.address.includes(':') || network.prefix >= LEAST_BITS_6
  return isNarrow && PRIVATE.some(range => covers(range, network)) && !overlap(devices, network)
}
