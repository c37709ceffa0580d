// Letters over a rendezvous server. The connection is kept up for as long as the carrier lives; while it is down, letters to post
// are refused, and buckets are listened in again once it is back.

import { systemRandom } from '#crypto/random.ts'
import { type Bucket, LETTER_BYTES } from '#wire/letter.ts'
import { decodeRendezvous, encodeRendezvous } from '#wire/rendezvous.ts'
import { bucketName, type Carrier, type OnLetter } from './carrier.ts'

const FIRST_RETRY_MS = 500
const MAX_RETRY_MS = 60_000
/** A connection that did not last so long is no reason to come back at once. */
const LASTED_MS = 5_000
const MAX_UNSENT_BYTES = 16 * LETTER_BYTES

interface Listening {
  readonly bucket: Bucket
  readonly onLetter: OnLetter
}

export class RendezvousCarrier implements Carrier {
  readonly name = 'rendezvous'
  readonly #url: string
  readonly #listening = new Set<Listening>()
  #socket: WebSocket | undefined
  #retry: NodeJS.Timeout | undefined
  #retryMs = FIRST_RETRY_MS
  #openedMs = Number.POSITIVE_INFINITY
  #isClosed = false

  /** @param url `ws://…` or `wss://…` */
  constructor(url: string) {
    this.#url = url
    this.#connect()
  }

  get isReady(): boolean {
    return this.#socket?.readyState === WebSocket.OPEN
  }

  async post(_bucket: Bucket, letter: Uint8Array): Promise<void> {
    const socket = this.#socket
    if (!this.isReady || socket === undefined) throw new Error('post a letter: the rendezvous server is out of reach')
    if (socket.bufferedAmount > MAX_UNSENT_BYTES) throw new Error('post a letter: the connection does not keep up')
    socket.send(whole(encodeRendezvous({ kind: 'letter', letter })))
  }

  subscribe(bucket: Bucket, onLetter: OnLetter): () => void {
    const listening = { bucket, onLetter }
    this.#listening.add(listening)
    if (this.isReady) this.#socket?.send(whole(encodeRendezvous({ kind: 'listen', bucket })))
    return () => {
      this.#listening.delete(listening)
      const isLast = ![...this.#listening].some(other => bucketName(other.bucket) === bucketName(bucket))
      if (isLast && this.isReady) this.#socket?.send(whole(encodeRendezvous({ kind: 'ignore', bucket })))
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#retry)
    this.#listening.clear()
    this.#socket?.close()
  }

  #connect(): void {
    const socket = new WebSocket(this.#url)
    socket.binaryType = 'arraybuffer'
    this.#socket = socket
    socket.onopen = () => {
      this.#openedMs = performance.now()
      const buckets = new Map([...this.#listening].map(({ bucket }) => [bucketName(bucket), bucket]))
      for (const bucket of buckets.values()) socket.send(whole(encodeRendezvous({ kind: 'listen', bucket })))
    }
    socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) this.#receive(new Uint8Array(data))
    }
    socket.onclose = () => this.#reconnect()
    // An error is followed by a close, which is where the next attempt begins.
    socket.onerror = () => undefined
  }

  #receive(bytes: Uint8Array): void {
    const message = decodeRendezvous(bytes)
    if (message?.kind !== 'letter') return
    // The server may be asked for several buckets; the reader checks whose letter this is.
    const listeners = new Set([...this.#listening].map(({ onLetter }) => onLetter))
    for (const onLetter of listeners) onLetter(message.letter, this.name)
  }

  #reconnect(): void {
    if (this.#isClosed) return
    if (performance.now() - this.#openedMs > LASTED_MS) this.#retryMs = FIRST_RETRY_MS
    this.#openedMs = Number.POSITIVE_INFINITY
    // Everybody lost it at the same moment: not all come back in one.
    const part = 0.5 + (systemRandom(1)[0] ?? 0) / 255
    this.#retry = setTimeout(() => this.#connect(), this.#retryMs * part)
    this.#retryMs = Math.min(2 * this.#retryMs, MAX_RETRY_MS)
  }
}

/** A copy in memory of its own: a WebSocket must not see the rest of a larger buffer. */
function whole(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes)
}
