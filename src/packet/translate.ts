// One address in the place of another, as packets pass an exit: the client's own, which all clients share, stands inside
// the tunnel; one that the exit gave it stands outside (RFC 3022 §4; for IPv6, RFC 6296).
//
//   outward   source:      client → outside      an ICMP error's quote: destination, client → outside
//   inward    destination: outside → client      an ICMP error's quote: source,      outside → client
//
// Checksums are mended and not made anew (RFC 1624 §3), so a packet that was damaged before stays so: those of the IPv4
// header, of TCP, UDP and ICMPv6 over their pseudo-header, and of ICMP over what changed in its quote. A UDP checksum of 0
// means that there is none and stays; in all others 0 and 65,535 are the same. Only the first fragment has a checksum of the
// transport. Of other protocols the header alone is changed.
//
// An ICMP error quotes a packet that the other direction has translated (RFC 5508 §4); quotes may be cut anywhere behind
// their IP header. One that does not speak of the translated address is none of this client's.

import { fold, sum } from './checksum.ts'
import { ICMP, ICMPV6, IpPacket, isIcmpError, parseQuotedPacket, read16, TCP, UDP, write16 } from './ip-packet.ts'

/** Why a packet may not pass: it is not the address' owner's, or it quotes what cannot be its own. */
export type TranslateFault = 'foreign' | 'quote'

const ICMP_HEADER_BYTES = 8

/** One address that takes the place of another. */
interface Replacement {
  readonly from: Uint8Array
  readonly to: Uint8Array
  /** What the sum of 16-bit words grows by. */
  readonly change: number
}

/** The two addresses of one client in one family. */
export class Translation {
  readonly #outward: Replacement
  readonly #inward: Replacement
  readonly #quote = new IpPacket()

  /** @param client and `outside` both of 4 bytes or both of 16 */
  constructor(client: Uint8Array, outside: Uint8Array) {
    if (client.length !== outside.length || (client.length !== 4 && client.length !== 16))
      throw new RangeError(`translate addresses: ${client.length} and ${outside.length} bytes`)
    this.#outward = replacementOf(client, outside)
    this.#inward = replacementOf(outside, client)
  }

  /** Translates the packet at `offset`, from the client, of this family; with a fault it stays as it was. */
  outward(buffer: Uint8Array, offset: number, packet: IpPacket): TranslateFault | undefined {
    return this.#translate(buffer, offset, packet, packet.source, packet.destination, this.#outward)
  }

  /** Translates the packet at `offset`, for the client, of this family; with a fault it stays as it was. */
  inward(buffer: Uint8Array, offset: number, packet: IpPacket): TranslateFault | undefined {
    return this.#translate(buffer, offset, packet, packet.destination, packet.source, this.#inward)
  }

  #translate(
    buffer: Uint8Array,
    offset: number,
    packet: IpPacket,
    field: number,
    quotedField: number,
    replacement: Replacement,
  ): TranslateFault | undefined {
    if (!isAt(buffer, offset + field, replacement.from)) return 'foreign'
    let inTransport = 0
    if (packet.fragmentOffset === 0 && isIcmpError(buffer, offset, packet)) {
      const quote = this.#quote
      const start = packet.transport + ICMP_HEADER_BYTES
      const at = offset + start
      const fault = parseQuotedPacket(quote, buffer, at, packet.length - start)
      if (fault !== undefined || quote.version !== packet.version) return 'quote'
      if (!isAt(buffer, at + quotedField, replacement.from)) return 'quote'
      inTransport = rewrite(buffer, at, quote, quotedField, replacement, 0)
    }
    rewrite(buffer, offset, packet, field, replacement, inTransport)
    return undefined
  }
}

/**
 * Writes an address and mends the checksums of its packet, whose transport's sum has grown by `inTransport` besides; gives
 * what the sum of the whole packet has grown by.
 */
function rewrite(
  buffer: Uint8Array,
  offset: number,
  packet: IpPacket,
  field: number,
  { to, change }: Replacement,
  inTransport: number,
): number {
  for (let i = 0; i < to.length; i++) buffer[offset + field + i] = to[i]
  let grown = fold(change + inTransport)
  if (packet.version === 4) grown = fold(grown + mend(buffer, offset + 10, change))
  const checksum = packet.fragmentOffset === 0 ? checksumField(packet) : 0
  if (checksum === 0 || packet.transport + checksum + 2 > packet.length) return grown
  const at = offset + packet.transport + checksum
  if (packet.protocol === UDP && read16(buffer, at) === 0) return grown
  const hasPseudoHeader = packet.protocol !== ICMP
  const mended = mend(buffer, at, hasPseudoHeader ? fold(change + inTransport) : inTransport)
  // As 65,535, its other form, which a sum cannot tell from it.
  if (packet.protocol === UDP && read16(buffer, at) === 0) write16(buffer, at, 0xffff)
  return fold(grown + mended)
}

/** Where the checksum stands in the transport header; 0 where none is touched. */
function checksumField({ protocol }: IpPacket): number {
  switch (protocol) {
    case TCP:
      return 16
    case UDP:
      return 6
    case ICMP:
    case ICMPV6:
      return 2
    default:
      return 0
  }
}

/** Mends the checksum at `at`, over words whose sum has grown by `change`; gives what its own word has grown by. */
function mend(buffer: Uint8Array, at: number, change: number): number {
  const before = read16(buffer, at)
  const after = ~fold((~before & 0xffff) + change) & 0xffff
  write16(buffer, at, after)
  return changeOf(before, after)
}

function replacementOf(from: Uint8Array, to: Uint8Array): Replacement {
  const change = changeOf(sum(from, 0, from.length), sum(to, 0, to.length))
  return { from: Uint8Array.from(from), to: Uint8Array.from(to), change }
}

/** What a sum grows by when `after` takes the place of `before`. */
function changeOf(before: number, after: number): number {
  return fold((~before & 0xffff) + after)
}

/** Compared from the end, where addresses of one network differ. */
function isAt(buffer: Uint8Array, at: number, address: Uint8Array): boolean {
  for (let i = address.length - 1; i >= 0; i--) if (address[i] !== buffer[at + i]) return false
  return true
}
