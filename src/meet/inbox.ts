// The reader's side: letters of one's buckets come in, and those that open with one of one's keys are for us.
//
// Bounds: 64 keys, each with its purpose; more is a bug. Openings in a second are limited, so that a flood that paid for its
// work cannot take the whole machine: what comes beyond is refused as `busy`.

import type { XWingKeyPair } from '#crypto/xwing.ts'
import type { Bucket } from '#wire/letter.ts'
import { type GateOptions, LetterGate, type Refused } from './gate.ts'
import { bucketOf, openLetter } from './letter.ts'

const MAX_KEYS = 64

export interface InboxOptions extends GateOptions {
  readonly bucketBits: number
  readonly maxOpeningsPerSecond: number
}

interface Held<Purpose> {
  readonly key: XWingKeyPair
  readonly bucket: number
  readonly purpose: Purpose
}

export type Received<Purpose> =
  | { readonly kind: 'opened'; readonly content: Uint8Array; readonly purpose: Purpose }
  | { readonly kind: 'foreign' }
  | { readonly kind: 'refused'; readonly reason: Refused | 'busy' }

export class Inbox<Purpose> {
  readonly #options: InboxOptions
  readonly #gate: LetterGate
  #keys: Held<Purpose>[] = []
  #openings = 0
  #secondMs = 0

  constructor(options: InboxOptions) {
    this.#options = options
    this.#gate = new LetterGate(options)
  }

  /** The buckets to listen in. */
  get buckets(): readonly Bucket[] {
    const { bucketBits: bits } = this.#options
    return [...new Set(this.#keys.map(({ bucket }) => bucket))].map(number => ({ bits, number }))
  }

  /** Takes a key; what opens with it is given back with `purpose`. */
  hold(key: XWingKeyPair, purpose: Purpose): void {
    if (this.#keys.length >= MAX_KEYS) throw new RangeError(`hold a key: there are ${MAX_KEYS} already`)
    this.#keys.push({ key, purpose, bucket: bucketOf(key.publicKey, this.#options.bucketBits).number })
  }

  /** Lets a key go. */
  drop(key: XWingKeyPair): void {
    this.#keys = this.#keys.filter(held => held.key !== key)
  }

  /** A letter from `source`: a peer or a server, whoever handed it over. `now` is Unix time in ms. */
  receive(letter: Uint8Array, source: string, now: number): Received<Purpose> {
    const head = this.#gate.admit(letter, source, now)
    if ('refused' in head) return { kind: 'refused', reason: head.refused }
    if (head.bucket.bits !== this.#options.bucketBits) return { kind: 'foreign' }
    for (const { key, bucket, purpose } of this.#keys) {
      if (bucket !== head.bucket.number) continue
      if (!this.#mayOpen(now)) return { kind: 'refused', reason: 'busy' }
      const content = openLetter(letter, key)
      if (content !== undefined) return { kind: 'opened', content, purpose }
    }
    return { kind: 'foreign' }
  }

  #mayOpen(now: number): boolean {
    if (now - this.#secondMs >= 1_000) {
      this.#secondMs = now
      this.#openings = 0
    }
    return ++this.#openings <= this.#options.maxOpeningsPerSecond
  }
}
