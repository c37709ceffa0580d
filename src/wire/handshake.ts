// Messages of the hop handshake (docs/spec/handshake.md). Little-endian; lengths are exact.
//
//   initiation, 1352 bytes               response, 1228 bytes                cookie reply, 64 bytes
//   offset size  field                   offset size  field                  offset size  field
//   0      1     type = 5                0      1     type = 6               0      1     type = 7
//   1      3     zero                    1      3     zero                   1      3     zero
//   4      4     sender index            4      4     sender index           4      4     receiver index
//   8      32    e                       8      4     receiver index         8      24    nonce
//   40     1200  e1, sealed              12     32    e                      32     32    cookie, sealed
//   1240   80    payload, sealed         44     1104  ekem1, sealed
//   1320   16    mac1                    1148   48    payload, sealed
//   1336   16    mac2                    1196   16    mac1
//                                        1212   16    mac2
//
//   initiation payload, 64 bytes         response payload, 32 bytes
//   0      32    ticket                  0      1     version = 1
//   32     8     sequence                1      31    zero
//   40     24    zero
//
// The ticket is all zero for a new session; else it names the session whose keys are renewed, and the sequence grows with
// every renewal. mac1 and mac2 are WireGuard's (WireGuard paper §5.4.4).

import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { HOP_HANDSHAKE } from './packet-type.ts'

export const MAC_BYTES = 16
export const TICKET_BYTES = 32
const INITIATION_NOISE_BYTES = 32 + 1200 + 80
const RESPONSE_NOISE_BYTES = 32 + 1104 + 48

export interface Initiation {
  readonly senderIndex: number
  /** The Noise message. */
  readonly noise: Uint8Array
}

export interface Response extends Initiation {
  readonly receiverIndex: number
}

export interface InitiationPayload {
  /** All zero for a new session. */
  readonly ticket: Uint8Array
  readonly sequence: number
}

/** An initiation with room for its macs, which are zero. */
export function encodeInitiation(initiation: Initiation): Uint8Array {
  const writer = new Writer(HOP_HANDSHAKE.initiationBytes).u8(HOP_HANDSHAKE.initiation).zeros(3)
  return writer
    .u32le(initiation.senderIndex)
    .bytes(initiation.noise)
    .zeros(2 * MAC_BYTES)
    .done()
}

export function decodeInitiation(bytes: Uint8Array): Initiation | undefined {
  const reader = begin(bytes, HOP_HANDSHAKE.initiation, HOP_HANDSHAKE.initiationBytes)
  const senderIndex = reader.u32le()
  const noise = reader.bytes(INITIATION_NOISE_BYTES)
  return reader.failed ? undefined : { senderIndex, noise }
}

/** A response with room for its macs, which are zero. */
export function encodeResponse(response: Response): Uint8Array {
  const writer = new Writer(HOP_HANDSHAKE.responseBytes).u8(HOP_HANDSHAKE.response).zeros(3)
  writer.u32le(response.senderIndex).u32le(response.receiverIndex)
  return writer
    .bytes(response.noise)
    .zeros(2 * MAC_BYTES)
    .done()
}

export function decodeResponse(bytes: Uint8Array): Response | undefined {
  const reader = begin(bytes, HOP_HANDSHAKE.response, HOP_HANDSHAKE.responseBytes)
  const senderIndex = reader.u32le()
  const receiverIndex = reader.u32le()
  const noise = reader.bytes(RESPONSE_NOISE_BYTES)
  return reader.failed ? undefined : { senderIndex, receiverIndex, noise }
}

export interface CookieReply {
  readonly receiverIndex: number
  readonly nonce: Uint8Array
  readonly sealed: Uint8Array
}

export function encodeCookieReply(reply: CookieReply): Uint8Array {
  const writer = new Writer(HOP_HANDSHAKE.cookieReplyBytes).u8(HOP_HANDSHAKE.cookieReply).zeros(3)
  return writer.u32le(reply.receiverIndex).bytes(reply.nonce).bytes(reply.sealed).done()
}

export function decodeCookieReply(bytes: Uint8Array): CookieReply | undefined {
  const reader = begin(bytes, HOP_HANDSHAKE.cookieReply, HOP_HANDSHAKE.cookieReplyBytes)
  const reply = { receiverIndex: reader.u32le(), nonce: reader.bytes(24), sealed: reader.bytes(32) }
  return reader.failed ? undefined : reply
}

export function encodeInitiationPayload(payload: InitiationPayload): Uint8Array {
  return new Writer(64).bytes(payload.ticket).u64le(payload.sequence).zeros(24).done()
}

export function decodeInitiationPayload(bytes: Uint8Array): InitiationPayload | undefined {
  const reader = new Reader(bytes)
  const payload = { ticket: reader.bytes(TICKET_BYTES), sequence: reader.u64le() }
  reader.zeros(24)
  return reader.done ? payload : undefined
}

export function encodeResponsePayload(): Uint8Array {
  return new Writer(32).u8(1).zeros(31).done()
}

/** Whether the payload is of a version we speak. */
export function isResponsePayload(bytes: Uint8Array): boolean {
  const reader = new Reader(bytes)
  const version = reader.u8()
  reader.zeros(31)
  return reader.done && version === 1
}

function begin(bytes: Uint8Array, type: number, length: number): Reader {
  const reader = new Reader(bytes)
  if (bytes.length !== length || reader.u8() !== type) reader.fail()
  reader.zeros(3)
  return reader
}
