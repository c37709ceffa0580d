// The maximum segment size in SYN and SYN-ACK, lowered so that what is sent in answer fits the way through the tunnel
// (RFC 9293 §3.7.1, RFC 6691 §2: MTU less the fixed headers of IP and TCP, options not counted).
//
//   option  kind 2, length 4, size in 16 bits; kind 0 ends the options, 1 is one byte of padding, all others have a length

import { updatedChecksum } from './checksum.ts'
import { type IpPacket, read16, TCP, write16 } from './ip-packet.ts'

const SYN = 0x02
const END = 0
const PADDING = 1
const SEGMENT_SIZE = 2

/**
 * Lowers the segment size that the packet at `offset` tells to what fits an MTU of `mtu` bytes, and mends its checksum, which
 * must be whole. Gives whether anything was changed; options that make no sense end the search.
 */
export function clampSegmentSize(buffer: Uint8Array, offset: number, packet: IpPacket, mtu: number): boolean {
  if (packet.protocol !== TCP || packet.transportLength <= 20) return false
  const tcp = offset + packet.transport
  if ((buffer[tcp + 13] & SYN) === 0) return false
  const most = mtu - (packet.version === 4 ? 40 : 60)
  const end = tcp + packet.transportLength
  let isChanged = false
  for (let at = tcp + 20; at < end; ) {
    const kind = buffer[at]
    if (kind === END) break
    if (kind === PADDING) {
      at++
      continue
    }
    const length = at + 1 < end ? buffer[at + 1] : 0
    if (length < 2 || at + length > end) break
    if (kind === SEGMENT_SIZE && length === 4 && read16(buffer, at + 2) > most) {
      replace(buffer, tcp, at + 2, most)
      isChanged = true
    }
    at += length
  }
  return isChanged
}

/** Writes a 16-bit field that the checksum covers; it may stand at an odd place, across two words. */
function replace(buffer: Uint8Array, tcp: number, at: number, value: number): void {
  const before = read16(buffer, at)
  write16(buffer, at, value)
  const isOdd = ((at - tcp) & 1) === 1
  const checksum = read16(buffer, tcp + 16)
  write16(buffer, tcp + 16, updatedChecksum(checksum, isOdd ? swap(before) : before, isOdd ? swap(value) : value))
}

function swap(value: number): number {
  return ((value & 0xff) << 8) | (value >>> 8)
}
