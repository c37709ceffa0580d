// IP packets made slowly and plainly, as the twin of what the data plane does fast.

export interface PacketPlan {
  readonly version: 4 | 6
  readonly protocol: 'tcp' | 'udp'
  readonly payload: Uint8Array
  /** Last byte of the addresses; the rest is of documentation networks. */
  readonly from?: number
  readonly to?: number
  readonly sourcePort?: number
  readonly destinationPort?: number
  readonly sequence?: number
  readonly acknowledgment?: number
  readonly flags?: number
  readonly window?: number
  readonly urgent?: number
  /** TCP options, a multiple of four bytes. */
  readonly options?: Uint8Array
  readonly identification?: number
  readonly dontFragment?: boolean
  readonly trafficClass?: number
  readonly ttl?: number
}

export const ACK = 0x10

/** Timestamps, as nearly every segment of today has them. */
export const TIMESTAMPS = Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2)

/** A whole packet with right checksums. */
export function makePacket(plan: PacketPlan): Uint8Array {
  const transport = plan.protocol === 'tcp' ? tcpHeader(plan) : udpHeader(plan)
  const header = plan.version === 4 ? header4(plan, transport.length) : header6(plan, transport.length)
  const packet = Buffer.concat([header, transport, plan.payload])
  writeChecksums(packet)
  return packet
}

/** Writes the checksums of a TCP or UDP packet without extension headers, whatever they were. */
export function writeChecksums(packet: Buffer): void {
  const isFour = packet.readUInt8(0) >>> 4 === 4
  const at = isFour ? (packet.readUInt8(0) & 15) * 4 : 40
  if (isFour) {
    packet.writeUInt16BE(0, 10)
    packet.writeUInt16BE(slowChecksum(packet.subarray(0, at)), 10)
  }
  const protocol = packet.readUInt8(isFour ? 9 : 6)
  const field = at + (protocol === 6 ? 16 : 6)
  packet.writeUInt16BE(0, field)
  packet.writeUInt16BE(transportChecksum(packet, at, protocol) || 0xffff, field)
}

/** The internet checksum, byte by byte (RFC 1071 §4.1). */
export function slowChecksum(bytes: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i++) sum += (bytes[i] ?? 0) * (i % 2 === 0 ? 256 : 1)
  while (sum > 0xffff) sum = Math.floor(sum / 0x10000) + (sum % 0x10000)
  return 0xffff - sum
}

/** Whether the checksums of a TCP or UDP packet are right. */
export function isIntact(packet: Buffer): boolean {
  const isFour = packet.readUInt8(0) >>> 4 === 4
  const at = isFour ? (packet.readUInt8(0) & 15) * 4 : 40
  if (isFour && slowChecksum(packet.subarray(0, at)) !== 0) return false
  return transportChecksum(packet, at, packet.readUInt8(isFour ? 9 : 6)) === 0
}

function transportChecksum(packet: Buffer, at: number, protocol: number): number {
  const isFour = packet.readUInt8(0) >>> 4 === 4
  const length = Buffer.alloc(8)
  length.writeUInt32BE(packet.length - at, 0)
  length.writeUInt32BE(protocol, 4)
  const addresses = isFour ? packet.subarray(12, 20) : packet.subarray(8, 40)
  return slowChecksum(Buffer.concat([addresses, length, packet.subarray(at)]))
}

function header4({ protocol, payload, ...plan }: PacketPlan, transportLength: number): Buffer {
  const header = Buffer.alloc(20)
  header.set([0x45, plan.trafficClass ?? 0])
  header.writeUInt16BE(20 + transportLength + payload.length, 2)
  header.writeUInt16BE(plan.identification ?? 0, 4)
  header.writeUInt16BE((plan.dontFragment ?? true) ? 0x4000 : 0, 6)
  header.set([plan.ttl ?? 64, protocol === 'tcp' ? 6 : 17], 8)
  header.set([192, 0, 2, plan.from ?? 1, 198, 51, 100, plan.to ?? 2], 12)
  return header
}

function header6({ protocol, payload, ...plan }: PacketPlan, transportLength: number): Buffer {
  const header = Buffer.alloc(40)
  header.writeUInt32BE(0x6000_0000 + (plan.trafficClass ?? 0) * 0x10_0000 + 0x1234)
  header.writeUInt16BE(transportLength + payload.length, 4)
  header.set([protocol === 'tcp' ? 6 : 17, plan.ttl ?? 64], 6)
  header.set([0x20, 0x01, 0x0d, 0xb8], 8)
  header[23] = plan.from ?? 1
  header.set([0x20, 0x01, 0x0d, 0xb8], 24)
  header[39] = plan.to ?? 2
  return header
}

function tcpHeader(plan: PacketPlan): Buffer {
  const options = plan.options ?? new Uint8Array(0)
  const header = Buffer.alloc(20 + options.length)
  header.writeUInt16BE(plan.sourcePort ?? 40_000, 0)
  header.writeUInt16BE(plan.destinationPort ?? 443, 2)
  header.writeUInt32BE((plan.sequence ?? 1) >>> 0, 4)
  header.writeUInt32BE(plan.acknowledgment ?? 1, 8)
  header.set([(header.length / 4) << 4, plan.flags ?? ACK], 12)
  header.writeUInt16BE(plan.window ?? 500, 14)
  header.writeUInt16BE(plan.urgent ?? 0, 18)
  header.set(options, 20)
  return header
}

function udpHeader({ payload, ...plan }: PacketPlan): Buffer {
  const header = Buffer.alloc(8)
  header.writeUInt16BE(plan.sourcePort ?? 40_000, 0)
  header.writeUInt16BE(plan.destinationPort ?? 443, 2)
  header.writeUInt16BE(8 + payload.length, 4)
  return header
}
