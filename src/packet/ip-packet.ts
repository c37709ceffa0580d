// Where everything is in an IP packet: one bounded look, kept in a record that is used again and again
// (RFC 791 §3.1, RFC 8200 §3 and §4, RFC 9293 §3.1, RFC 768). Network byte order.
//
//   IPv4, 20 to 60 bytes                    IPv6, 40 bytes, then up to 8 extension headers
//   offset size  field                      offset size  field
//   0      1     version = 4, words         0      4     version = 6, traffic class, flow label
//   1      1     type of service            4      2     payload length, without these 40 bytes
//   2      2     total length               6      1     next header
//   4      2     identification             7      1     hop limit
//   6      2     DF, MF, fragment offset/8  8      16    source
//   8      1     time to live               24     16    destination
//   9      1     protocol
//   10     2     header checksum
//   12     4     source
//   16     4     destination
//
// Length policy: lax at the end, as a WireGuard packet is padded: bytes behind the length that the header tells do not
// belong to the packet. Strict inside: every header must lie wholly within that length. Checksums are not looked at.
// A fragment must hold the whole transport header if it is the first, and may not reach behind 65,535 (RFC 1858, RFC 7112).

export const ICMP = 1
export const TCP = 6
export const UDP = 17
export const ICMPV6 = 58

/** Why a packet is not one. */
export type Malformed = 'version' | 'truncated' | 'headerLength' | 'extensions' | 'fragment' | 'transport'

const MAX_EXTENSIONS = 8
const MAX_BYTES = 65_535

const HOP_BY_HOP = 0
const ROUTING = 43
const FRAGMENT = 44
const AUTHENTICATION = 51
const DESTINATION_OPTIONS = 60
const MOBILITY = 135
const HOST_IDENTITY = 139
const SHIM6 = 140

/** What was found in a packet; positions are counted from the packet's first byte. */
export class IpPacket {
  version: 4 | 6 = 4
  /** The whole packet in bytes, as its header tells. */
  length = 0
  /** Where the transport header begins: behind the options or extension headers. */
  transport = 0
  /** The protocol of what begins there, such as `TCP`. */
  protocol = 0
  /** The length of the TCP (20 to 60) or UDP (8) header; 0 for any other protocol and for fragments behind the first. */
  transportLength = 0
  source = 0
  destination = 0
  /** Length of an address: 4 or 16. */
  addressLength = 0
  isFragment = false
  /** Only of TCP and UDP, 0 otherwise. */
  sourcePort = 0
  destinationPort = 0

  /** Where the payload of TCP or UDP begins. */
  get payload(): number {
    return this.transport + this.transportLength
  }
}

/** Looks at the packet of at most `length` bytes at `offset`. What is in `found` is of use only when nothing is returned. */
export function parseIpPacket(
  found: IpPacket,
  buffer: Uint8Array,
  offset: number,
  length: number,
): Malformed | undefined {
  if (length < 1) return 'truncated'
  const version = buffer[offset] >>> 4
  found.transportLength = 0
  found.sourcePort = 0
  found.destinationPort = 0
  found.isFragment = false
  if (version === 4) return parse4(found, buffer, offset, length)
  return version === 6 ? parse6(found, buffer, offset, length) : 'version'
}

/** The 16-bit number at `at`, in network byte order; the caller knows that it is there. */
export function read16(buffer: Uint8Array, at: number): number {
  return (buffer[at] << 8) | buffer[at + 1]
}

/** Writes a 16-bit number at `at`, in network byte order. */
export function write16(buffer: Uint8Array, at: number, value: number): void {
  buffer[at] = value >>> 8
  buffer[at + 1] = value
}

function parse4(found: IpPacket, buffer: Uint8Array, offset: number, length: number): Malformed | undefined {
  if (length < 20) return 'truncated'
  const headerLength = (buffer[offset] & 15) * 4
  const total = read16(buffer, offset + 2)
  if (headerLength < 20 || total < headerLength) return 'headerLength'
  if (total > length) return 'truncated'
  found.version = 4
  found.length = total
  found.transport = headerLength
  found.protocol = buffer[offset + 9]
  found.source = 12
  found.destination = 16
  found.addressLength = 4
  const fragment = read16(buffer, offset + 6)
  return parseTransport(found, buffer, offset, (fragment & 0x1fff) * 8, (fragment & 0x2000) !== 0)
}

function parse6(found: IpPacket, buffer: Uint8Array, offset: number, length: number): Malformed | undefined {
  if (length < 40) return 'truncated'
  const total = read16(buffer, offset + 4) + 40
  if (total > length) return 'truncated'
  found.version = 6
  found.length = total
  found.source = 8
  found.destination = 24
  found.addressLength = 16
  let next = buffer[offset + 6]
  let at = 40
  for (let count = 0; isExtension(next); count++) {
    if (count === MAX_EXTENSIONS || at + 8 > total) return 'extensions'
    // Hop-by-hop options come first or not at all: it is routers that read them.
    if (next === HOP_BY_HOP && count > 0) return 'extensions'
    const here = offset + at
    const size = extensionLength(next, buffer[here + 1])
    if (at + size > total) return 'extensions'
    if (next === FRAGMENT) {
      const fragment = read16(buffer, here + 2)
      found.transport = at + size
      found.protocol = buffer[here]
      // What follows in a later fragment is data, whatever the header calls it.
      if ((fragment & 0xfff8) !== 0)
        return parseTransport(found, buffer, offset, fragment & 0xfff8, (fragment & 1) !== 0)
      found.isFragment = (fragment & 1) !== 0
    }
    next = buffer[here]
    at += size
  }
  found.transport = at
  found.protocol = next
  return parseTransport(found, buffer, offset, 0, found.isFragment)
}

function isExtension(next: number): boolean {
  switch (next) {
    case HOP_BY_HOP:
    case ROUTING:
    case FRAGMENT:
    case AUTHENTICATION:
    case DESTINATION_OPTIONS:
    case MOBILITY:
    case HOST_IDENTITY:
    case SHIM6:
      return true
    default:
      return false
  }
}

function extensionLength(next: number, told: number): number {
  if (next === FRAGMENT) return 8
  return next === AUTHENTICATION ? (told + 2) * 4 : (told + 1) * 8
}

function parseTransport(
  found: IpPacket,
  buffer: Uint8Array,
  offset: number,
  fragmentOffset: number,
  hasMore: boolean,
): Malformed | undefined {
  const size = found.length - found.transport
  found.isFragment = hasMore || fragmentOffset > 0
  if (fragmentOffset + size > MAX_BYTES) return 'fragment'
  const at = offset + found.transport
  if (found.protocol !== TCP && found.protocol !== UDP) return undefined
  // A fragment that begins within the first eight bytes of TCP would overwrite its flags.
  if (fragmentOffset > 0) return found.protocol === TCP && fragmentOffset === 8 ? 'fragment' : undefined
  if (found.protocol === TCP) {
    if (size < 20) return 'transport'
    found.transportLength = (buffer[at + 12] >>> 4) * 4
    if (found.transportLength < 20 || found.transportLength > size) return 'transport'
  } else {
    if (size < 8) return 'transport'
    const told = read16(buffer, at + 4)
    if (told < 8 || (told > size && !hasMore)) return 'transport'
    found.transportLength = 8
  }
  found.sourcePort = read16(buffer, at)
  found.destinationPort = read16(buffer, at + 2)
  return undefined
}
