// One reliable stream over a link: a UDX stream with flow control, as a Duplex.
//
//   created ──connect──► open ──both directions ended──► closed
//                         └────── destroyed by either side ──► closed with ECONNRESET on the other
//
// UDX hands up whatever arrives and has no way to stop its sender, so the receiver grants a window (wire/stream-window.ts)
// and the sender stays inside it. A receiver that gets more than it granted breaks the stream. What is granted but not read
// yet is held here in blocks, so that a stream of tiny pieces takes no more memory than one of large pieces.

import { Duplex } from 'node:stream'
import type { UDXSocket, UDXStream } from 'udx-native'
import { decodeWindow, encodeWindow, INITIAL_WINDOW } from '#wire/stream-window.ts'
import type { WindowBudget } from './window-budget.ts'

export const MAX_WINDOW = 4 * 1024 * 1024
const BLOCK_BYTES = 16_384
const WRITE_BUFFER_BYTES = 65_536
const FIRST_ASK_MS = 100
const MAX_ASK_MS = 1_000
/** Finds out that the other side has vanished without a word. */
const KEEPALIVE_MS = 20_000

export class LinkStream extends Duplex {
  readonly id: number
  readonly #udx: UDXStream
  readonly #budget: WindowBudget
  #isUdxClosed = false
  #onUdxClosed: (() => void) | undefined

  // Receiving.
  #received = 0
  #granted = INITIAL_WINDOW
  #window = INITIAL_WINDOW
  #held: Buffer[] = []
  #heldBytes = 0
  #blockLeft = 0
  #isWanted = false
  #hasRemoteEnded = false

  // Sending.
  #sent = 0
  #limit = INITIAL_WINDOW
  #queue: Uint8Array[] = []
  #onQueueEmpty: ((error?: Error | null) => void) | undefined
  #isUdxFull = false
  #hasEnded = false
  #asking: NodeJS.Timeout | undefined
  #askMs = FIRST_ASK_MS

  /** `udx` must not be connected yet; it belongs to this stream from now on. */
  constructor(udx: UDXStream, budget: WindowBudget) {
    // With a mark of one byte `_read` is called when everything handed on has been consumed: what waits, waits here.
    super({ readableHighWaterMark: 1, writableHighWaterMark: WRITE_BUFFER_BYTES, allowHalfOpen: true })
    this.id = udx.id
    this.#udx = udx
    this.#budget = budget
    udx.on('data', (chunk: Buffer) => this.#handleData(chunk))
    udx.on('end', () => this.#handleEnd())
    udx.on('message', (bytes: Uint8Array) => this.#handleMessage(bytes))
    udx.on('drain', () => {
      this.#isUdxFull = false
      this.#pump()
    })
    udx.on('error', (error: Error) => this.#handleUdxClosed(error))
    udx.on('close', () => this.#handleUdxClosed(undefined))
  }

  /** Bytes received that nobody has read yet. */
  get unreadBytes(): number {
    return this.#heldBytes + this.readableLength
  }

  /** Joins it to the stream `remoteId` behind a tap. */
  connect(socket: UDXSocket, remoteId: number, port: number, host: string): void {
    this.#udx.connect(socket, remoteId, port, host)
    this.#udx.setKeepalive(KEEPALIVE_MS)
    this.#pump()
  }

  get isConnected(): boolean {
    return this.#udx.connected
  }

  override _read(): void {
    if (this.#heldBytes > 0) {
      const block = this.#held.shift()
      if (this.#held.length === 0) this.#blockLeft = 0
      this.#heldBytes -= block?.length ?? 0
      this.#grant()
      this.push(block)
    } else if (this.#hasRemoteEnded) {
      this.push(null)
    } else {
      this.#isWanted = true
      this.#grant()
    }
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#queue.push(chunk)
    this.#onQueueEmpty = done
    this.#pump()
  }

  override _writev(chunks: { chunk: Uint8Array }[], done: (error?: Error | null) => void): void {
    for (const { chunk } of chunks) this.#queue.push(chunk)
    this.#onQueueEmpty = done
    this.#pump()
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#hasEnded = true
    this.#udx.end()
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#asking)
    this.#held = []
    this.#heldBytes = 0
    this.#queue = []
    this.#budget.give(this.#window - INITIAL_WINDOW)
    if (this.#isUdxClosed) return done(error)
    this.#onUdxClosed = () => done(error)
    // A stream that ended both ways stays until the last of it is acknowledged; UDX bounds that.
    if (error !== null || !this.readableEnded || !this.writableFinished) this.#udx.destroy()
  }

  /** Breaks it at once, even while it waits for its last acknowledgements. */
  abort(error: Error): void {
    this.destroy(error)
    this.#udx.destroy()
    // A stream that waits for its last acknowledgements counts as destroyed for `destroy`, and would keep the process alive
    // until it gives up waiting.
    if (!this.#isUdxClosed) this.#udx._predestroy()
  }

  #handleData(chunk: Buffer): void {
    if (this.destroyed || chunk.length === 0) return
    this.#received += chunk.length
    if (this.#received > this.#granted) {
      this.destroy(resetError('the other side sent more than its window'))
      return
    }
    if (this.#isWanted && this.#heldBytes === 0) {
      this.#isWanted = false
      this.push(chunk)
    } else this.#hold(chunk)
  }

  #hold(chunk: Buffer): void {
    this.#heldBytes += chunk.length
    let from = 0
    while (from < chunk.length) {
      let block = this.#held.at(-1)
      if (block === undefined || this.#blockLeft === 0) {
        block = Buffer.allocUnsafeSlow(BLOCK_BYTES).subarray(0, 0)
        this.#held.push(block)
        this.#blockLeft = BLOCK_BYTES
      }
      const count = Math.min(this.#blockLeft, chunk.length - from)
      const grown = Buffer.from(block.buffer, 0, block.length + count)
      chunk.copy(grown, block.length, from, from + count)
      this.#held[this.#held.length - 1] = grown
      this.#blockLeft -= count
      from += count
    }
  }

  #handleEnd(): void {
    this.#hasRemoteEnded = true
    if (this.#isWanted && this.#heldBytes === 0) {
      this.#isWanted = false
      this.push(null)
    }
  }

  /** Lets the sender go on once half of the window is used; a reader that keeps up gets a larger one. */
  #grant(): void {
    if (this.#hasRemoteEnded || this.destroyed) return
    const consumed = this.#received - this.#heldBytes
    if (this.#granted - consumed > this.#window / 2) return
    const keepsUp = this.#heldBytes < this.#window / 4
    if (keepsUp && this.#window < MAX_WINDOW && this.#budget.take(this.#window)) this.#window *= 2
    this.#granted = consumed + this.#window
    this.#sayWindow()
  }

  #sayWindow(): void {
    this.#say(encodeWindow({ kind: 'window', limit: this.#granted }))
  }

  #say(bytes: Uint8Array): void {
    if (this.#udx.connected && !this.#isUdxClosed) this.#udx.trySend(bytes)
  }

  #handleMessage(bytes: Uint8Array): void {
    const message = decodeWindow(bytes)
    if (message === undefined || this.destroyed) return
    if (message.kind === 'ask') return this.#sayWindow()
    if (message.limit <= this.#limit) return
    this.#limit = message.limit
    this.#askMs = FIRST_ASK_MS
    clearTimeout(this.#asking)
    this.#asking = undefined
    this.#pump()
  }

  #pump(): void {
    if (this.destroyed || !this.#udx.connected) return
    while (!this.#isUdxFull) {
      const [next] = this.#queue
      if (next === undefined) break
      const room = this.#limit - this.#sent
      if (room <= 0) return this.#askLater()
      if (next.length > room) this.#queue[0] = next.subarray(room)
      else this.#queue.shift()
      const piece = next.length > room ? next.subarray(0, room) : next
      this.#sent += piece.length
      if (piece.length > 0 && !this.#udx.write(piece)) this.#isUdxFull = true
    }
    if (this.#queue.length > 0) return
    const done = this.#onQueueEmpty
    this.#onQueueEmpty = undefined
    done?.()
  }

  #askLater(): void {
    if (this.#asking !== undefined) return
    this.#asking = setTimeout(() => {
      this.#asking = undefined
      this.#askMs = Math.min(2 * this.#askMs, MAX_ASK_MS)
      this.#say(encodeWindow({ kind: 'ask' }))
      this.#askLater()
    }, this.#askMs)
    this.#asking.unref()
  }

  #handleUdxClosed(error: Error | undefined): void {
    if (this.#isUdxClosed) return
    this.#isUdxClosed = true
    clearTimeout(this.#asking)
    if (this.#onUdxClosed !== undefined) return this.#onUdxClosed()
    // Everything was sent and received: what is still unread stays readable.
    if (this.#hasRemoteEnded && this.#hasEnded) return
    this.destroy(error ?? resetError('the stream was reset'))
  }
}

/** An error that says that a stream was cut off. */
export function resetError(why: string): Error {
  return Object.assign(new Error(`carry a stream: ${why}`), { code: 'ECONNRESET' })
}
