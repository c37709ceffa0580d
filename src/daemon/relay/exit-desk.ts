// What clients ask of an exit: streams, each session's over a tap of its own, and datagrams to names that are resolved first.

import { copyBytes } from '#bytes/copy.ts'
import type { Command } from '#forward/commands.ts'
import type { ExitRequest, Hop } from '#relay/hop.ts'
import type { ExitStreams } from '#stream/exit.ts'
import type { ExitPolicy } from '#stream/exit-policy.ts'
import { StreamLink } from '#stream/link.ts'
import type { Address } from '#wire/address.ts'
import { REFUSAL } from '#wire/control.ts'

/** Names of one session that are resolved at one time, for datagram flows. */
const MAX_RESOLVING = 32
/** How long opens of one session wait for its tap. */
const TAP_WAIT_MS = 5_000

export interface ExitDeskOptions {
  readonly exit: ExitStreams
  readonly hop: Hop
  /** Runs what changes the hop, and carries out what follows. */
  readonly run: (change: () => void) => void
  readonly send: (command: Command) => void
  /** Whether the process can have one more socket. */
  readonly hasRoom: () => boolean
}

export class ExitDesk {
  readonly #options: ExitDeskOptions
  readonly #taps = new Map<number, { promise: Promise<boolean>; settle: (isReady: boolean) => void }>()
  readonly #resolving = new Map<number, number>()
  /** Streams that were refused because the process has no more sockets. */
  refusedForFiles = 0

  constructor(options: ExitDeskOptions) {
    this.#options = options
  }

  get streams(): number {
    return this.#options.exit.streams
  }

  /** Where streams may go that are opened from now on. */
  usePolicy(policy: ExitPolicy): void {
    this.#options.exit.usePolicy(policy)
  }

  /** Carries out a request and answers it. */
  serve(request: ExitRequest): void {
    this.#serve(request).catch(() => this.#answerFailure(request))
  }

  /** The session's tap is in place, there. */
  handleTap(session: number, address: Address): void {
    this.#options.exit.findLink(session)?.attach(address)
    this.#taps.get(session)?.settle(true)
  }

  endSession(session: number): void {
    this.#options.exit.closeSession(session)
    this.#taps.get(session)?.settle(false)
    this.#taps.delete(session)
  }

  close(): void {
    this.#options.exit.close()
  }

  async #serve({ session, number, request }: ExitRequest): Promise<void> {
    const { exit, hop, run } = this.#options
    if (request.kind === 'openStream') {
      if (!this.#options.hasRoom()) {
        this.refusedForFiles++
        const refused = { kind: 'refused', request: 'openStream', reason: REFUSAL.tooMany } as const
        return run(() => hop.answer(session, number, refused))
      }
      const isReady = await this.#tap(session)
      const answer = isReady
        ? await exit.open(session, request.stream, request.target)
        : ({ kind: 'refused', request: 'openStream', reason: REFUSAL.generalFailure } as const)
      return run(() => hop.answer(session, number, answer))
    }
    const resolving = this.#resolving.get(session) ?? 0
    if (resolving >= MAX_RESOLVING) return this.#answerFailure({ session, number, request })
    this.#resolving.set(session, resolving + 1)
    const first = copyBytes(request.first)
    const resolved = await exit.resolveTarget(request.target).finally(() => {
      const left = (this.#resolving.get(session) ?? 1) - 1
      if (left > 0) this.#resolving.set(session, left)
      else this.#resolving.delete(session)
    })
    run(() => {
      if (!Array.isArray(resolved))
        return hop.answer(session, number, { kind: 'refused', request: 'open', reason: resolved })
      const [host = ''] = resolved
      hop.openDatagramFlow(session, number, request.flow, { host, port: request.target.port }, first)
    })
  }

  #answerFailure({ session, number, request }: ExitRequest): void {
    const { hop, run } = this.#options
    const refused = { kind: 'refused', request: request.kind, reason: REFUSAL.generalFailure } as const
    run(() => hop.answer(session, number, refused))
  }

  /** Resolves when the session's tap is in place. */
  #tap(session: number): Promise<boolean> {
    const existing = this.#taps.get(session)
    if (existing !== undefined) return existing.promise
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const timer = setTimeout(() => {
      // The next request may find one.
      this.#taps.delete(session)
      resolve(false)
    }, TAP_WAIT_MS)
    const settle = (isReady: boolean) => {
      clearTimeout(timer)
      resolve(isReady)
    }
    this.#taps.set(session, { promise, settle })
    const link = this.#options.exit.link(session, () => new StreamLink())
    this.#options.send({ kind: 'installTap', session, address: link.address })
    return promise
  }
}
