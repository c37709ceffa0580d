// Letters over gossipsub, a topic for each bucket. Messages have no author, number or signature (StrictNoSign): a letter says
// nothing of where it came from. Who carries letters for others checks them first, and counts what each neighbour brings.
//
// gossipsub lowers the score of peers that share an address, until nothing reaches them: people behind one carrier NAT share
// one. That part is off; proof of work and allowances are what keeps a flood out.

import { createHash } from 'node:crypto'
import { type GossipSub, gossipsub, StrictNoSign, TopicValidatorResult } from '@libp2p/gossipsub'
import { LetterGate, type Refused } from '#meet/gate.ts'
import { type Bucket, LETTER_BYTES } from '#wire/letter.ts'
import { bucketName, type Carrier, type OnLetter } from './carrier.ts'

const TOPIC_PREFIX = '/hoplite/letters/1/'
/** What one neighbour may bring: it carries what it heard from its own neighbours. */
const PER_SECOND = 100
const BURST = 400
/** Letters that travel at once live no longer than this; those in a mailbox do. */
export const GOSSIP_LIFETIME_MS = 600_000

/** The libp2p service. */
export function gossipService() {
  return gossipsub({
    globalSignaturePolicy: StrictNoSign,
    msgIdFn: message => createHash('sha256').update(message.data).digest(),
    allowPublishToZeroTopicPeers: true,
    fallbackToFloodsub: false,
    emitSelf: false,
    doPX: false,
    maxInboundDataLength: 64 * LETTER_BYTES,
    scoreParams: { IPColocationFactorWeight: 0 },
  })
}

export class GossipCarrier implements Carrier {
  readonly name = 'gossip'
  readonly #pubsub: GossipSub
  readonly #gate: LetterGate
  readonly #nowMs: () => number
  readonly #listeners = new Map<string, Set<OnLetter>>()

  constructor(pubsub: GossipSub, workBits: number, nowMs: () => number) {
    this.#pubsub = pubsub
    this.#nowMs = nowMs
    this.#gate = new LetterGate({ workBits, maxLifetimeMs: GOSSIP_LIFETIME_MS, perSecond: PER_SECOND, burst: BURST })
    pubsub.addEventListener('gossipsub:message', ({ detail }) => {
      const source = `gossip ${detail.propagationSource}`
      for (const onLetter of this.#listeners.get(detail.msg.topic) ?? []) onLetter(detail.msg.data, source)
    })
  }

  get isReady(): boolean {
    return this.#pubsub.getPeers().length > 0
  }

  async post(bucket: Bucket, letter: Uint8Array): Promise<void> {
    await this.#pubsub.publish(TOPIC_PREFIX + bucketName(bucket), letter)
  }

  subscribe(bucket: Bucket, onLetter: OnLetter): () => void {
    const topic = TOPIC_PREFIX + bucketName(bucket)
    const listeners = this.#listeners.get(topic) ?? new Set()
    this.#listeners.set(topic, listeners.add(onLetter))
    this.#pubsub.topicValidators.set(topic, (peer, { data }) => this.#judge(data, peer.toString()))
    this.#pubsub.subscribe(topic)
    return () => {
      if (!listeners.delete(onLetter) || listeners.size > 0) return
      this.#listeners.delete(topic)
      this.#pubsub.unsubscribe(topic)
    }
  }

  async close(): Promise<void> {
    for (const topic of this.#listeners.keys()) this.#pubsub.unsubscribe(topic)
    this.#listeners.clear()
  }

  #judge(letter: Uint8Array, peer: string): TopicValidatorResult {
    const judged = this.#gate.admit(letter, peer, this.#nowMs())
    return 'refused' in judged ? RESULTS[judged.refused] : TopicValidatorResult.Accept
  }
}

/** Who passes on what it should have refused itself is thought less of; clocks may differ, and floods have other victims. */
const RESULTS: Readonly<Record<Refused, TopicValidatorResult>> = {
  malformed: TopicValidatorResult.Reject,
  tooLittleWork: TopicValidatorResult.Reject,
  livesTooLong: TopicValidatorResult.Ignore,
  expired: TopicValidatorResult.Ignore,
  repeated: TopicValidatorResult.Ignore,
  tooMany: TopicValidatorResult.Ignore,
}
