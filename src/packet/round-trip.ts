// A packet from an address to itself, which whoever routes that address sends back: it shows that packets of its length pass, both
// ways. To the discard port of UDP (RFC 863), so that it means nothing to anybody who keeps it.
//
//   IPv4 or IPv6 header, source = destination; UDP 9 to 9; 8 bytes token; zeros

import { copyBytes } from '#bytes/copy.ts'
import { completeChecksum, pseudoHeaderSum, writeIpv4Checksum } from './checksum.ts'
import { IpPacket, read16, UDP, write16 } from './ip-packet.ts'

const DISCARD = 9
const HOPS = 64
const TOKEN_BYTES = 8
const UDP_BYTES = 8

/** Writes one of `length` bytes, at least 64, at `at`; `address` has 4 or 16 bytes, `token` 8. */
export function writeRoundTrip(
  address: Uint8Array,
  token: Uint8Array,
  length: number,
  into: Uint8Array,
  at: number,
): void {
  const isFour = address.length === 4
  const header = isFour ? 20 : 40
  into.fill(0, at, at + length)
  const packet = new IpPacket()
  packet.version = isFour ? 4 : 6
  packet.source = isFour ? 12 : 8
  packet.addressLength = address.length
  packet.protocol = UDP
  into.set(address, at + packet.source)
  into.set(address, at + packet.source + address.length)
  if (isFour) {
    into.set([0x45, 0], at)
    write16(into, at + 2, length)
    // Don't fragment: a packet in pieces shows nothing.
    into.set([0x40, 0, HOPS, UDP], at + 6)
    writeIpv4Checksum(into, at, header)
  } else {
    into[at] = 0x60
    write16(into, at + 4, length - header)
    into.set([UDP, HOPS], at + 6)
  }
  const udp = at + header
  write16(into, udp, DISCARD)
  write16(into, udp + 2, DISCARD)
  write16(into, udp + 4, length - header)
  into.set(token.subarray(0, TOKEN_BYTES), udp + UDP_BYTES)
  write16(into, udp + 6, pseudoHeaderSum(into, at, packet, length - header))
  completeChecksum(into, udp, at + length, udp + 6)
}

/** The token of such a packet for `address`; undefined for any other. Its source may have been translated on the way. */
export function roundTripToken(
  address: Uint8Array,
  buffer: Uint8Array,
  offset: number,
  length: number,
): Uint8Array | undefined {
  const isFour = address.length === 4
  const udp = offset + (isFour ? 20 : 40)
  if (udp + UDP_BYTES + TOKEN_BYTES > offset + length) return undefined
  if (buffer[offset] !== (isFour ? 0x45 : 0x60) || buffer[offset + (isFour ? 9 : 6)] !== UDP) return undefined
  if (read16(buffer, udp + 2) !== DISCARD) return undefined
  const destination = offset + (isFour ? 16 : 24)
  for (let i = 0; i < address.length; i++) if (buffer[destination + i] !== address[i]) return undefined
  return copyBytes(buffer, udp + UDP_BYTES, udp + UDP_BYTES + TOKEN_BYTES)
}
