// The answer to a packet that is longer than the way through the tunnel carries, written back into the TUN: its sender then
// sends shorter ones (RFC 1191 §4, RFC 4443 §3.2).
//
//   ICMPv4 destination unreachable            ICMPv6 packet too big
//   offset size  field                        offset size  field
//   0      1     type = 3                     0      1     type = 2
//   1      1     code = 4                     1      1     code = 0
//   2      2     checksum                     2      2     checksum, with pseudo-header
//   4      2     unused = 0                   4      4     MTU
//   6      2     MTU
//   8      …     the packet's beginning, so that the whole answer is at most 576 bytes, with IPv6 1,280
//
// It comes from the address that the packet was for: that address is routed into the tunnel, so no filter on the reverse
// path drops the answer, and it tells nobody an address that is not known anyway. A packet without DF is answered too:
// nobody here cuts it into fragments, while its sender, once it knows the MTU, does.
//
// Never answered (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7, RFC 4443 §2.4): ICMP errors, fragments behind the first, packets to
// or from multicast and broadcast addresses or from none. At most `ANSWERS_PER_SECOND`, of which as many may come at once.

import { copyInto } from '#bytes/copy.ts'
import { completeChecksum, pseudoHeaderSum, writeIpv4Checksum } from './checksum.ts'
import { ICMP, ICMPV6, IpPacket, read16, write16 } from './ip-packet.ts'

/** The longest answer, in bytes. */
export const MAX_TOO_BIG_BYTES = 1_280
const MAX_TOO_BIG_BYTES_4 = 576
const ANSWERS_PER_SECOND = 100
const ICMP_BYTES = 8
const HOPS = 64

export class TooBigAnswers {
  #left = ANSWERS_PER_SECOND
  #filledMs = 0
  readonly #answer = new IpPacket()

  /**
   * Writes at `at` of `into`, where there is room for `MAX_TOO_BIG_BYTES`, the answer that tells the packet at `offset` that
   * it may have `mtu` bytes. Gives its length; 0 when there is to be none. `now` is in milliseconds.
   */
  write(
    buffer: Uint8Array,
    offset: number,
    packet: IpPacket,
    mtu: number,
    into: Uint8Array,
    at: number,
    now: number,
  ): number {
    if (!isAnswered(buffer, offset, packet)) return 0
    this.#left = Math.min(this.#left + ((now - this.#filledMs) * ANSWERS_PER_SECOND) / 1000, ANSWERS_PER_SECOND)
    this.#filledMs = now
    if (this.#left < 1) return 0
    this.#left--
    const isFour = packet.version === 4
    const header = isFour ? 20 : 40
    const most = isFour ? MAX_TOO_BIG_BYTES_4 : MAX_TOO_BIG_BYTES
    const length = Math.min(header + ICMP_BYTES + packet.length, most)
    into.fill(0, at, at + header + ICMP_BYTES)
    // Addresses lie source first in both versions: the packet's destination becomes the source.
    copyInto(buffer, offset + packet.destination, packet.addressLength, into, at + packet.source)
    copyInto(buffer, offset + packet.source, packet.addressLength, into, at + packet.destination)
    copyInto(buffer, offset, length - header - ICMP_BYTES, into, at + header + ICMP_BYTES)
    write16(into, at + header + 6, Math.min(mtu, 0xffff))
    if (isFour) writeHeader4(into, at, length)
    else this.#writeHeader6(into, at, length)
    return length
  }

  #writeHeader6(into: Uint8Array, at: number, length: number): void {
    into[at] = 0x60
    write16(into, at + 4, length - 40)
    into[at + 6] = ICMPV6
    into[at + 7] = HOPS
    into[at + 40] = 2
    const answer = this.#answer
    answer.version = 6
    answer.source = 8
    answer.addressLength = 16
    answer.protocol = ICMPV6
    write16(into, at + 42, pseudoHeaderSum(into, at, answer, length - 40))
    completeChecksum(into, at + 40, at + length, at + 42)
  }
}

function writeHeader4(into: Uint8Array, at: number, length: number): void {
  into[at] = 0x45
  write16(into, at + 2, length)
  into[at + 8] = HOPS
  into[at + 9] = ICMP
  writeIpv4Checksum(into, at, 20)
  into[at + 20] = 3
  into[at + 21] = 4
  completeChecksum(into, at + 20, at + length, at + 22)
}

function isAnswered(buffer: Uint8Array, offset: number, packet: IpPacket): boolean {
  const isFour = packet.version === 4
  if (packet.isFragment && !isFirstFragment(buffer, offset, packet)) return false
  if (packet.protocol === (isFour ? ICMP : ICMPV6) && isIcmpError(buffer, offset, packet)) return false
  const isHost = isFour ? isHost4 : isHost6
  return isHost(buffer, offset + packet.source) && isHost(buffer, offset + packet.destination)
}

/** Of IPv6 no fragment counts as the first: which one it is stands in an extension header, and none is missed. */
function isFirstFragment(buffer: Uint8Array, offset: number, packet: IpPacket): boolean {
  return packet.version === 4 && (read16(buffer, offset + 6) & 0x1fff) === 0
}

function isIcmpError(buffer: Uint8Array, offset: number, packet: IpPacket): boolean {
  if (packet.transport >= packet.length) return true
  const type = buffer[offset + packet.transport]
  // Unreachable, source quench, redirect, time exceeded, parameter problem; with IPv6 all below 128, and redirects.
  if (packet.version === 4) return type === 3 || type === 4 || type === 5 || type === 11 || type === 12
  return type < 128 || type === 137
}

/** Neither 0/8, 127/8 nor, from 224, multicast, reserved or broadcast. */
function isHost4(buffer: Uint8Array, at: number): boolean {
  const first = buffer[at]
  return first !== 0 && first !== 127 && first < 224
}

/** Neither multicast nor `::` nor `::1`. */
function isHost6(buffer: Uint8Array, at: number): boolean {
  if (buffer[at] === 0xff) return false
  for (let i = 0; i < 15; i++) if (buffer[at + i] !== 0) return true
  return buffer[at + 15] > 1
}
