// The client's side of a route's streams: asks the exit for a stream, joins it, and hands it out as a Duplex.

import type { Duplex } from 'node:stream'
import type { UDXStream } from 'udx-native'
import { type ControlAnswer, type ControlRequest, isTargetHost, REFUSAL, type Target } from '#wire/control.ts'
import { DialError } from './dial-error.ts'
import type { StreamLink } from './link.ts'

const FIRST_BYTES_MS = 20_000

export type Ask = (request: ControlRequest) => Promise<ControlAnswer | undefined>

export class ClientStreams {
  readonly #link: StreamLink
  readonly #ask: Ask
  #isClosed = false

  constructor(link: StreamLink, ask: Ask) {
    this.#link = link
    this.#ask = ask
  }

  get streams(): number {
    return this.#link.streams
  }

  /** Opens a stream to `target`; rejects with a `DialError`. */
  async dial(target: Target, signal?: AbortSignal): Promise<Duplex> {
    if (!isTargetHost(target.host) || target.port < 1 || target.port > 65535) throw new DialError(REFUSAL.notAllowed)
    if (this.#isClosed) throw new DialError(REFUSAL.generalFailure)
    const stream = this.#link.create()
    const late = AbortSignal.timeout(FIRST_BYTES_MS)
    const asked = this.#ask({ kind: 'openStream', stream: stream.id, target })
    const answer = await Promise.race([asked, aborted(signal === undefined ? late : AbortSignal.any([signal, late]))])
    if (answer === undefined || this.#isClosed || stream.destroyed) {
      // The exit may still open its side: that is joined for as long as it takes to say that nobody wants it.
      asked.then(answer => this.#giveUp(stream, answer))
      throw new DialError(late.aborted ? REFUSAL.timedOut : REFUSAL.generalFailure)
    }
    if (answer.kind !== 'openStream') {
      stream.destroy()
      throw new DialError(answer.kind === 'refused' ? answer.reason : REFUSAL.generalFailure)
    }
    this.#link.connect(stream, answer.stream)
    return stream
  }

  #giveUp(stream: UDXStream, answer: ControlAnswer | undefined): void {
    if (answer?.kind === 'openStream' && !this.#isClosed && !stream.destroyed) this.#link.connect(stream, answer.stream)
    stream.destroy()
  }

  /** Resets every stream: their exit is gone. */
  close(): void {
    this.#isClosed = true
    this.#link.close()
  }
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise(resolve => {
    if (signal.aborted) resolve(undefined)
    else signal.addEventListener('abort', () => resolve(undefined), { once: true })
  })
}
