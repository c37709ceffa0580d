// Explicit congestion notification (RFC 3168 §5): two bits of each IP packet say whether its sender understands a mark, and the
// mark takes the place of a loss.
//
//   00 does not understand   01, 10 understands   11 the mark

import { updatedChecksum } from './checksum.ts'
import { read16, write16 } from './ip-packet.ts'

const MARK = 0b11

/** Marks the IP packet at `offset`, its header's checksum mended; false when its sender would not understand. */
export function markCongestion(buffer: Uint8Array, offset: number): boolean {
  const isV4 = (buffer[offset] ?? 0) >>> 4 === 4
  // IPv4: type of service, the second byte. IPv6: traffic class, from the fifth bit to the twelfth.
  const mark = isV4 ? MARK : MARK << 4
  const before = read16(buffer, offset)
  if ((before & mark) === 0) return false
  write16(buffer, offset, before | mark)
  if (isV4) write16(buffer, offset + 10, updatedChecksum(read16(buffer, offset + 10), before, before | mark))
  return true
}
