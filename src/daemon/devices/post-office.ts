// Letters come and go here: the machines of `meet` over the carriers of `discover`, with timers. One letter is posted in every
// interval over all carriers; those that keep are left in the mailbox as well, which has an interval of its own.

import type { Random } from '#crypto/random.ts'
import type { XWingKeyPair } from '#crypto/xwing.ts'
import { bucketName, type Carrier } from '#discover/carrier.ts'
import { GOSSIP_LIFETIME_MS } from '#discover/gossip-carrier.ts'
import { MAIL_LIFETIME_MS } from '#discover/mailbox-carrier.ts'
import { Inbox } from '#meet/inbox.ts'
import type { Draft } from '#meet/letter.ts'
import { PostingRound } from './posting-round.ts'

const MAIL_INTERVAL_MS = 600_000
const PER_SECOND = 200
const BURST = 2_000
/** A fifth of one core. */
const MAX_OPENINGS_PER_SECOND = 2_000

export interface PostOfficeOptions<Purpose> {
  /** `mailbox` among them is for letters that keep. */
  readonly carriers: readonly Carrier[]
  readonly bits: number
  readonly workBits: number
  readonly intervalMs: number
  /** So many letters go out at once when it opens; none without it. */
  readonly firstLetters?: number
  readonly random: Random
  /** Unix time. */
  readonly nowMs: () => number
  readonly onOpened: (content: Uint8Array, purpose: Purpose) => void
}

interface Counter {
  opened: number
  foreign: number
  refused: number
  posted: number
  notPosted: number
}

export class PostOffice<Purpose> {
  readonly counters: Counter = { opened: 0, foreign: 0, refused: 0, posted: 0, notPosted: 0 }
  readonly #options: PostOfficeOptions<Purpose>
  readonly #inbox: Inbox<Purpose>
  readonly #subscriptions = new Map<string, readonly (() => void)[]>()
  readonly #live: PostingRound | undefined
  readonly #mail: PostingRound | undefined

  constructor(options: PostOfficeOptions<Purpose>) {
    this.#options = options
    const { bits, workBits, intervalMs, random, carriers, nowMs, firstLetters = 0 } = options
    this.#inbox = new Inbox({
      bucketBits: bits,
      workBits,
      maxLifetimeMs: MAIL_LIFETIME_MS,
      perSecond: PER_SECOND,
      burst: BURST,
      maxOpeningsPerSecond: MAX_OPENINGS_PER_SECOND,
    })
    const round = (of: (carrier: Carrier) => boolean, everyMs: number, lifetimeMs: number, first: number) => {
      const some = carriers.filter(of)
      if (some.length === 0) return undefined
      const onPosted = (isPosted: boolean) => this.counters[isPosted ? 'posted' : 'notPosted']++
      return new PostingRound({
        carriers: some,
        bits,
        workBits,
        intervalMs: everyMs,
        firstLetters: first,
        lifetimeMs,
        random,
        nowMs,
        onPosted,
      })
    }
    this.#live = round(({ name }) => name !== 'mailbox', intervalMs, GOSSIP_LIFETIME_MS, firstLetters)
    this.#mail = round(({ name }) => name === 'mailbox', MAIL_INTERVAL_MS, MAIL_LIFETIME_MS, 0)
  }

  /** Whether a letter that is posted now has a chance to arrive. */
  get isReady(): boolean {
    return this.#options.carriers.some(carrier => carrier.isReady)
  }

  /** Takes letters for a key, from now on. */
  hold(key: XWingKeyPair, purpose: Purpose): void {
    this.#inbox.hold(key, purpose)
    this.#listen()
  }

  drop(key: XWingKeyPair): void {
    this.#inbox.drop(key)
    this.#listen()
  }

  /** Puts a draft in line; false when the line is full. */
  post(draft: Draft): boolean {
    const isKept = draft.keeps === true && this.#mail?.post(draft) === true
    return this.#live?.post(draft) === true || isKept
  }

  async close(): Promise<void> {
    this.#live?.close()
    this.#mail?.close()
    for (const ends of this.#subscriptions.values()) for (const end of ends) end()
    await Promise.allSettled(this.#options.carriers.map(carrier => carrier.close()))
  }

  #listen(): void {
    const wanted = new Map(this.#inbox.buckets.map(bucket => [bucketName(bucket), bucket]))
    for (const [name, ends] of this.#subscriptions) {
      if (wanted.has(name)) continue
      for (const end of ends) end()
      this.#subscriptions.delete(name)
    }
    for (const [name, bucket] of wanted) {
      if (this.#subscriptions.has(name)) continue
      const onLetter = (letter: Uint8Array, source: string) => this.#receive(letter, source)
      const ends = this.#options.carriers.map(carrier => carrier.subscribe(bucket, onLetter))
      this.#subscriptions.set(name, ends)
    }
  }

  #receive(letter: Uint8Array, source: string): void {
    const received = this.#inbox.receive(letter, source, this.#options.nowMs())
    this.counters[received.kind]++
    if (received.kind === 'opened') this.#options.onOpened(received.content, received.purpose)
  }
}
