// When letters are posted: one in every interval, whether there is something to say or not. Who sees that we post learns
// nothing from when and how often, and cannot tell a question from the answer that follows it.
//
// Who comes may post its first letters at once, as long as it always posts so many: that it came is seen anyway.
//
// What there is to say waits for its turn; a cover letter, for a key that nobody holds, takes an empty one. Bound: 64 drafts
// wait; more are refused, since whoever waits that long has lost patience.

import type { Random } from '#crypto/random.ts'
import { xwingFromSeed } from '#crypto/xwing.ts'
import type { Draft } from './letter.ts'

const MAX_WAITING = 64

export interface PosterOptions {
  readonly intervalMs: number
  readonly random: Random
  /** So many letters go out when it begins, whether there is something to say or not; none without it. */
  readonly firstLetters?: number
}

/** What is to be said first is found out meanwhile. */
const BEGIN_MS = 50

export class Poster {
  readonly #options: PosterOptions
  readonly #waiting: Draft[] = []
  #nextMs: number
  #firstLeft: number

  constructor(options: PosterOptions, now: number) {
    this.#options = options
    this.#firstLeft = options.firstLetters ?? 0
    // Everybody's turn comes at another moment, which says nothing of when they came.
    this.#nextMs = now + (this.#firstLeft > 0 ? BEGIN_MS : options.intervalMs * this.#fraction())
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /** Puts a draft in line; false when the line is full. */
  post(draft: Draft): boolean {
    const older = this.#waiting.findIndex(({ topic }) => topic !== undefined && topic === draft.topic)
    if (older >= 0) {
      this.#waiting[older] = draft
      return true
    }
    if (this.#waiting.length >= MAX_WAITING) return false
    this.#waiting.push(draft)
    return true
  }

  /** When the next letter goes out. */
  deadline(): number {
    return this.#nextMs
  }

  /** The draft whose turn it is; `undefined` before the deadline. */
  take(now: number): Draft | undefined {
    if (now < this.#nextMs) return undefined
    const { intervalMs } = this.#options
    if (--this.#firstLeft > 0) this.#nextMs = now
    // After the first ones, a moment of its own.
    else if (this.#firstLeft === 0) this.#nextMs = now + intervalMs * (0.5 + this.#fraction())
    // A machine that slept posts once, not once for every interval that it missed.
    else this.#nextMs = Math.max(this.#nextMs + intervalMs, now + intervalMs / 2)
    return this.#waiting.shift() ?? this.#cover()
  }

  /** The bucket of a cover letter is as random as that of a real one; so is what stands in it, to all but the reader. */
  #cover(): Draft {
    return { to: xwingFromSeed(this.#options.random(32)).publicKey, content: new Uint8Array(0) }
  }

  #fraction(): number {
    return Buffer.from(this.#options.random(4)).readUInt32LE(0) / 2 ** 32
  }
}
