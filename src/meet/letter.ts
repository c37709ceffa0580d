// Making and opening letters. Anybody can make one for a key; nobody can tell from it whose key that is, or who made it.

import { createHash } from 'node:crypto'
import { hpkeOpen, hpkeSeal } from '#crypto/hpke.ts'
import type { Random } from '#crypto/random.ts'
import { type XWingKeyPair, xwingFromSeed } from '#crypto/xwing.ts'
import {
  type Bucket,
  encodeLetter,
  encodeLetterHead,
  LETTER_HEAD_BYTES,
  LETTER_SEALED_AT,
  padContent,
  unpadContent,
} from '#wire/letter.ts'

const INFO = Buffer.from('hoplite letter v1')

/** A letter that is yet to be sealed. */
export interface Draft {
  /** The reader's X-Wing key. */
  readonly to: Uint8Array
  /** At most MAX_CONTENT_BYTES. */
  readonly content: Uint8Array
  /** Whether it is of use tomorrow, to a reader who is not there today. */
  readonly keeps?: boolean
  /** Of drafts with one topic that wait, only the newest counts. */
  readonly topic?: string
  /** Its turn has come: it is about to be sealed and posted. */
  readonly onTurn?: () => void
}

/** The bucket of a key: the first bits of its hash. */
export function bucketOf(publicKey: Uint8Array, bits: number): Bucket {
  const hash = createHash('sha256').update('hoplite bucket v1').update(publicKey).digest()
  return { bits, number: hash.readUInt16BE(0) >>> (16 - bits) }
}

/**
 * A fresh key whose letters come to a bucket that is listened in anyway: to begin listening in another would tell that
 * something is going on. Tries 2^bits keys, 0.1 ms each.
 */
export function keyInBucket(bucket: Bucket, random: Random): XWingKeyPair {
  for (;;) {
    const key = xwingFromSeed(random(32))
    if (bucketOf(key.publicKey, bucket.bits).number === bucket.number) return key
  }
}

/** Seals a draft; the letter still lacks its work. `undefined` when the reader's key is unusable. */
export function sealLetter(draft: Draft, bits: number, expiresMs: number): Uint8Array | undefined {
  const head = encodeLetterHead({ bucket: bucketOf(draft.to, bits), expiresMs })
  const sealed = hpkeSeal(draft.to, INFO, head, padContent(draft.content))
  return sealed && encodeLetter(head, sealed)
}

/** The content of a letter for this key; `undefined` when it is for somebody else. Costs 0.1 ms. */
export function openLetter(letter: Uint8Array, key: XWingKeyPair): Uint8Array | undefined {
  const head = letter.subarray(0, LETTER_HEAD_BYTES)
  const inside = hpkeOpen(key, INFO, head, letter.subarray(LETTER_SEALED_AT))
  return inside && unpadContent(inside)
}
