// Packets on their way into a TUN with offloads: consecutive segments of one TCP flow, and datagrams of one length of a UDP
// flow, are joined into one superpacket, so that the kernel takes up to 64 KiB with one call and one walk through its stack.
//
//   for each packet of a received batch    coalescer.add(memory, at, length)
//   at the end of the batch                coalescer.flush()
//
//   memory    … [virtio][headers][payload 1] … [headers][payload 2] … [headers][payload 3] …
//                └─────── piece 1 ─────────┘            └ piece 2 ┘            └ piece 3 ┘
//
// Nothing is copied: the first packet's own headers become those of the superpacket, the virtio header is written in the 10
// bytes before it, and the payloads go to the kernel from where they lie (writev). Copying them into one piece of memory
// was measured too; it took a tenth more time and 64 KiB for every open superpacket.
//
// What is joined can be cut again into the very same packets: every field is equal but length, checksum, sequence number
// (the next), identification (the next; or, with DF, the same, as it then has no meaning: RFC 6864 §4.1) and PSH, which ends
// a superpacket. The checksum of each is right. Packets of a flow leave in the order in which they came; whatever is
// joined to nothing leaves as it is, after the flow's earlier packets.
//
// Bounds: 16 open superpackets (the oldest leaves for a new one), each of 64 packets and 65,535 bytes.

import { pseudoHeaderSum, sum, writeIpv4Checksum } from './checksum.ts'
import { flowHash } from './flow-hash.ts'
import { IpPacket, type Malformed, parseIpPacket, read16, TCP, UDP, write16 } from './ip-packet.ts'
import {
  checksumOffset,
  VIRTIO_HEADER_BYTES,
  writeCutVirtioHeader,
  writePlainVirtioHeader,
} from './virtio-net-header.ts'

const MAX_OPEN = 16
const MAX_PIECES = 64
const MAX_BYTES = 65_535
const PSH = 0x08
const ACK = 0x10
const ECE = 0x40

export interface CoalescerOutlet {
  /** The next piece of what is to be written to the TUN with one call; the first begins with the virtio header. */
  piece(buffer: Uint8Array, offset: number, length: number): void
  /** The piece before was the last one. */
  end(): void
}

export interface CoalescerOptions {
  readonly outlet: CoalescerOutlet
  /** Whether the TUN takes UDP superpackets too. */
  readonly joinsUdp: boolean
}

/** A superpacket that more may be added to. */
class Batch {
  readonly packet = new IpPacket()
  /** Where each payload begins, all in `buffer`; that of the first packet stands behind its headers. */
  readonly payloads = new Int32Array(MAX_PIECES)
  buffer: Uint8Array = new Uint8Array(0)
  offset = 0
  hash = 0
  count = 0
  /** Payload bytes of every packet but the last, of the last, and of all. */
  segmentBytes = 0
  lastBytes = 0
  totalBytes = 0
  sequence = 0
  identification = 0
  isVerified = false
}

export class Coalescer {
  readonly #outlet: CoalescerOutlet
  readonly #joinsUdp: boolean
  readonly #packet = new IpPacket()
  /** The first `#open` are in use, the oldest first. */
  readonly #batches = Array.from({ length: MAX_OPEN }, () => new Batch())
  #open = 0

  constructor({ outlet, joinsUdp }: CoalescerOptions) {
    this.#outlet = outlet
    this.#joinsUdp = joinsUdp
  }

  /**
   * Takes a packet that lies in memory until `flush`, with 10 bytes before it that may be written over; bytes behind its
   * own length are left out. A malformed one is not taken.
   */
  add(buffer: Uint8Array, offset: number, length: number): Malformed | undefined {
    const packet = this.#packet
    const fault = parseIpPacket(packet, buffer, offset, length)
    if (fault !== undefined) return fault
    if (packet.isFragment) {
      // It has no ports: it may belong to any flow.
      this.flush()
      this.#giveAlone(buffer, offset, packet.length)
      return undefined
    }
    if (packet.transportLength === 0) {
      this.#giveAlone(buffer, offset, packet.length)
      return undefined
    }
    const hash = flowHash(buffer, offset, packet)
    const index = this.#find(buffer, offset, packet, hash)
    const isCandidate = this.#isCandidate(buffer, offset, packet)
    if (index >= 0) {
      const batch = this.#batches[index]
      if (isCandidate && joins(batch, buffer, offset, packet)) {
        this.#join(index, batch, buffer, offset)
        return undefined
      }
      this.#close(index)
    }
    if (isCandidate) this.#begin(buffer, offset, hash)
    else this.#giveAlone(buffer, offset, packet.length)
    return undefined
  }

  /** Gives everything that is open to the outlet. */
  flush(): void {
    for (let i = 0; i < this.#open; i++) this.#give(this.#batches[i])
    this.#open = 0
  }

  /** Whether the packet is one that others may be joined to. */
  #isCandidate(buffer: Uint8Array, offset: number, packet: IpPacket): boolean {
    if (packet.transport !== (packet.version === 4 ? 20 : 40) || packet.length === packet.payload) return false
    const at = offset + packet.transport
    if (packet.protocol === TCP) return (buffer[at + 13] & ~(PSH | ECE)) === ACK
    const isPlain = read16(buffer, at + 4) === packet.length - packet.transport && read16(buffer, at + 6) !== 0
    return this.#joinsUdp && isPlain
  }

  #find(buffer: Uint8Array, offset: number, packet: IpPacket, hash: number): number {
    for (let i = 0; i < this.#open; i++) {
      const batch = this.#batches[i]
      if (batch.hash === hash && isSameFlow(batch, buffer, offset, packet)) return i
    }
    return -1
  }

  #begin(buffer: Uint8Array, offset: number, hash: number): void {
    if (this.#open === MAX_OPEN) this.#close(0)
    const batch = this.#batches[this.#open++]
    const { packet } = batch
    parseIpPacket(packet, buffer, offset, this.#packet.length)
    batch.buffer = buffer
    batch.offset = offset
    batch.hash = hash
    batch.count = 1
    batch.payloads[0] = offset + packet.payload
    batch.segmentBytes = packet.length - packet.payload
    batch.lastBytes = batch.segmentBytes
    batch.totalBytes = packet.length
    batch.sequence = packet.protocol === TCP ? read32(buffer, offset + packet.transport + 4) : 0
    batch.identification = packet.version === 4 ? read16(buffer, offset + 4) : 0
    batch.isVerified = false
    if (isPushed(buffer, offset, packet)) this.#close(this.#open - 1)
  }

  #join(index: number, batch: Batch, buffer: Uint8Array, offset: number): void {
    const packet = this.#packet
    const bytes = packet.length - packet.payload
    batch.payloads[batch.count++] = offset + packet.payload
    batch.lastBytes = bytes
    batch.totalBytes += bytes
    const isPush = isPushed(buffer, offset, packet)
    if (isPush) batch.buffer[batch.offset + packet.transport + 13] |= PSH
    // A shorter packet is the last of a superpacket.
    if (isPush || bytes < batch.segmentBytes || batch.count === MAX_PIECES) this.#close(index)
  }

  /** Gives one open superpacket to the outlet and takes it out of the table. */
  #close(index: number): void {
    const batch = this.#batches[index]
    this.#open--
    this.#batches.copyWithin(index, index + 1, this.#open + 1)
    this.#batches[this.#open] = batch
    this.#give(batch)
  }

  #give(batch: Batch): void {
    const { buffer, offset, packet, count } = batch
    if (count === 1) return this.#giveAlone(buffer, offset, packet.length)
    const { transport } = packet
    const total = batch.totalBytes
    if (packet.version === 4) {
      write16(buffer, offset + 2, total)
      writeIpv4Checksum(buffer, offset, transport)
    } else {
      write16(buffer, offset + 4, total - 40)
    }
    if (packet.protocol === UDP) write16(buffer, offset + transport + 4, total - transport)
    // The kernel adds the rest of the sum to that of the pseudo-header.
    const pseudo = pseudoHeaderSum(buffer, offset, packet, total - transport)
    write16(buffer, offset + transport + checksumOffset(packet.protocol), pseudo)
    const start = offset - VIRTIO_HEADER_BYTES
    writeCutVirtioHeader(buffer, start, packet, batch.segmentBytes)
    this.#outlet.piece(buffer, start, VIRTIO_HEADER_BYTES + packet.payload + batch.segmentBytes)
    for (let i = 1; i < count; i++) {
      const bytes = i === count - 1 ? batch.lastBytes : batch.segmentBytes
      this.#outlet.piece(buffer, batch.payloads[i], bytes)
    }
    this.#outlet.end()
  }

  #giveAlone(buffer: Uint8Array, offset: number, length: number): void {
    writePlainVirtioHeader(buffer, offset - VIRTIO_HEADER_BYTES)
    this.#outlet.piece(buffer, offset - VIRTIO_HEADER_BYTES, VIRTIO_HEADER_BYTES + length)
    this.#outlet.end()
  }
}

/** Whether a packet of the batch's flow is the one that comes next. */
function joins(batch: Batch, buffer: Uint8Array, offset: number, packet: IpPacket): boolean {
  const first = batch.packet
  const bytes = packet.length - packet.payload
  if (packet.payload !== first.payload || bytes > batch.segmentBytes) return false
  if (batch.buffer !== buffer || batch.totalBytes + bytes > MAX_BYTES) return false
  const at = offset + packet.transport
  if (packet.protocol === TCP) {
    const expected = (batch.sequence + batch.totalBytes - first.payload) >>> 0
    if (read32(buffer, at + 4) !== expected) return false
  }
  if (!hasSameHeaders(batch, buffer, offset, packet)) return false
  // Two packets that can be joined are what makes the sums worth their while.
  batch.isVerified ||= isIntact(batch.buffer, batch.offset, first)
  return batch.isVerified && isIntact(buffer, offset, packet)
}

/** Whether the fields are equal that cutting makes equal, and the identification is the one that it makes. */
function hasSameHeaders(batch: Batch, buffer: Uint8Array, offset: number, packet: IpPacket): boolean {
  const other = batch.buffer
  const from = batch.offset
  if (packet.version === 4) {
    const identification = read16(buffer, offset + 4)
    const isNext = identification === ((batch.identification + batch.count) & 0xffff)
    const isMeaningless = identification === batch.identification && (buffer[offset + 6] & 0x40) !== 0
    if (!isNext && !isMeaningless) return false
    // Type of service; flags and fragment offset, time to live and protocol. Addresses are those of the flow.
    if (buffer[offset + 1] !== other[from + 1]) return false
    if (!isEqual(buffer, offset + 6, other, from + 6, 4)) return false
  } else if (!isEqual(buffer, offset, other, from, 4) || buffer[offset + 7] !== other[from + 7]) {
    return false
  }
  if (packet.protocol === UDP) return true
  const at = offset + packet.transport
  const to = from + packet.transport
  if (!isEqual(buffer, at + 8, other, to + 8, 5)) return false
  if ((buffer[at + 13] | PSH) !== (other[to + 13] | PSH)) return false
  // The window, the urgent pointer and the options.
  if (!isEqual(buffer, at + 14, other, to + 14, 2)) return false
  return isEqual(buffer, at + 18, other, to + 18, packet.transportLength - 18)
}

/** Whether the checksums of a packet are right. */
function isIntact(buffer: Uint8Array, offset: number, packet: IpPacket): boolean {
  if (packet.version === 4 && sum(buffer, offset, packet.transport) !== 0xffff) return false
  const length = packet.length - packet.transport
  const pseudo = pseudoHeaderSum(buffer, offset, packet, length)
  return sum(buffer, offset + packet.transport, length, pseudo) === 0xffff
}

function isPushed(buffer: Uint8Array, offset: number, packet: IpPacket): boolean {
  return packet.protocol === TCP && (buffer[offset + packet.transport + 13] & PSH) !== 0
}

function isSameFlow(batch: Batch, buffer: Uint8Array, offset: number, packet: IpPacket): boolean {
  const other = batch.packet
  const isSameKind =
    packet.version === other.version &&
    packet.protocol === other.protocol &&
    packet.sourcePort === other.sourcePort &&
    packet.destinationPort === other.destinationPort
  const length = packet.addressLength * 2
  return isSameKind && isEqual(buffer, offset + packet.source, batch.buffer, batch.offset + other.source, length)
}

function isEqual(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (a[aAt + i] !== b[bAt + i]) return false
  return true
}

function read32(buffer: Uint8Array, at: number): number {
  return (read16(buffer, at) * 0x1_0000 + read16(buffer, at + 2)) >>> 0
}
