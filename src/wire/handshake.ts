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
//   32     8     sequence                1      3     zero
//   40     4     sender index            4      4     sender index
//   44     20    zero                    8      24    zero
//
// The ticket and the sequence are zero for a new session; else the ticket names the session whose keys are renewed, and
// the sequence grows with every renewal. The sender index in a payload is the one that counts: the header is not sealed,
// and an initiation in which the two differ is refused. mac1 and mac2 are WireGuard's (WireGuard paper §5.4.4).

import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { HOP_HANDSHAKE } from './packet-type.ts'

export const MAC_BYTES = 16
const TICKET_BYTES = 32
const INITIATION_NOISE_BYTES = 32 + 1200 + 80
const RESPONSE_NOISE_BYTES = 32 + 1104 + 48
const VERSION = 1

export interface Initiation {
  readonly senderIndex: number
  /** The Noise message. */
  readonly noise: Uint8Array
}

export interface Response extends Initiation {
  readonly receiverIndex: number
}

export interface InitiationPayload {
  /** The session to renew; `undefined` for a new one. */
  readonly renewal?: { readonly ticket: Uint8Array; readonly sequence: number } | undefined
  readonly senderIndex: number
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

/** The parts of an initiation, macs unchecked; `undefined` for another type or length. */
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

/** The parts of a response, macs unchecked; `undefined` for another type or length. */
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

/** A whole cookie reply. */
export function encodeCookieReply(reply: CookieReply): Uint8Array {
  const writer = new Writer(HOP_HANDSHAKE.cookieReplyBytes).u8(HOP_HANDSHAKE.cookieReply).zeros(3)
  return writer.u32le(reply.receiverIndex).bytes(reply.nonce).bytes(reply.sealed).done()
}

/** The parts of a cookie reply; `undefined` for another type or length. */
export function decodeCookieReply(bytes: Uint8Array): CookieReply | undefined {
  const reader = begin(bytes, HOP_HANDSHAKE.cookieReply, HOP_HANDSHAKE.cookieReplyBytes)
  const reply = { receiverIndex: reader.u32le(), nonce: reader.bytes(24), sealed: reader.bytes(32) }
  return reader.failed ? undefined : reply
}

/** The 64 plaintext bytes of an initiation's payload; a renewal's sequence is 1 to 2^53 - 1. */
export function encodeInitiationPayload({ renewal, senderIndex }: InitiationPayload): Uint8Array {
  const writer = new Writer(64)
  if (renewal === undefined) writer.zeros(TICKET_BYTES + 8)
  else writer.bytes(renewal.ticket).u64le(renewal.sequence)
  return writer.u32le(senderIndex).zeros(20).done()
}

/** What an initiation's payload says; `undefined` when a ticket stands without a sequence or the other way round. */
export function decodeInitiationPayload(bytes: Uint8Array): InitiationPayload | undefined {
  const reader = new Reader(bytes)
  const ticket = reader.bytes(TICKET_BYTES)
  const sequence = reader.u64le()
  const senderIndex = reader.u32le()
  reader.zeros(20)
  const isNew = ticket.every(byte => byte === 0)
  if (!reader.done || isNew !== (sequence === 0)) return undefined
  return isNew ? { senderIndex } : { renewal: { ticket: Uint8Array.from(ticket), sequence }, senderIndex }
}

/** The 32 plaintext bytes of a response's payload. */
export function encodeResponsePayload(senderIndex: number): Uint8Array {
  return new Writer(32).u8(VERSION).zeros(3).u32le(senderIndex).zeros(24).done()
}

/** The sender index that a response's payload repeats; `undefined` for a version that we do not speak. */
export function decodeResponsePayload(bytes: Uint8Array): number | undefined {
  const reader = new Reader(bytes)
  const version = reader.u8()
  reader.zeros(3)
  const senderIndex = reader.u32le()
  reader.zeros(24)
  return reader.done && version === VERSION ? senderIndex : undefined
}

function begin(bytes: Uint8Array, type: number, length: number): Reader {
  const reader = new Reader(bytes)
  if (bytes.length !== length || reader.u8() !== type) reader.fail()
  reader.zeros(3)
  return reader
}
