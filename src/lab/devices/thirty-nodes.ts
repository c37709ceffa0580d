// Thirty nodes that look for peers over letters, with what daemons have for it, under a virtual clock; and somebody who sees
// everything but the insides: every letter, when it was posted, from whose connection, and who listens in which bucket.

import { mock } from 'node:test'
import { type Random, seededRandom } from '#crypto/random.ts'
import { type XWingKeyPair, xwingFromSeed } from '#crypto/xwing.ts'
import { MatchOffice } from '#daemon/peer/match-office.ts'
import type { Carrier, OnLetter } from '#discover/carrier.ts'
import { bucketOf } from '#meet/letter.ts'
import type { MatchEvent } from '#meet/matching.ts'
import { parseAddress } from '#wire/address.ts'
import type { Bucket } from '#wire/letter.ts'
import { decodePathOffer, encodePathOffer } from '#wire/path-offer.ts'
import { decodePeerOffer, encodePeerOffer } from '#wire/peer-offer.ts'

const WORK_BITS = 2
const DELAY_MS = 40

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
  /** Whoever asks comes at that moment, and asks two at once with its first letters; else all are there from the beginning. */
  readonly askersCome?: boolean
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
/** Without cover: as good as at once. */
const AT_ONCE_MS = 200
const STEP_MS = 20
const COUNT = 30
const FIRST_LETTERS = 2
const BEGAN_MS = 1_800_000_000_000

export class ThirtyNodes implements AsyncDisposable {
  readonly seen: Sighting[] = []
  /** The truth, which the observer is measured by. */
  readonly truth: Asked[] = []
  readonly nodes: Node[]
  readonly options: ThirtyOptions
  readonly random: Random

  /** Takes the process's timers and clock until it is disposed of. */
  constructor(options: ThirtyOptions) {
    mock.timers.enable({ apis: ['setTimeout', 'Date'], now: BEGAN_MS })
    this.options = options
    this.random = seededRandom(options.seed)
    this.nodes = Array.from({ length: COUNT }, (_, index) => new Node(this, index))
  }

  get now(): number {
    return Date.now()
  }

  /** The first half asks; the second half serves. */
  get askers(): Node[] {
    return this.nodes.slice(0, COUNT / 2)
  }

  get servers(): Node[] {
    return this.nodes.slice(COUNT / 2)
  }

  /** Every asker asks one or two servers drawn at random, at some moment of the next four intervals; runs until all have answers. */
  async round(): Promise<void> {
    const { askersCome = false } = this.options
    for (const asker of this.askers) {
      const first = (this.random(1)[0] ?? 0) % this.servers.length
      const second = (first + 1 + ((this.random(1)[0] ?? 0) % (this.servers.length - 1))) % this.servers.length
      const asked = (askersCome ? [first, second] : [first]).map(i => this.servers[i] as Node)
      const ask = () => {
        if (askersCome) asker.come()
        for (const server of asked) asker.ask(server)
      }
      setTimeout(ask, this.#fraction() * 4 * INTERVAL_MS)
    }
    await this.run(10 * INTERVAL_MS)
  }

  async run(ms: number): Promise<void> {
    const end = this.now + ms
    while (this.now < end) {
      mock.timers.tick(STEP_MS)
      // What has begun to post goes on in turns of its own.
      await new Promise(resolve => setImmediate(resolve))
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map(node => node.close()))
    mock.timers.reset()
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
  /** Addresses that were told to it. */
  readonly opened: string[] = []
  /** Every bucket that it ever listened in. */
  readonly buckets: number[] = []
  readonly #net: ThirtyNodes
  #office: MatchOffice
  readonly #listening = new Map<number, OnLetter>()
  #asked: { readonly ask: string; readonly server: number; readonly atMs: number }[] = []

  constructor(net: ThirtyNodes, index: number) {
    this.#net = net
    this.index = index
    this.address = `198.51.100.${100 + index}:${40_000 + index}`
    this.key = xwingFromSeed(net.random(32))
    this.#office = this.#open(0)
  }

  /** Goes, and comes as somebody does who asks as soon as it is there. */
  come(): void {
    void this.#office.close()
    this.#office = this.#open(FIRST_LETTERS)
  }

  #open(firstLetters: number): MatchOffice {
    const net = this.#net
    const { bits, hasCover } = net.options
    return new MatchOffice({
      firstLetters,
      carriers: [this.#carrier(hasCover)],
      meet: { bucket_bits: bits, work_bits: WORK_BITS, interval_ms: hasCover ? INTERVAL_MS : AT_ONCE_MS },
      random: net.random,
      nowMs: () => net.now,
      key: this.key,
      serve: (offer, answer) => {
        this.opened.push(addressIn(offer))
        answer(this.#offer())
      },
      maxAnswersPerMinute: 60,
      onEvent: event => this.#handle(event),
    })
  }

  /** What the observer sees of us beside our letters. */
  get bucket(): Bucket {
    return bucketOf(this.key.publicKey, this.#net.options.bits)
  }

  ask(server: Node): void {
    const ask = this.#office.ask(server.key.publicKey, this.#offer())
    if (ask !== undefined) this.#asked.push({ ask, server: server.index, atMs: this.#net.now })
  }

  receive(bucket: number, letter: Uint8Array): void {
    this.#listening.get(bucket)?.(letter, 'the network')
  }

  close(): Promise<void> {
    return this.#office.close()
  }

  /** What really goes into a request and an answer: where we are. */
  #offer(): Uint8Array {
    const { random } = this.#net
    const address = parseAddress(this.address)
    if (address === undefined) throw new Error('make an offer: no address')
    const offer = encodePathOffer({
      ...{ generation: 1, revision: 1, ufrag: random(6), password: random(18) },
      nat: { mapping: 'independent', lastPort: address.port, step: 0 },
      candidates: [{ kind: 'serverReflexive', priority: 1, address }],
    })
    return encodePeerOffer({ offer })
  }

  #carrier(hasCover: boolean): Carrier {
    const net = this.#net
    return {
      name: 'observed',
      isReady: true,
      takesCover: hasCover,
      post: async ({ number }, letter) => {
        net.seen.push({ atMs: net.now, node: this.index, bucket: number, letter })
        setTimeout(() => {
          for (const node of net.nodes) if (node !== this) node.receive(number, letter)
        }, DELAY_MS)
      },
      subscribe: ({ number }, onLetter) => {
        this.buckets.push(number)
        this.#listening.set(number, onLetter)
        return () => this.#listening.delete(number)
      },
      close: async () => undefined,
    }
  }

  #handle(event: MatchEvent): void {
    const asked = this.#asked.find(({ ask }) => ask === event.ask)
    if (asked === undefined) return
    this.#asked = this.#asked.filter(other => other !== asked)
    const isAnswered = event.kind === 'answered'
    const offer = isAnswered ? addressIn(event.offer) : undefined
    if (offer !== undefined) this.opened.push(offer)
    const { server, atMs } = asked
    this.#net.truth.push({
      ...{ asker: this.index, server, atMs, offer },
      answeredMs: isAnswered ? this.#net.now : undefined,
    })
  }
}

function addressIn(bytes: Uint8Array): string {
  const offer = decodePeerOffer(bytes)
  const { host, port } = (offer && decodePathOffer(offer.offer))?.candidates[0]?.address ?? { host: '', port: 0 }
  return `${host}:${port}`
}
