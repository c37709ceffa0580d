// Codes by which two devices find each other and prove that one person holds both.
//
//   short   four words of a list of 2,048: two say where to look (the place), two are the secret
//   long    "hoplite-pair1-" and base64url of place 16, secret 16, check 4 (SHA-256 of label, place and secret): for a QR
//           picture, a file or a line to copy
//
// One guess is possible for each code: see pairing.ts. So two words, 22 bits, are enough of a secret.

import { createHash } from 'node:crypto'
import { wordlist } from '@scure/bip39/wordlists/english.js'
import { copyBytes } from '#bytes/copy.ts'
import type { Random } from '#crypto/random.ts'
import { type XWingKeyPair, xwingFromSeed } from '#crypto/xwing.ts'

const LONG_PREFIX = 'hoplite-pair1-'
const LONG_BYTES = 36
const WORD_BITS = 11
const MAX_TYPED = 200

export interface PairCode {
  /** What is typed, shown or copied. */
  readonly text: string
  /** Says where the two meet; anybody may guess it. */
  readonly place: Uint8Array
  /** What the PAKE proves. */
  readonly secret: Uint8Array
}

type Suits = (placeKey: XWingKeyPair) => boolean

/** What is wrong with a code that was typed, for a person. */
export interface BadCode {
  readonly problem: string
}

/** A fresh code of four words. `suits` says whether the key of its place will do; it should for one in 2^bits. */
export function makeShortCode(random: Random, suits: Suits = () => true): PairCode {
  return tryUntil(() => shortCode(toWords(random(6), 4)), suits)
}

/** A fresh code for pictures and files. */
export function makeLongCode(random: Random, suits: Suits = () => true): PairCode {
  return tryUntil(() => longCode(random(16), random(16)), suits)
}

/** Reads either kind of code, however it is spaced and cased. */
export function readCode(typed: string): PairCode | BadCode {
  const text = typed.trim()
  if (text.length > MAX_TYPED) return { problem: 'it is too long to be a code' }
  if (text.startsWith(LONG_PREFIX)) return readLong(text.slice(LONG_PREFIX.length))
  if (text.startsWith('hoplite-')) return { problem: 'it is of a version that this program does not know, or cut off' }
  const words = text.toLowerCase().split(/[\s-]+/)
  if (words.length !== 4) return { problem: `a code has four words, this has ${text === '' ? 0 : words.length}` }
  const full = words.map(completeWord)
  const unknown = words.find((_, i) => full[i] === undefined)
  return unknown === undefined ? shortCode(full as string[]) : { problem: `"${unknown}" is not a word of a code` }
}

/** The key that a place's first letter is sealed for. It hides nothing from who knows the place. */
export function placeKey(place: Uint8Array): XWingKeyPair {
  return xwingFromSeed(createHash('sha256').update('hoplite pair place v1').update(place).digest())
}

/** `count` words for the first bits of `bytes`, 11 for each. */
export function toWords(bytes: Uint8Array, count: number): string[] {
  let bits = 0n
  for (const byte of bytes) bits = (bits << 8n) | BigInt(byte)
  const spare = BigInt(bytes.length * 8 - count * WORD_BITS)
  return Array.from({ length: count }, (_, i) => {
    const at = BigInt((count - 1 - i) * WORD_BITS) + spare
    return wordlist[Number((bits >> at) & 0x7ffn)] ?? ''
  })
}

function tryUntil(make: () => PairCode, suits: Suits): PairCode {
  for (;;) {
    const code = make()
    if (suits(placeKey(code.place))) return code
  }
}

function shortCode(words: readonly string[]): PairCode {
  return {
    text: words.join('-'),
    place: Buffer.from(words.slice(0, 2).join('-')),
    secret: Buffer.from(words.slice(2).join('-')),
  }
}

function longCode(place: Uint8Array, secret: Uint8Array): PairCode {
  const bytes = Buffer.concat([place, secret, checkOf(place, secret)])
  return { text: LONG_PREFIX + bytes.toString('base64url'), place, secret }
}

function readLong(text: string): PairCode | BadCode {
  const bytes = Buffer.from(text, 'base64url')
  const [place, secret] = [copyBytes(bytes, 0, 16), copyBytes(bytes, 16, 32)]
  const isWhole =
    bytes.length === LONG_BYTES &&
    bytes.toString('base64url') === text &&
    checkOf(place, secret).equals(bytes.subarray(32))
  return isWhole ? longCode(place, secret) : { problem: 'it is cut off or damaged: copy it whole' }
}

function checkOf(place: Uint8Array, secret: Uint8Array): Buffer {
  return createHash('sha256').update('hoplite pair check v1').update(place).update(secret).digest().subarray(0, 4)
}

/** Four letters tell every word of the list from the others. */
function completeWord(typed: string): string | undefined {
  return wordlist.find(word => word === typed || (typed.length >= 4 && word.startsWith(typed)))
}
