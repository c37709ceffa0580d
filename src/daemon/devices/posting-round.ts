// One letter in every interval, over some carriers: takes a draft in its turn, seals it, finds its work, posts it.

import type { Random } from '#crypto/random.ts'
import type { Carrier } from '#discover/carrier.ts'
import { bucketOf, type Draft, sealLetter } from '#meet/letter.ts'
import { Poster } from '#meet/poster.ts'
import { beginWork, searchWork } from '#meet/work.ts'

/** Numbers tried before other things have their turn: 3 ms. */
const WORK_PIECE = 2_000
/** How soon it is looked again whether a carrier is ready. */
const LOOK_AGAIN_MS = 250

export interface PostingRoundOptions {
  readonly carriers: readonly Carrier[]
  readonly bits: number
  readonly workBits: number
  readonly intervalMs: number
  readonly firstLetters?: number
  /** How long its letters live. */
  readonly lifetimeMs: number
  readonly random: Random
  readonly nowMs: () => number
  readonly onPosted: (isPosted: boolean) => void
}

export class PostingRound {
  readonly #options: PostingRoundOptions
  readonly #poster: Poster
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(options: PostingRoundOptions) {
    this.#options = options
    this.#poster = new Poster(options, options.nowMs())
    this.#arm(0)
  }

  /** Puts a draft in line; false when the line is full. */
  post(draft: Draft): boolean {
    return this.#poster.post(draft)
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
  }

  #arm(leastMs: number): void {
    if (this.#isClosed) return
    const wait = Math.max(leastMs, this.#poster.deadline() - this.#options.nowMs())
    this.#timer = setTimeout(() => void this.#turn(), wait)
  }

  async #turn(): Promise<void> {
    // What is in line waits for a carrier; a letter that is posted nowhere is lost.
    if (!this.#options.carriers.some(carrier => carrier.isReady)) return this.#arm(LOOK_AGAIN_MS)
    const draft = this.#poster.take(this.#options.nowMs())
    if (draft !== undefined) {
      draft.onTurn?.()
      await this.#post(draft)
    }
    this.#arm(0)
  }

  async #post(draft: Draft): Promise<void> {
    const { bits, workBits, lifetimeMs, nowMs, carriers, onPosted } = this.#options
    const isCover = draft.content.length === 0
    const some = carriers.filter(({ takesCover }) => !isCover || takesCover !== false)
    if (some.length === 0) return
    const letter = sealLetter(draft, bits, nowMs() + lifetimeMs)
    if (letter === undefined) return onPosted(false)
    const search = beginWork(letter, workBits)
    while (!searchWork(search, WORK_PIECE)) {
      await new Promise(resolve => setImmediate(resolve))
      if (this.#isClosed) return
    }
    const bucket = bucketOf(draft.to, bits)
    const results = await Promise.allSettled(some.map(carrier => carrier.post(bucket, letter)))
    onPosted(results.some(({ status }) => status === 'fulfilled'))
  }
}
