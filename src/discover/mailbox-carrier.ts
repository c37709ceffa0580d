// Letters that wait for who is offline: in the DHT, in 16 slots for each bucket.
//
//   key  /hoplite-mail/BITS-NUMBER-SLOT     value  a letter
//
// A slot keeps its letter until that expires; one with more work takes its place sooner. So a mailbox is bounded, a flood has to
// outwork what is there, and reading one tells a bucket and nothing else. js-libp2p's DHT does not run the selector on PUT: the
// validator itself refuses what may not take the place of what it knows. Bound: the occupants of 4,096 slots are known, the
// oldest go first.

import type { KadDHT } from '@libp2p/kad-dht'
import type { Random } from '#crypto/random.ts'
import { workOf } from '#meet/work.ts'
import { type Bucket, decodeLetterHead } from '#wire/letter.ts'
import { bucketName, type Carrier, type OnLetter } from './carrier.ts'

export const MAIL_PREFIX = 'hoplite-mail'
/** Letters may wait this long. */
export const MAIL_LIFETIME_MS = 24 * 3_600_000
const SLOTS = 16
const MAX_KNOWN = 4096
const TRIES = 4
const POLL_MS = 300_000
const REQUEST_MS = 10_000
const SKEW_MS = 300_000

export interface MailRules {
  readonly bits: number
  readonly workBits: number
  readonly nowMs: () => number
  /** Whether this node stores for others: only then is a slot's occupant kept. */
  readonly isStore: boolean
}

/** Validator and selector for the DHT. The validator throws, as libp2p wants it, for what may not be stored. */
export function mailRecords({ bits, workBits, nowMs, isStore }: MailRules) {
  const occupants = new Map<string, { readonly letter: string; readonly work: number; readonly expiresMs: number }>()
  return {
    validate: async (key: Uint8Array, letter: Uint8Array): Promise<void> => {
      const slot = Buffer.from(key).toString('latin1')
      const head = decodeLetterHead(letter)
      const now = nowMs()
      if (head === undefined || head.bucket.bits !== bits || !isSlotOf(slot, head.bucket))
        throw new Error('refuse a letter: not one for this slot')
      if (head.expiresMs <= now || head.expiresMs > now + MAIL_LIFETIME_MS + SKEW_MS)
        throw new Error('refuse a letter: expired, or it would live too long')
      const work = workOf(letter)
      if (work < workBits) throw new Error('refuse a letter: too little work')
      if (!isStore) return
      const text = Buffer.from(letter).toString('latin1')
      const known = occupants.get(slot)
      const isFree = known === undefined || known.expiresMs <= now || known.letter === text
      if (!isFree && work <= known.work) throw new Error('refuse a letter: the slot is taken')
      occupants.delete(slot)
      occupants.set(slot, { letter: text, work, expiresMs: head.expiresMs })
      if (occupants.size > MAX_KNOWN) occupants.delete(occupants.keys().next().value as string)
    },
    select: (_key: Uint8Array, letters: readonly Uint8Array[]): number => {
      const works = letters.map(letter => (decodeLetterHead(letter) === undefined ? -1 : workOf(letter)))
      return works.indexOf(Math.max(...works))
    },
  }
}

export class MailboxCarrier implements Carrier {
  readonly name = 'mailbox'
  readonly #dht: KadDHT
  readonly #peers: () => number
  readonly #random: Random
  readonly #polls = new Set<NodeJS.Timeout>()
  readonly #stop = new AbortController()

  /** @param peers how many peers there are: without any, a query would only wait for its time to be up */
  constructor(dht: KadDHT, peers: () => number, random: Random) {
    this.#dht = dht
    this.#peers = peers
    this.#random = random
  }

  get isReady(): boolean {
    return this.#peers() > 0
  }

  async post(bucket: Bucket, letter: Uint8Array): Promise<void> {
    if (!this.isReady) throw new Error('leave a letter: no peers yet')
    const first = this.#random(1)[0] ?? 0
    for (let attempt = 0; attempt < TRIES; attempt++) {
      if ((await this.#put(slotKey(bucket, (first + 5 * attempt) % SLOTS), letter)) > 0) return
    }
    throw new Error('leave a letter: no slot took it')
  }

  subscribe(bucket: Bucket, onLetter: OnLetter): () => void {
    const read = () => void this.#readAll(bucket, onLetter)
    const poll = setInterval(read, POLL_MS)
    poll.unref()
    this.#polls.add(poll)
    read()
    return () => {
      clearInterval(poll)
      this.#polls.delete(poll)
    }
  }

  async close(): Promise<void> {
    this.#stop.abort()
    for (const poll of this.#polls) clearInterval(poll)
  }

  async #readAll(bucket: Bucket, onLetter: OnLetter): Promise<void> {
    if (!this.isReady) return
    await Promise.allSettled(
      Array.from({ length: SLOTS }, async (_, slot) => {
        const letter = await this.#get(slotKey(bucket, slot))
        if (letter !== undefined && !this.#stop.signal.aborted) onLetter(letter, 'mailbox')
      }),
    )
  }

  async #put(key: Uint8Array, letter: Uint8Array): Promise<number> {
    let stored = 0
    try {
      for await (const event of this.#dht.put(key, letter, { signal: this.#signal() }))
        if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE') stored++
    } catch {
      // A slot that is taken, or peers that are gone: the next slot may do.
    }
    return stored
  }

  async #get(key: Uint8Array): Promise<Uint8Array | undefined> {
    try {
      for await (const event of this.#dht.get(key, { signal: this.#signal() }))
        if (event.name === 'VALUE') return event.value
    } catch {
      // An empty slot.
    }
    return undefined
  }

  #signal(): AbortSignal {
    return AbortSignal.any([this.#stop.signal, AbortSignal.timeout(REQUEST_MS)])
  }
}

function slotKey(bucket: Bucket, slot: number): Uint8Array {
  return Buffer.from(`/${MAIL_PREFIX}/${bucketName(bucket)}-${slot}`)
}

function isSlotOf(slot: string, bucket: Bucket): boolean {
  const match = /^\/hoplite-mail\/([0-9]+-[0-9]+)-([0-9]{1,2})$/.exec(slot)
  return match !== null && match[1] === bucketName(bucket) && Number(match[2]) < SLOTS
}
