// What stands before a packet at a TUN with offloads: how much of its checksum is missing and how it is to be cut
// (struct virtio_net_hdr; VIRTIO 1.2 §5.1.6; linux/virtio_net.h). Little-endian, 10 bytes.
//
//   offset size  field
//   0      1     flags: 1 the checksum is to be completed, 2 it was verified, 4 receive coalescing information
//   1      1     how to cut: 0 not at all, 1 TCP over IPv4, 3 IP fragments, 4 TCP over IPv6, 5 UDP; 0x80 with ECN
//   2      2     bytes of headers, a hint that may be larger
//   4      2     bytes of payload in each segment but the last
//   6      2     where the checksum begins, from the packet's first byte
//   8      2     where it is stored, from where it begins
//
// Length policy: exactly 10 bytes, then the packet. A header is checked against its packet before it is followed: it
// promises places to write to.

import { type IpPacket, TCP, UDP } from './ip-packet.ts'

export const VIRTIO_HEADER_BYTES = 10
/** More segments than this are not cut from one packet: they would not fit into memory that is used round and round. */
export const MAX_SEGMENTS = 2_048

const NEEDS_CHECKSUM = 1
const KNOWN_FLAGS = 7
const ECN = 0x80
const NONE = 0
const TCP4 = 1
const TCP6 = 4
const UDP_DATAGRAMS = 5

/** Which field of a virtio header does not fit its packet. */
export type VirtioFault = 'flags' | 'cutting' | 'headers' | 'segments' | 'checksum'

/** A header read once, used again and again. */
export class VirtioHeader {
  needsChecksum = false
  /** Payload bytes of each segment, 0 when the packet is not to be cut. */
  segmentBytes = 0
  /** From the packet's first byte. */
  checksumStart = 0
  checksumField = 0
}

/** Reads the header of 10 bytes at `at` and checks it against its packet. */
export function readVirtioHeader(
  header: VirtioHeader,
  buffer: Uint8Array,
  at: number,
  packet: IpPacket,
): VirtioFault | undefined {
  const flags = buffer[at]
  const kind = buffer[at + 1]
  header.needsChecksum = (flags & NEEDS_CHECKSUM) !== 0
  header.segmentBytes = 0
  header.checksumStart = read16le(buffer, at + 6)
  header.checksumField = header.checksumStart + read16le(buffer, at + 8)
  if ((flags & ~KNOWN_FLAGS) !== 0) return 'flags'
  if (header.needsChecksum && !isChecksumInside(header, packet)) return 'checksum'
  if (kind === NONE) return undefined
  const expected = packet.protocol === UDP ? UDP_DATAGRAMS : packet.version === 4 ? TCP4 : TCP6
  const isKnown = kind === expected || (kind === (expected | ECN) && packet.protocol === TCP)
  if (!isKnown || packet.transportLength === 0 || packet.isFragment) return 'cutting'
  if (read16le(buffer, at + 2) > packet.length) return 'headers'
  const isWhole = header.checksumField === packet.transport + checksumOffset(packet.protocol)
  if (!header.needsChecksum || header.checksumStart !== packet.transport || !isWhole) return 'checksum'
  const segmentBytes = read16le(buffer, at + 4)
  const payload = packet.length - packet.payload
  if (segmentBytes === 0 || payload > segmentBytes * MAX_SEGMENTS) return 'segments'
  // A packet that says how it is cut, and is not longer than one segment, is that segment.
  header.segmentBytes = segmentBytes
  return undefined
}

/** Writes at `at` that a packet is as it lies: complete, and not to be cut. */
export function writePlainVirtioHeader(buffer: Uint8Array, at: number): void {
  buffer.fill(0, at, at + VIRTIO_HEADER_BYTES)
}

/**
 * Writes at `at` that the payload of a TCP or UDP packet is to be cut every `segmentBytes`, with checksums to be completed.
 * UDP needs Linux 6.2.
 */
export function writeCutVirtioHeader(buffer: Uint8Array, at: number, packet: IpPacket, segmentBytes: number): void {
  buffer[at] = NEEDS_CHECKSUM
  buffer[at + 1] = packet.protocol === UDP ? UDP_DATAGRAMS : packet.version === 4 ? TCP4 : TCP6
  write16le(buffer, at + 2, packet.payload)
  write16le(buffer, at + 4, segmentBytes)
  write16le(buffer, at + 6, packet.transport)
  write16le(buffer, at + 8, checksumOffset(packet.protocol))
}

/** Where the checksum is in the header of TCP or UDP. */
export function checksumOffset(protocol: number): number {
  return protocol === TCP ? 16 : 6
}

/** Whether the checksum covers something behind the IP header, and its field lies in that. */
function isChecksumInside({ checksumStart, checksumField }: VirtioHeader, packet: IpPacket): boolean {
  const header = packet.version === 4 ? 20 : 40
  return checksumStart >= header && checksumField + 2 <= packet.length
}

function read16le(buffer: Uint8Array, at: number): number {
  return buffer[at] | (buffer[at + 1] << 8)
}

function write16le(buffer: Uint8Array, at: number, value: number): void {
  buffer[at] = value
  buffer[at + 1] = value >>> 8
}
