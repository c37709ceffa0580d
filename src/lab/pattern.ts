// Bytes that are cheap to make, the same every time, and do not repeat at packet boundaries.

import { createHash } from 'node:crypto'

const BLOCK = Buffer.alloc(1_048_573)
for (let i = 0; i < BLOCK.length; i++) BLOCK[i] = (Math.imul(i, 2_654_435_761) >>> 13) & 0xff
const TWICE = Buffer.concat([BLOCK, BLOCK])

/** `length` bytes of the pattern from position `at`; at most 1 MiB. */
export function pattern(at: number, length: number): Uint8Array {
  const start = at % BLOCK.length
  return TWICE.subarray(start, start + length)
}

/** SHA-256 of the first `length` bytes, in hex. */
export function patternHash(length: number): string {
  const hash = createHash('sha256')
  for (let at = 0; at < length; at += 65_536) hash.update(pattern(at, Math.min(65_536, length - at)))
  return hash.digest('hex')
}
