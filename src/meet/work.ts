// Proof of work: who posts a letter has tried about 2^bits numbers, who checks it tries one. It makes flooding cost, and
// nothing more: it is not what keeps anything secret.
//
//   SHA-256(SHA-256(label, the letter without its work), work) begins with `bits` zero bits

import { createHash, hash } from 'node:crypto'
import { copyBytes } from '#bytes/copy.ts'
import { LETTER_HEAD_BYTES, LETTER_SEALED_AT, workBytes, writeWork } from '#wire/letter.ts'

const LABEL = Buffer.from('hoplite letter work v1')

/** A search that can be done in pieces, so that nothing else waits for it. */
export interface WorkSearch {
  readonly letter: Uint8Array
  readonly bits: number
  readonly digest: Uint8Array
  next: number
}

/** Begins to look for the work of `letter`, which is written into it when it is found. */
export function beginWork(letter: Uint8Array, bits: number): WorkSearch {
  return { letter, bits, digest: digestOf(letter), next: 0 }
}

/** Tries `count` more numbers (1 us each); true when the letter has its work. */
export function searchWork(search: WorkSearch, count: number): boolean {
  const { letter, bits, digest } = search
  const tried = Buffer.concat([digest, new Uint8Array(8)])
  for (const end = search.next + count; search.next < end; search.next++) {
    tried.writeUInt32LE(search.next % 0x1_0000_0000, 32)
    tried.writeUInt32LE(Math.floor(search.next / 0x1_0000_0000), 36)
    if (leadingZeros(hash('sha256', tried, 'buffer')) < bits) continue
    writeWork(letter, search.next)
    return true
  }
  return false
}

/** How many bits of work are in a letter. */
export function workOf(letter: Uint8Array): number {
  return leadingZeros(hash('sha256', Buffer.concat([digestOf(letter), workBytes(letter)]), 'buffer'))
}

/** Names a letter, whatever its work: two that differ in that alone are the same. */
export function letterId(letter: Uint8Array): string {
  return Buffer.from(copyBytes(digestOf(letter), 0, 16)).toString('base64')
}

function digestOf(letter: Uint8Array): Buffer {
  return createHash('sha256')
    .update(LABEL)
    .update(letter.subarray(0, LETTER_HEAD_BYTES))
    .update(letter.subarray(LETTER_SEALED_AT))
    .digest()
}

function leadingZeros(bytes: Uint8Array): number {
  let zeros = 0
  for (const byte of bytes) {
    zeros += Math.clz32(byte) - 24
    if (byte !== 0) break
  }
  return zeros
}
