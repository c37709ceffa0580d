// Echo requests and replies by hand (RFC 792, RFC 4443 §4), for tests that have a tunnel and no TUN.

const ECHO = { 4: { protocol: 1, request: 8, reply: 0 }, 6: { protocol: 58, request: 128, reply: 129 } } as const
const HEADER_BYTES = { 4: 20, 6: 40 } as const

/** A whole IP packet of `size` bytes that asks `to` for an echo; addresses are 4 or 16 bytes. */
export function echoRequest(from: Uint8Array, to: Uint8Array, sequence: number, size: number): Uint8Array {
  const family = from.length === 4 ? 4 : 6
  const header = HEADER_BYTES[family]
  const packet = Buffer.alloc(size)
  packet[header] = ECHO[family].request
  packet.writeUInt16BE(0x4850, header + 4)
  packet.writeUInt16BE(sequence, header + 6)
  if (family === 4) {
    packet.writeUInt8(0x45, 0)
    packet.writeUInt16BE(size, 2)
    packet.set([64, ECHO[4].protocol], 8)
    packet.set(from, 12)
    packet.set(to, 16)
    packet.writeUInt16BE(checksum(packet.subarray(0, 20)), 10)
    packet.writeUInt16BE(checksum(packet.subarray(20)), 22)
    return packet
  }
  packet.writeUInt8(0x60, 0)
  packet.writeUInt16BE(size - 40, 4)
  packet.set([ECHO[6].protocol, 64], 6)
  packet.set(from, 8)
  packet.set(to, 24)
  const pseudo = Buffer.concat([from, to, Buffer.alloc(8), packet.subarray(40)])
  pseudo.writeUInt32BE(size - 40, 32)
  pseudo[39] = ECHO[6].protocol
  packet.writeUInt16BE(checksum(pseudo), 42)
  return packet
}

/** Whether an IP packet is an echo reply of `size` bytes. */
export function isEchoReply(packet: Uint8Array, size: number): boolean {
  const family = (packet[0] ?? 0) >>> 4 === 4 ? 4 : 6
  const protocol = packet[family === 4 ? 9 : 6]
  return (
    packet.length === size && protocol === ECHO[family].protocol && packet[HEADER_BYTES[family]] === ECHO[family].reply
  )
}

/** The internet checksum (RFC 1071). */
function checksum(bytes: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
