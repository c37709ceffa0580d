// Messages of the WireGuard handshake (WireGuard paper §5.4.2, §5.4.3 and §5.4.7). Little-endian; lengths are exact.
// Transport packets, type 4, are in transport.ts.
//
//   initiation, 148 bytes                response, 92 bytes                  cookie reply, 64 bytes
//   offset size  field                   offset size  field                  offset size  field
//   0      1     type = 1                0      1     type = 2               0      1     type = 3
//   1      3     zero                    1      3     zero                   1      3     zero
//   4      4     sender index            4      4     sender index           4      4     receiver index
//   8      32    e                       8      4     receiver index         8      24    nonce
//   40     48    s, sealed               12     32    e                      32     32    cookie, sealed
//   88     28    timestamp, sealed       44     16    nothing, sealed
//   116    16    mac1                    60     16    mac1
//   132    16    mac2                    76     16    mac2
//
// A timestamp is 12 bytes of TAI64N, big-endian: 2^62 + 10 + seconds since 1970 (8), nanoseconds (4). As in the other
// implementations its last 24 bits are zero, steps of 17 ms: finer ones would tell of the sender's clock. Two timestamps
// compare as their bytes do.

import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import type { CookieReply } from './handshake.ts'

export const WIREGUARD_HANDSHAKE = {
  initiation: 1,
  initiationBytes: 148,
  response: 2,
  responseBytes: 92,
  cookieReply: 3,
  cookieReplyBytes: 64,
} as const
const MACS_BYTES = 32
const INITIATION_NOISE_BYTES = 108
const RESPONSE_NOISE_BYTES = 48
const TAI64_OF_1970_HIGH = 0x4000_0000
const TAI_SECONDS_AHEAD = 10
const TIMESTAMP_STEP_NS = 0x100_0000

export interface WireGuardInitiation {
  readonly senderIndex: number
  /** The Noise message, 108 bytes. */
  readonly noise: Uint8Array
}

export interface WireGuardResponse {
  readonly senderIndex: number
  readonly receiverIndex: number
  /** The Noise message, 48 bytes. */
  readonly noise: Uint8Array
}

/** An initiation with room for its macs, which are zero. */
export function encodeWireGuardInitiation({ senderIndex, noise }: WireGuardInitiation): Uint8Array {
  const writer = new Writer(WIREGUARD_HANDSHAKE.initiationBytes).u8(WIREGUARD_HANDSHAKE.initiation).zeros(3)
  return writer.u32le(senderIndex).bytes(noise).zeros(MACS_BYTES).done()
}

/** Whether the datagram at `offset` has the type and the exact length of a WireGuard handshake message. */
export function isWireGuardHandshake(buffer: Uint8Array, offset: number, length: number): boolean {
  if (buffer[offset + 1] !== 0 || buffer[offset + 2] !== 0 || buffer[offset + 3] !== 0) return false
  switch (buffer[offset]) {
    case WIREGUARD_HANDSHAKE.initiation:
      return length === WIREGUARD_HANDSHAKE.initiationBytes
    case WIREGUARD_HANDSHAKE.response:
      return length === WIREGUARD_HANDSHAKE.responseBytes
    case WIREGUARD_HANDSHAKE.cookieReply:
      return length === WIREGUARD_HANDSHAKE.cookieReplyBytes
    default:
      return false
  }
}

/** The parts of an initiation, macs unchecked; `undefined` for another type or length. */
export function decodeWireGuardInitiation(bytes: Uint8Array): WireGuardInitiation | undefined {
  const reader = begin(bytes, WIREGUARD_HANDSHAKE.initiation, WIREGUARD_HANDSHAKE.initiationBytes)
  const initiation = { senderIndex: reader.u32le(), noise: reader.bytes(INITIATION_NOISE_BYTES) }
  return reader.failed ? undefined : initiation
}

/** A response with room for its macs, which are zero. */
export function encodeWireGuardResponse({ senderIndex, receiverIndex, noise }: WireGuardResponse): Uint8Array {
  const writer = new Writer(WIREGUARD_HANDSHAKE.responseBytes).u8(WIREGUARD_HANDSHAKE.response).zeros(3)
  return writer.u32le(senderIndex).u32le(receiverIndex).bytes(noise).zeros(MACS_BYTES).done()
}

/** The parts of a response, macs unchecked; `undefined` for another type or length. */
export function decodeWireGuardResponse(bytes: Uint8Array): WireGuardResponse | undefined {
  const reader = begin(bytes, WIREGUARD_HANDSHAKE.response, WIREGUARD_HANDSHAKE.responseBytes)
  const senderIndex = reader.u32le()
  const receiverIndex = reader.u32le()
  const noise = reader.bytes(RESPONSE_NOISE_BYTES)
  return reader.failed ? undefined : { senderIndex, receiverIndex, noise }
}

/** A whole cookie reply. */
export function encodeWireGuardCookieReply(reply: CookieReply): Uint8Array {
  const writer = new Writer(WIREGUARD_HANDSHAKE.cookieReplyBytes).u8(WIREGUARD_HANDSHAKE.cookieReply).zeros(3)
  return writer.u32le(reply.receiverIndex).bytes(reply.nonce).bytes(reply.sealed).done()
}

/** The parts of a cookie reply; `undefined` for another type or length. */
export function decodeWireGuardCookieReply(bytes: Uint8Array): CookieReply | undefined {
  const reader = begin(bytes, WIREGUARD_HANDSHAKE.cookieReply, WIREGUARD_HANDSHAKE.cookieReplyBytes)
  const reply = { receiverIndex: reader.u32le(), nonce: reader.bytes(24), sealed: reader.bytes(32) }
  return reader.failed ? undefined : reply
}

/** The 12-byte timestamp of a moment in Unix time, and the time it stands for: at least one step after `afterMs`. */
export function encodeTimestamp(unixMs: number, afterMs = 0): { readonly bytes: Uint8Array; readonly unixMs: number } {
  let seconds = Math.floor(unixMs / 1000)
  let step = Math.floor(((unixMs - seconds * 1000) * 1e6) / TIMESTAMP_STEP_NS)
  const asMs = () => seconds * 1000 + (step * TIMESTAMP_STEP_NS) / 1e6
  if (asMs() <= afterMs) {
    seconds = Math.floor(afterMs / 1000)
    step = Math.round(((afterMs - seconds * 1000) * 1e6) / TIMESTAMP_STEP_NS) + 1
    if (step * TIMESTAMP_STEP_NS >= 1e9) {
      seconds++
      step = 0
    }
  }
  const bytes = new Uint8Array(12)
  const view = new DataView(bytes.buffer)
  const tai = seconds + TAI_SECONDS_AHEAD
  view.setUint32(0, TAI64_OF_1970_HIGH + Math.floor(tai / 0x1_0000_0000))
  view.setUint32(4, tai % 0x1_0000_0000)
  view.setUint32(8, step * TIMESTAMP_STEP_NS)
  return { bytes, unixMs: asMs() }
}

function begin(bytes: Uint8Array, type: number, length: number): Reader {
  const reader = new Reader(bytes)
  if (bytes.length !== length || reader.u8() !== type) reader.fail()
  reader.zeros(3)
  return reader
}
