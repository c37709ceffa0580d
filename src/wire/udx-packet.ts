// The header of UDX packets, as far as a link must know it: to tell the other side that a stream is gone.
//
//   offset size  field
//   0      1     magic = 0xff
//   1      1     version = 1
//   2      1     type, bits: 1 data, 2 end, 4 selective acks, 8 message, 16 destroy, 32 heartbeat
//   3      1     where the payload begins after the header
//   4      4     stream id of the receiver
//   8      4     receive window
//   12     4     sequence number
//   16     4     next sequence number expected
//
// Integers are little-endian. Length policy: at least the header. Source: libudx `include/udx.h`, version 1.

import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'

const MAGIC = 0xff
const VERSION = 1
const DESTROY = 16
/** Data, end and heartbeat: what a sender repeats until it is answered. */
const WANTS_ANSWER = 1 | 2 | 32

export interface UdxHeader {
  readonly wantsAnswer: boolean
  readonly stream: number
  readonly sequence: number
  readonly expected: number
}

/** Reads the header of a packet; `undefined` when it is none. */
export function readUdxHeader(bytes: Uint8Array): UdxHeader | undefined {
  const reader = new Reader(bytes)
  if (reader.u8() !== MAGIC || reader.u8() !== VERSION) return undefined
  const type = reader.u8()
  reader.u8()
  const stream = reader.u32le()
  reader.u32le()
  const sequence = reader.u32le()
  const expected = reader.u32le()
  if (reader.failed) return undefined
  return { wantsAnswer: (type & WANTS_ANSWER) !== 0 && (type & DESTROY) === 0, stream, sequence, expected }
}

/** The packet that breaks the stream `remoteId` of whoever sent `header`. */
export function encodeUdxDestroy(remoteId: number, header: UdxHeader): Uint8Array {
  return new Writer(20)
    .u8(MAGIC)
    .u8(VERSION)
    .u8(DESTROY)
    .u8(0)
    .u32le(remoteId)
    .u32le(0)
    .u32le(header.expected)
    .u32le(header.sequence)
    .done()
}
