// Echo requests and replies as whole IP packets (RFC 792, RFC 4443 §4). Network byte order.
//
//   IP header 20 (IPv4) or 40 (IPv6), type u8, code u8 = 0, checksum u16, identifier u16, sequence u16, data (rest)
//
// Length policy: exact, the data is the rest.

const ECHO = { 4: { protocol: 1, request: 8, reply: 0 }, 6: { protocol: 58, request: 128, reply: 129 } } as const
const HEADER_BYTES = { 4: 20, 6: 40 } as const
const IDENTIFIER = 0x4850

/** A whole IP packet of `size` bytes that asks `to` for an echo; addresses are 4 or 16 bytes. */
export function echoRequest(from: Uint8Array, to: Uint8Array, sequence: number, size: number): Uint8Array {
  const family = from.length === 4 ? 4 : 6
  const header = HEADER_BYTES[family]
  const packet = Buffer.alloc(size)
  packet[header] = ECHO[family].request
  packet.writeUInt16BE(IDENTIFIER, header + 4)
  packet.writeUInt16BE(sequence, header + 6)
  if (family === 4) {
    packet.writeUInt8(0x45, 0)
    packet.writeUInt16BE(size, 2)
    packet.set([64, ECHO[4].protocol], 8)
    packet.set(from, 12)
    packet.set(to, 16)
    packet.writeUInt16BE(checksum(packet.subarray(0, 20)), 10)
  } else {
    packet.writeUInt8(0x60, 0)
    packet.writeUInt16BE(size - 40, 4)
    packet.set([ECHO[6].protocol, 64], 6)
    packet.set(from, 8)
    packet.set(to, 24)
  }
  writeChecksum(packet, family)
  return packet
}

/** The reply to an echo request; `undefined` when the packet is none. */
export function echoReply(packet: Uint8Array): Uint8Array | undefined {
  const family = echoFamily(packet)
  if (family === undefined || packet[HEADER_BYTES[family]] !== ECHO[family].request) return undefined
  const reply = Buffer.from(packet)
  const [source, bytes] = family === 4 ? [12, 4] : [8, 16]
  reply.set(packet.subarray(source + bytes, source + 2 * bytes), source)
  reply.set(packet.subarray(source, source + bytes), source + bytes)
  reply[HEADER_BYTES[family]] = ECHO[family].reply
  writeChecksum(reply, family)
  return reply
}

/** The sequence number of a reply to a request of `echoRequest`; `undefined` when the packet is none. */
export function echoSequence(packet: Uint8Array): number | undefined {
  const family = echoFamily(packet)
  if (family === undefined || packet[HEADER_BYTES[family]] !== ECHO[family].reply) return undefined
  const header = HEADER_BYTES[family]
  const at = (offset: number) => ((packet[header + offset] ?? 0) << 8) | (packet[header + offset + 1] ?? 0)
  return at(4) === IDENTIFIER ? at(6) : undefined
}

/** Whether an IP packet is an echo reply of `size` bytes. */
export function isEchoReply(packet: Uint8Array, size: number): boolean {
  return packet.length === size && echoSequence(packet) !== undefined
}

function echoFamily(packet: Uint8Array): 4 | 6 | undefined {
  const family = packet[0] === 0x45 ? 4 : (packet[0] ?? 0) >>> 4 === 6 ? 6 : undefined
  if (family === undefined || packet.length < HEADER_BYTES[family] + 8) return undefined
  return packet[family === 4 ? 9 : 6] === ECHO[family].protocol ? family : undefined
}

function writeChecksum(packet: Buffer, family: 4 | 6): void {
  const header = HEADER_BYTES[family]
  packet.writeUInt16BE(0, header + 2)
  const body = packet.subarray(header)
  if (family === 4) {
    packet.writeUInt16BE(checksum(body), header + 2)
    return
  }
  const pseudo = Buffer.concat([packet.subarray(8, 40), Buffer.alloc(8), body])
  pseudo.writeUInt32BE(body.length, 32)
  pseudo[39] = ECHO[6].protocol
  packet.writeUInt16BE(checksum(pseudo), header + 2)
}

/** The internet checksum (RFC 1071). */
function checksum(bytes: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
