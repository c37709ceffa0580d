// A letter: a message for one reader, without a sender, of one size (docs/spec/letters.md).
//
//   offset size  field
//   0      1     version = 1
//   1      1     bits of the bucket, 0 to 16
//   2      2     bucket, below 2^bits
//   4      4     expires, minutes since 1970
//   8      8     work: any bytes
//   16     4080  sealed (HPKE, associated data: the first 8 bytes): encapsulated key 1120, ciphertext 2944, tag 16
//
//   inside the seal, 2,944 bytes: length u16, content, zeros
//
// Little-endian. Length policy: exact, 4,096 bytes; content of 0 to 2,942.

import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'

export const LETTER_BYTES = 4096
export const LETTER_HEAD_BYTES = 8
export const LETTER_SEALED_AT = 16
export const MAX_BUCKET_BITS = 16
const WORK_AT = 8
const INSIDE_BYTES = 2944
export const MAX_CONTENT_BYTES = INSIDE_BYTES - 2
const MINUTE_MS = 60_000

/** The people that a letter may be for: those whose key hashes begin with these bits. */
export interface Bucket {
  readonly bits: number
  readonly number: number
}

export interface LetterHead {
  readonly bucket: Bucket
  /** Unix time in ms, a whole minute. */
  readonly expiresMs: number
}

/** The 8 bytes in front of the work. `expiresMs` is rounded up to a minute: a finer one would tell senders apart. */
export function encodeLetterHead({ bucket, expiresMs }: LetterHead): Uint8Array {
  return new Writer(LETTER_HEAD_BYTES)
    .u8(1)
    .u8(bucket.bits)
    .u16le(bucket.number)
    .u32le(Math.ceil(expiresMs / MINUTE_MS))
    .done()
}

/** A whole letter with no work in it. */
export function encodeLetter(head: Uint8Array, sealed: Uint8Array): Uint8Array {
  const writer = new Writer(LETTER_BYTES)
    .bytes(head)
    .zeros(LETTER_SEALED_AT - WORK_AT)
    .bytes(sealed)
  if (writer.offset !== LETTER_BYTES) throw new RangeError(`make a letter: ${sealed.length} sealed bytes`)
  return writer.done()
}

/** The head of a letter; `undefined` when it is malformed. */
export function decodeLetterHead(letter: Uint8Array): LetterHead | undefined {
  if (letter.length !== LETTER_BYTES) return undefined
  const reader = new Reader(letter)
  const version = reader.u8()
  const bucket = { bits: reader.u8(), number: reader.u16le() }
  const expiresMs = reader.u32le() * MINUTE_MS
  return version === 1 && isBucket(bucket) ? { bucket, expiresMs } : undefined
}

/** Puts a number from 0 to 2^53 - 1 into the work field. */
export function writeWork(letter: Uint8Array, work: number): void {
  new Writer(letter.subarray(WORK_AT, LETTER_SEALED_AT)).u64le(work)
}

/** A view of the work field. */
export function workBytes(letter: Uint8Array): Uint8Array {
  return letter.subarray(WORK_AT, LETTER_SEALED_AT)
}

/** The inside of a seal. Throws when the content is longer than 2,942 bytes. */
export function padContent(content: Uint8Array): Uint8Array {
  const writer = new Writer(INSIDE_BYTES).u16le(content.length).bytes(content)
  return writer.zeros(INSIDE_BYTES - writer.offset).done()
}

/** The content, a view; `undefined` when the inside is malformed. */
export function unpadContent(inside: Uint8Array): Uint8Array | undefined {
  if (inside.length !== INSIDE_BYTES) return undefined
  const reader = new Reader(inside)
  const content = reader.bytes(reader.u16le())
  reader.zeros(reader.remaining)
  return reader.done ? content : undefined
}

function isBucket({ bits, number }: Bucket): boolean {
  return bits <= MAX_BUCKET_BITS && number < 2 ** bits
}
