// What a rendezvous server and its clients say to each other, in binary WebSocket messages (docs/spec/letters.md).
//
//   1  listen   bits u8, bucket u16      client → server: send me the letters of this bucket
//   2  letter   4096 bytes               client → server: a letter to pass on; server → client: one that was
//   3  ignore   bits u8, bucket u16      client → server: no more of this bucket
//
// Little-endian. Length policy: exact.

import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { type Bucket, LETTER_BYTES, MAX_BUCKET_BITS } from './letter.ts'

export const MAX_RENDEZVOUS_BYTES = 1 + LETTER_BYTES
const KINDS = { listen: 1, letter: 2, ignore: 3 } as const

export type RendezvousMessage =
  | { readonly kind: 'listen' | 'ignore'; readonly bucket: Bucket }
  | { readonly kind: 'letter'; readonly letter: Uint8Array }

export function encodeRendezvous(message: RendezvousMessage): Uint8Array {
  const writer = new Writer(MAX_RENDEZVOUS_BYTES).u8(KINDS[message.kind])
  if (message.kind === 'letter') return writer.bytes(message.letter).done()
  return writer.u8(message.bucket.bits).u16le(message.bucket.number).done()
}

/** Decodes a message, with a view of the letter; `undefined` when it is malformed. */
export function decodeRendezvous(bytes: Uint8Array): RendezvousMessage | undefined {
  const reader = new Reader(bytes)
  const code = reader.u8()
  if (code === KINDS.letter) {
    const letter = reader.bytes(LETTER_BYTES)
    return reader.done ? { kind: 'letter', letter } : undefined
  }
  if (code !== KINDS.listen && code !== KINDS.ignore) return undefined
  const bucket = { bits: reader.u8(), number: reader.u16le() }
  const isSound = reader.done && bucket.bits <= MAX_BUCKET_BITS && bucket.number < 2 ** bucket.bits
  return isSound ? { kind: code === KINDS.listen ? 'listen' : 'ignore', bucket } : undefined
}
