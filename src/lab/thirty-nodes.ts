// Thirty nodes that look for peers over letters, under a virtual clock, with somebody who sees everything but the insides: every
// letter, when it was posted, from whose connection, and who listens in which bucket.

import { type Random, seededRandom } from '#crypto/random.ts'
import { type XWingKeyPair, xwingFromSeed } from '#crypto/xwing.ts'
import { Inbox } from '#meet/inbox.ts'
import { bucketOf, type Draft, keyInBucket, sealLetter } from '#meet/letter.ts'
import { Matching } from '#meet/matching.ts'
import { Poster } from '#meet/poster.ts'
import { beginWork, searchWork } from '#meet/work.ts'
import { decodeMatch } from '#wire/match.ts'

const WORK_BITS = 2
const DELAY_MS = 40
const LIMITS = {
  workBits: WORK_BITS,
  maxLifetimeMs: 600_000,
  perSecond: 1_000,
  burst: 2_000,
  maxOpeningsPerSecond: 5_000,
}

/** What the observer wrote down. */
export interface Sighting {
  readonly atMs: number
  /** Whose connection it came from. */
  readonly node: number
  readonly bucket: number
  readonly letter: Uint8Array
}

export interface ThirtyOptions {
  readonly seed: string
  readonly bits: number
  /** Without it, letters go out as soon as there is something to say: what an observer could do then. */
  readonly hasCover: boolean
}

export interface Asked {
  readonly asker: number
  readonly server: number
  readonly atMs: number
  readonly answeredMs: number | undefined
  /** What the answer said. */
  readonly offer: string | undefined
}

const INTERVAL_MS = 4_000
const COUNT = 30

export class ThirtyNodes {
  now = 1_800_000_000_000
  readonly seen: Sighting[] = []
  /** The truth, which the observer is measured by. */
  readonly truth: Asked[] = []
  readonly nodes: Node[]
  readonly options: ThirtyOptions
  readonly random: Random
  #queue: { readonly atMs: number; readonly run: () => void }[] = []

  constructor(options: ThirtyOptions) {
    this.options = options
    this.random = seededRandom(options.seed)
    this.nodes = Array.from({ length: COUNT }, (_, index) => new Node(this, index))
  }

  /** The first half asks; the second half serves. */
  get askers(): Node[] {
    return this.nodes.slice(0, COUNT / 2)
  }

  get servers(): Node[] {
    return this.nodes.slice(COUNT / 2)
  }

  /** Every asker asks a server drawn at random, at some moment of the next four intervals; runs until all have answers. */
  round(): void {
    const began = this.now
    for (const asker of this.askers) {
      const server = this.servers[(this.random(1)[0] ?? 0) % this.servers.length] as Node
      this.at(began + this.#fraction() * 4 * INTERVAL_MS, () => asker.ask(server))
    }
    this.run(10 * INTERVAL_MS)
  }

  at(atMs: number, run: () => void): void {
    this.#queue.push({ atMs, run })
  }

  run(ms: number): void {
    const end = this.now + ms
    for (;;) {
      const next = Math.min(...this.#queue.map(({ atMs }) => atMs), ...this.nodes.map(node => node.deadline()))
      if (next > end) break
      this.now = Math.max(this.now, next)
      const due = this.#queue.filter(({ atMs }) => atMs <= this.now)
      this.#queue = this.#queue.filter(({ atMs }) => atMs > this.now)
      for (const { run } of due) run()
      for (const node of this.nodes) if (node.deadline() <= this.now) node.handleDeadline()
    }
    this.now = end
  }

  post(from: Node, draft: Draft): void {
    const { bits } = this.options
    const letter = sealLetter(draft, bits, this.now + 600_000)
    if (letter === undefined || !searchWork(beginWork(letter, WORK_BITS), 10_000)) return
    const bucket = bucketOf(draft.to, bits).number
    this.seen.push({ atMs: this.now, node: from.index, bucket, letter })
    this.at(this.now + DELAY_MS, () => {
      for (const node of this.nodes) if (node !== from) node.receive(letter)
    })
  }

  #fraction(): number {
    return Buffer.from(this.random(4)).readUInt32LE(0) / 2 ** 32
  }
}

export class Node {
  readonly index: number
  /** Must never be seen by anybody but the one it meets. */
  readonly address: string
  readonly key: XWingKeyPair
  readonly opened: string[] = []
  readonly #net: ThirtyNodes
  readonly #inbox: Inbox<'letters'>
  readonly #poster: Poster
  readonly #matching: Matching
  #asked: { readonly ask: string; readonly server: number; readonly atMs: number }[] = []

  constructor(net: ThirtyNodes, index: number) {
    const { bits } = net.options
    this.#net = net
    this.index = index
    this.address = `198.51.100.${100 + index}:${40_000 + index}`
    this.key = xwingFromSeed(net.random(32))
    this.#inbox = new Inbox({ ...LIMITS, bucketBits: bits })
    this.#inbox.hold(this.key, 'letters')
    this.#poster = new Poster({ intervalMs: INTERVAL_MS, random: net.random }, net.now)
    this.#matching = new Matching({
      random: net.random,
      newKey: () => keyInBucket(this.bucket, net.random),
      hold: key => this.#inbox.hold(key, 'letters'),
      drop: key => this.#inbox.drop(key),
      serve: (_offer, answer) => answer(Buffer.from(this.address)),
      maxAnswersPerMinute: 60,
    })
  }

  /** What the observer sees of us beside our letters. */
  get bucket() {
    return bucketOf(this.key.publicKey, this.#net.options.bits)
  }

  get buckets(): readonly number[] {
    return this.#inbox.buckets.map(({ number }) => number)
  }

  ask(server: Node): void {
    const ask = this.#matching.ask(server.key.publicKey, Buffer.from(this.address), this.#net.now)
    if (ask !== undefined) this.#asked.push({ ask, server: server.index, atMs: this.#net.now })
    this.#settle()
  }

  receive(letter: Uint8Array): void {
    const received = this.#inbox.receive(letter, 'the network', this.#net.now)
    if (received.kind !== 'opened') return
    const message = decodeMatch(received.content)
    if (message === undefined) return
    this.opened.push(Buffer.from(message.offer).toString())
    this.#matching.handle(message, this.#net.now)
    this.#settle()
  }

  deadline(): number {
    return this.#net.options.hasCover ? this.#poster.deadline() : Number.POSITIVE_INFINITY
  }

  handleDeadline(): void {
    const draft = this.#poster.take(this.#net.now)
    if (draft !== undefined) this.#net.post(this, draft)
  }

  #settle(): void {
    for (const draft of this.#matching.take()) {
      if (this.#net.options.hasCover) this.#poster.post(draft)
      else this.#net.post(this, draft)
    }
    for (const event of this.#matching.takeEvents()) {
      const asked = this.#asked.find(({ ask }) => ask === event.ask)
      if (asked === undefined) continue
      this.#asked = this.#asked.filter(other => other !== asked)
      const isAnswered = event.kind === 'answered'
      this.#net.truth.push({
        asker: this.index,
        server: asked.server,
        atMs: asked.atMs,
        answeredMs: isAnswered ? this.#net.now : undefined,
        offer: isAnswered ? Buffer.from(event.offer).toString() : undefined,
      })
    }
  }
}
