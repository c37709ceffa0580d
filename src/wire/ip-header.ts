// The parts of an IP header that a tunnel looks at (RFC 791 §3.1, RFC 8200 §3). Network byte order.
//
//   IPv4, at least 20 bytes              IPv6, 40 bytes
//   offset size  field                   offset size  field
//   0      1     version = 4, length     0      1     version = 6, traffic class
//   2      2     total length            4      2     payload length, without the header
//   12     4     source                  8      16    source
//   16     4     destination             24     16    destination
//
// Length policy: lax, bytes behind the length that the header tells are padding. Functions read at an offset of a larger
// buffer and make nothing.

/** The family of the packet at `offset`; `undefined` when there is no whole header of version 4 or 6. */
export function ipFamily(buffer: Uint8Array, offset: number, length: number): 4 | 6 | undefined {
  const version = length > 0 ? (buffer[offset] ?? 0) >>> 4 : 0
  if (version === 4) return length >= 20 ? 4 : undefined
  return version === 6 && length >= 40 ? 6 : undefined
}

/** The length that the header tells, headers included, in bytes; it may be more than there is. */
export function ipLength(buffer: Uint8Array, offset: number, family: 4 | 6): number {
  const at = family === 4 ? offset + 2 : offset + 4
  const told = ((buffer[at] ?? 0) << 8) | (buffer[at + 1] ?? 0)
  return family === 4 ? told : told + 40
}

/** Where the source address begins, counted from the packet's first byte. */
export function ipSourceOffset(family: 4 | 6): number {
  return family === 4 ? 12 : 8
}

/** Where the destination address begins, counted from the packet's first byte. */
export function ipDestinationOffset(family: 4 | 6): number {
  return family === 4 ? 16 : 24
}
