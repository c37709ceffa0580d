// The client's side of a route's streams: asks the exit for a stream, joins it, and hands it out as a Duplex.

import type { Duplex } from 'node:stream'
import { type ControlAnswer, type ControlRequest, isTargetHost, REFUSAL, type Target } from '#wire/control.ts'
import { DialError } from './dial-error.ts'
import type { StreamLink } from './link.ts'
import type { LinkStream } from './link-stream.ts'

/** Longer than an exit takes to resolve and connect. */
const ANSWER_MS = 20_000

export type Ask = (request: ControlRequest) => Promise<ControlAnswer | undefined>

export class ClientStreams {
  readonly #link: StreamLink
  readonly #ask: Ask
  readonly #closed = new AbortController()

  constructor(link: StreamLink, ask: Ask) {
    this.#link = link
    this.#ask = ask
  }

  /** Streams open or asked for. */
  get streams(): number {
    return this.#link.streams
  }

  /** Opens a stream to `target`; rejects with a `DialError`. */
  async dial(target: Target, signal?: AbortSignal): Promise<Duplex> {
    if (!isTargetHost(target.host) || target.port < 1 || target.port > 65535) throw new DialError(REFUSAL.notAllowed)
    if (this.#closed.signal.aborted || signal?.aborted) throw new DialError(REFUSAL.generalFailure)
    const stream = this.#link.create()
    const asked = this.#ask({ kind: 'openStream', stream: stream.id, target }).catch(() => undefined)
    const answer = await this.#before(asked, signal)
    if (typeof answer === 'string') {
      // The exit may still open its side: that is joined for as long as it takes to say that nobody wants it.
      void asked.then(late => this.#giveUp(stream, late))
      throw new DialError(answer === 'late' ? REFUSAL.timedOut : REFUSAL.generalFailure)
    }
    if (answer?.kind !== 'openStream' || stream.destroyed) {
      stream.destroy()
      throw new DialError(answer?.kind === 'refused' ? answer.reason : REFUSAL.generalFailure)
    }
    this.#link.connect(stream, answer.stream)
    return stream
  }

  /** Resets every stream: their exit is gone. */
  close(): void {
    this.#closed.abort()
    this.#link.close()
  }

  #giveUp(stream: LinkStream, answer: ControlAnswer | undefined): void {
    if (stream.destroyed) return
    if (answer?.kind === 'openStream' && !this.#closed.signal.aborted) this.#link.connect(stream, answer.stream)
    stream.destroy()
  }

  /** What comes first: the answer, the caller's loss of interest, the end of the route, or the end of patience. */
  async #before<T>(answer: Promise<T>, signal: AbortSignal | undefined): Promise<T | 'late' | 'aborted'> {
    const { promise, resolve } = Promise.withResolvers<'late' | 'aborted'>()
    const aborted = () => resolve('aborted')
    const timer = setTimeout(() => resolve('late'), ANSWER_MS)
    signal?.addEventListener('abort', aborted, { once: true })
    this.#closed.signal.addEventListener('abort', aborted, { once: true })
    try {
      return await Promise.race([answer, promise])
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', aborted)
      this.#closed.signal.removeEventListener('abort', aborted)
    }
  }
}
