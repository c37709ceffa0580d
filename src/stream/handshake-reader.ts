// Collects the bytes of a proxy's handshake, within bounds of size and time.

import type { Socket } from 'node:net'

const HANDSHAKE_MS = 10_000
/** What may come early, before the target has answered; the rest waits in the kernel. */
const MAX_EARLY_BYTES = 16_384

/** The client took too long or went away before its handshake was whole. */
export class UnfinishedError extends Error {
  readonly isSlow: boolean

  constructor(isSlow: boolean) {
    super(isSlow ? 'handshake: too slow' : 'handshake: ended early')
    this.isSlow = isSlow
  }
}

/** The client said what no handshake says. */
export class MalformedError extends Error {
  /** What to tell it. */
  readonly answer: Uint8Array

  constructor(answer: Uint8Array) {
    super('handshake: malformed')
    this.answer = answer
  }
}

export class HandshakeReader {
  readonly #socket: Socket
  readonly #timer: NodeJS.Timeout
  #bytes: Buffer = Buffer.alloc(0)
  #wake: (() => void) | undefined
  #problem: Error | undefined

  /** Reads from `socket` until it is released; the clock runs from now. */
  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', this.#onData)
    socket.once('end', this.#onEnd)
    socket.once('close', this.#onEnd)
    this.#timer = setTimeout(() => this.#fail(new UnfinishedError(true)), HANDSHAKE_MS)
  }

  /** The first byte, which stays unread. */
  async peek(): Promise<number> {
    while (this.#bytes.length === 0) await this.#more()
    return this.#bytes[0] ?? 0
  }

  /** Reads one message with `parse`, which says how long it was; rejects with `answer` in the error when it is malformed. */
  async read<T extends { readonly length: number }>(
    parse: (bytes: Uint8Array) => T | 'malformed' | undefined,
    answer: Uint8Array,
  ): Promise<T> {
    for (;;) {
      const parsed = parse(this.#bytes)
      if (parsed === 'malformed') throw new MalformedError(answer)
      if (parsed !== undefined) {
        this.#bytes = this.#bytes.subarray(parsed.length)
        return parsed
      }
      await this.#more()
    }
  }

  /** The handshake is whole: its clock stops, and what comes early is kept. */
  finish(): void {
    clearTimeout(this.#timer)
  }

  /** Stops reading, with the socket paused; returns what came after the handshake. */
  release(): Buffer {
    clearTimeout(this.#timer)
    this.#socket.pause()
    this.#socket.off('data', this.#onData)
    this.#socket.off('end', this.#onEnd)
    this.#socket.off('close', this.#onEnd)
    return this.#bytes
  }

  readonly #onData = (chunk: Buffer) => {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk])
    if (this.#bytes.length > MAX_EARLY_BYTES) this.#socket.pause()
    this.#wake?.()
  }

  readonly #onEnd = () => this.#fail(new UnfinishedError(false))

  #fail(problem: Error): void {
    this.#problem ??= problem
    clearTimeout(this.#timer)
    this.#wake?.()
  }

  async #more(): Promise<void> {
    if (this.#problem !== undefined) throw this.#problem
    await new Promise<void>(resolve => {
      this.#wake = resolve
    })
    this.#wake = undefined
    if (this.#problem !== undefined) throw this.#problem
  }
}
