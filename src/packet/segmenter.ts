// What is read from a TUN with offloads becomes packets that fit: a TCP or UDP superpacket of up to 64 KiB is cut, each
// segment written to where the caller wants it, with its own headers and a whole checksum; any other packet is one segment.
//
//   const fault = segmenter.begin(memory, at, length, mtu)
//   while (segmenter.next > 0) {
//     const to = slab.take(segmenter.next) + HEADROOM
//     const size = segmenter.write(slab.buffer, to)
//     device.send(slab.buffer, to, size, now)
//   }
//
// A TCP superpacket whose segments would not fit the MTU is cut smaller than its sender asked for, which TCP does not notice
// (RFC 9293 §3.7.1 leaves the size to whoever sends); nothing stalls while the sender learns the MTU. A packet that cannot
// be cut is `tooBig`.
//
// The rules for TCP: CWR on the first segment alone (RFC 3168 §6.1.2); FIN and PSH on the last alone; the urgent pointer
// counts from where its segment begins; the identification of IPv4 rises by one.

import { copyInto } from '#bytes/copy.ts'
import { completeChecksum, pseudoHeaderSum, sum, writeIpv4Checksum } from './checksum.ts'
import { IpPacket, type Malformed, parseIpPacket, read16, TCP, write16 } from './ip-packet.ts'
import {
  checksumOffset,
  MAX_SEGMENTS,
  readVirtioHeader,
  VIRTIO_HEADER_BYTES,
  type VirtioFault,
  VirtioHeader,
} from './virtio-net-header.ts'

const FIN = 0x01
const SYN = 0x02
const RST = 0x04
const PSH = 0x08
const URG = 0x20
const CWR = 0x80

/** Why nothing comes of what was read. */
export type SegmentFault = Malformed | VirtioFault | 'control' | 'tooBig'

export class Segmenter {
  /** What was found in the packet that was begun last. */
  readonly packet = new IpPacket()
  /** Where that packet begins, behind its virtio header. */
  offset = 0
  /** The length of the next segment in bytes, headers included; 0 when there is none left. */
  next = 0
  /** Whether the segments are smaller than the sender made them, because they would not have fitted. */
  isCutSmaller = false
  readonly #header = new VirtioHeader()
  #source: Uint8Array = new Uint8Array(0)
  #headers = 0
  #payload = 0
  #segmentBytes = 0
  #done = 0
  #count = 0
  #pseudoSum = 0

  /**
   * Begins with the virtio header and packet of `length` bytes at `at`, which stay as they are until the last segment has
   * been written. Segments are at most `mtu` bytes long. With a fault there are none; `packet` is known if it is `tooBig`.
   */
  begin(source: Uint8Array, at: number, length: number, mtu: number): SegmentFault | undefined {
    this.next = 0
    this.isCutSmaller = false
    const { packet } = this
    const header = this.#header
    this.offset = at + VIRTIO_HEADER_BYTES
    const fault =
      parseIpPacket(packet, source, this.offset, length - VIRTIO_HEADER_BYTES) ??
      readVirtioHeader(header, source, at, packet)
    if (fault !== undefined) return fault
    this.#source = source
    this.#done = 0
    this.#count = 0
    this.#headers = packet.payload
    this.#payload = packet.length - this.#headers
    this.#segmentBytes = this.#payload
    if (header.segmentBytes > 0 && this.#payload > header.segmentBytes) {
      this.#segmentBytes = header.segmentBytes
      if (packet.protocol === TCP) {
        if ((source[this.offset + packet.transport + 13] & (SYN | RST)) !== 0) return 'control'
        if (this.#headers + this.#segmentBytes > mtu) {
          this.#segmentBytes = mtu - this.#headers
          this.isCutSmaller = true
        }
      }
      this.#pseudoSum = pseudoHeaderSum(source, this.offset, packet, 0)
    }
    if (this.#headers + this.#segmentBytes > mtu) return 'tooBig'
    if (this.#payload > Math.max(this.#segmentBytes, 0) * MAX_SEGMENTS) return 'tooBig'
    this.next = this.#headers + this.#segmentBytes
    return undefined
  }

  /** Writes the next segment at `at`, and gives its length, which was `next`. */
  write(into: Uint8Array, at: number): number {
    const size = this.next
    if (this.#segmentBytes === this.#payload) this.#writeWhole(into, at, size)
    else this.#writeCut(into, at, size)
    this.#done += size - this.#headers
    this.#count++
    const left = this.#payload - this.#done
    this.next = left > 0 ? this.#headers + Math.min(left, this.#segmentBytes) : 0
    return size
  }

  #writeWhole(into: Uint8Array, at: number, size: number): void {
    copyInto(this.#source, this.offset, size, into, at)
    const { needsChecksum, checksumStart, checksumField } = this.#header
    if (needsChecksum) completeChecksum(into, at + checksumStart, at + size, at + checksumField)
  }

  #writeCut(into: Uint8Array, at: number, size: number): void {
    const { packet, offset } = this
    const headers = this.#headers
    const bytes = size - headers
    const first = this.#done === 0
    if (first) {
      copyInto(this.#source, offset, size, into, at)
    } else {
      copyInto(this.#source, offset, headers, into, at)
      copyInto(this.#source, offset + headers + this.#done, bytes, into, at + headers)
    }
    const transport = at + packet.transport
    if (packet.version === 4) {
      write16(into, at + 2, size)
      write16(into, at + 4, read16(into, at + 4) + this.#count)
      writeIpv4Checksum(into, at, packet.transport)
    } else {
      write16(into, at + 4, size - 40)
    }
    if (packet.protocol === TCP) this.#writeTcp(into, transport, bytes)
    else write16(into, transport + 4, size - packet.transport)
    const field = transport + checksumOffset(packet.protocol)
    write16(into, field, 0)
    const before = this.#pseudoSum + size - packet.transport
    const whole = sum(into, transport, size - packet.transport, before)
    write16(into, field, ~whole & 0xffff || 0xffff)
  }

  #writeTcp(into: Uint8Array, tcp: number, bytes: number): void {
    const done = this.#done
    const sequence = read16(into, tcp + 4) * 0x1_0000 + read16(into, tcp + 6) + done
    write16(into, tcp + 4, sequence >>> 16)
    write16(into, tcp + 6, sequence)
    let flags = into[tcp + 13]
    if (done > 0) flags &= ~CWR
    if (done + bytes < this.#payload) flags &= ~(FIN | PSH)
    if (done > 0 && (flags & URG) !== 0) {
      const urgent = read16(into, tcp + 18) - done
      if (urgent <= 0) flags &= ~URG
      write16(into, tcp + 18, Math.max(urgent, 0))
    }
    into[tcp + 13] = flags
  }
}
