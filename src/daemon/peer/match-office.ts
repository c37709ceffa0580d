// Matching over letters, for who asks and for who serves: one machine, one post office. Letters go out at the same rate from the
// first moment to the last, whether anybody is asked or not, and one bucket is listened in throughout.

import type { Random } from '#crypto/random.ts'
import { type XWingKeyPair, xwingFromSeed } from '#crypto/xwing.ts'
import type { Carrier } from '#discover/carrier.ts'
import { bucketOf, keyInBucket } from '#meet/letter.ts'
import { type MatchEvent, Matching, type MatchingOptions } from '#meet/matching.ts'
import { decodeMatch } from '#wire/match.ts'
import type { Config } from '../config.ts'
import { PostOffice } from '../devices/post-office.ts'

export interface MatchOfficeOptions {
  readonly carriers: readonly Carrier[]
  readonly meet: Pick<Config['meet'], 'bucket_bits' | 'work_bits' | 'interval_ms'>
  readonly random: Random
  /** Unix time. */
  readonly nowMs: () => number
  /** The key that askers know; who only asks has none. */
  readonly key?: XWingKeyPair
  readonly serve?: MatchingOptions['serve']
  readonly maxAnswersPerMinute?: number
  readonly onEvent?: (event: MatchEvent) => void
  /** So many letters go out at once when it opens: as many as there are requests then, or fewer. */
  readonly firstLetters?: number
}

export class MatchOffice {
  readonly #options: MatchOfficeOptions
  readonly #office: PostOffice<'match'>
  readonly #matching: Matching
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(options: MatchOfficeOptions) {
    this.#options = options
    const { carriers, meet, random, nowMs, key, serve, maxAnswersPerMinute = 0, firstLetters = 0 } = options
    const own = key ?? xwingFromSeed(random(32))
    const bucket = bucketOf(own.publicKey, meet.bucket_bits)
    this.#office = new PostOffice({
      carriers,
      bits: meet.bucket_bits,
      workBits: meet.work_bits,
      intervalMs: meet.interval_ms,
      firstLetters,
      random,
      nowMs,
      onOpened: content => this.#read(content),
    })
    this.#matching = new Matching({
      random,
      newKey: () => keyInBucket(bucket, random),
      hold: held => this.#office.hold(held, 'match'),
      drop: held => this.#office.drop(held),
      maxAnswersPerMinute,
      ...(serve && {
        serve: (offer, answer) =>
          serve(offer, (reply, onTurn) => {
            answer(reply, onTurn)
            this.#settle()
          }),
      }),
    })
    // Who only asks listens as well, under a key that nobody knows: else listening would say that something was asked.
    this.#office.hold(own, 'match')
  }

  get counters(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.#office.counters).map(([name, count]) => [`letters.${name}`, count]))
  }

  /** Asks the holder of a key; names the request, or gives `undefined` when 16 are under way. */
  ask(serverKey: Uint8Array, offer: Uint8Array): string | undefined {
    const ask = this.#matching.ask(serverKey, offer, this.#options.nowMs())
    this.#settle()
    return ask
  }

  /** Gives a request up. */
  withdraw(ask: string): void {
    this.#matching.withdraw(ask)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#timer)
    await this.#office.close()
  }

  #read(content: Uint8Array): void {
    const message = decodeMatch(content)
    if (message === undefined) return
    this.#matching.handle(message, this.#options.nowMs())
    this.#settle()
  }

  #settle(): void {
    if (this.#isClosed) return
    // A full line means that more is answered than posted: whoever asked asks another.
    for (const draft of this.#matching.take()) this.#office.post(draft)
    for (const event of this.#matching.takeEvents()) this.#options.onEvent?.(event)
    clearTimeout(this.#timer)
    const due = this.#matching.deadline()
    if (due === Number.POSITIVE_INFINITY) return
    this.#timer = setTimeout(
      () => {
        this.#matching.handleDeadline(this.#options.nowMs())
        this.#settle()
      },
      Math.max(0, due - this.#options.nowMs()),
    )
    this.#timer.unref()
  }
}
