// Flow control of one stream: how far its sender may go. Each direction has its own.
//
// The messages travel as unordered, unreliable messages of the stream (UDX type MESSAGE), next to its bytes. They carry a
// total, never a difference, so a lost, repeated or late one does no harm: a sender that has been stopped asks again.
//
//   kind 1  window   limit u64, little-endian: how many bytes of the stream may have been sent in all
//   kind 2  ask      empty: the sender is stopped and wants to know its limit
//
//   offset size  field
//   0      1     kind
//   1      8     limit (kind 1 only)
//
// Length policy: exact. Until a window is received the limit is INITIAL_WINDOW. Source: our own.

import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'

/** What may be sent before the first window is received, in bytes. */
export const INITIAL_WINDOW = 65_536

export type WindowMessage = { readonly kind: 'window'; readonly limit: number } | { readonly kind: 'ask' }

/** Encodes a message; `limit` is a safe integer. */
export function encodeWindow(message: WindowMessage): Uint8Array {
  const writer = new Writer(9)
  if (message.kind === 'window') writer.u8(1).u64le(message.limit)
  else writer.u8(2)
  return writer.done()
}

/** Decodes a message; `undefined` when it is malformed. */
export function decodeWindow(bytes: Uint8Array): WindowMessage | undefined {
  const reader = new Reader(bytes)
  const kind = reader.u8()
  const message: WindowMessage | undefined =
    kind === 1 ? { kind: 'window', limit: reader.u64le() } : kind === 2 ? { kind: 'ask' } : undefined
  return message !== undefined && reader.done ? message : undefined
}
