// Transport packets of every session: WireGuard's layout (WireGuard paper §5.4.6).
//
//   offset size  field
//   0      1     type = 4
//   1      3     zero
//   4      4     receiver index, little-endian
//   8      8     counter, little-endian
//   16     n     sealed plaintext
//   16+n   16    tag
//
// Length policy: at least 32 bytes, at most what a UDP datagram holds. Functions read and write at an offset of a larger
// buffer, because a packet is opened and sealed where it lies.

export const TRANSPORT_TYPE = 4
export const TRANSPORT_HEADER_BYTES = 16
/** Header and tag: what one layer adds to its plaintext. */
export const TRANSPORT_OVERHEAD_BYTES = 32

/** Whether `length` bytes at `offset` can be a transport packet. */
export function isTransport(buffer: Uint8Array, offset: number, length: number): boolean {
  return (
    length >= TRANSPORT_OVERHEAD_BYTES &&
    buffer[offset] === TRANSPORT_TYPE &&
    buffer[offset + 1] === 0 &&
    buffer[offset + 2] === 0 &&
    buffer[offset + 3] === 0
  )
}

/** The receiver index of the transport packet at `offset`. */
export function receiverIndex(buffer: Uint8Array, offset: number): number {
  return readU32(buffer, offset + 4)
}

/** The counter of the transport packet at `offset`; above 2^53 it is no longer exact, and refused by everyone. */
export function transportCounter(buffer: Uint8Array, offset: number): number {
  return readU32(buffer, offset + 8) + readU32(buffer, offset + 12) * 0x1_0000_0000
}

/** Writes the 16 header bytes at `offset`. */
export function writeTransportHeader(buffer: Uint8Array, offset: number, receiver: number, counter: number): void {
  buffer[offset] = TRANSPORT_TYPE
  buffer[offset + 1] = 0
  buffer[offset + 2] = 0
  buffer[offset + 3] = 0
  writeU32(buffer, offset + 4, receiver)
  writeU32(buffer, offset + 8, counter % 0x1_0000_0000)
  writeU32(buffer, offset + 12, Math.floor(counter / 0x1_0000_0000))
}

/** A little-endian 32-bit integer at `offset`. */
export function readU32(buffer: Uint8Array, offset: number): number {
  return (
    ((buffer[offset] ?? 0) |
      ((buffer[offset + 1] ?? 0) << 8) |
      ((buffer[offset + 2] ?? 0) << 16) |
      ((buffer[offset + 3] ?? 0) << 24)) >>>
    0
  )
}

function writeU32(buffer: Uint8Array, offset: number, value: number): void {
  buffer[offset] = value & 0xff
  buffer[offset + 1] = (value >>> 8) & 0xff
  buffer[offset + 2] = (value >>> 16) & 0xff
  buffer[offset + 3] = (value >>> 24) & 0xff
}
