// The exit's side of streams: resolves names, asks the policy about the address itself, dials exactly that address, and
// joins the connection to a stream of the client's session.

import type { Socket } from 'node:net'
import { type Address, parseIp } from '#wire/address.ts'
import { type ControlAnswer, REFUSAL, type Refusal, type Target } from '#wire/control.ts'
import { refusalOf } from './dial-error.ts'
import { dialTcp } from './dial-tcp.ts'
import type { ExitPolicy } from './exit-policy.ts'
import type { StreamLink } from './link.ts'
import { type Resolve, systemResolve } from './resolve.ts'
import { reset, splice } from './splice.ts'

const CONNECT_MS = 10_000
const RESOLVE_MS = 5_000
/** RFC 5382 §5: a connection may be silent for two hours. */
const IDLE_MS = 2 * 3_600_000 + 240_000
const MAX_ADDRESSES = 4
const NEW_PER_SECOND = 400
const NEW_AT_ONCE = 1_024

export interface ExitStreamsOptions {
  readonly policy: ExitPolicy
  readonly resolve?: Resolve
  /** Streams being dialled or open, of one session. */
  readonly maxStreamsPerSession: number
  /** New streams of one session: how many each second, and how many in one burst. */
  readonly newPerSecond?: number
  readonly newAtOnce?: number
  readonly connectMs?: number
  /** The address to dial from; the system's choice when absent. */
  readonly sendFrom?: string
  /** Milliseconds, monotonic. */
  readonly nowMs?: () => number
  /** Laboratory only: sees what goes to targets. */
  readonly watch?: (address: Address, bytes: Uint8Array) => void
}

export type ExitCounter = 'opened' | 'bytesOut' | 'bytesIn' | keyof typeof REFUSAL

interface ExitSession {
  readonly link: StreamLink
  readonly ended: AbortController
  streams: number
  /** New streams it may open now, and when that was counted. */
  allowance: number
  countedMs: number
}

export class ExitStreams {
  /** Streams opened, bytes carried out of and into the network, and refusals by reason. */
  readonly counters = new Map<ExitCounter, number>()
  readonly #options: ExitStreamsOptions
  #policy: ExitPolicy
  readonly #resolve: Resolve
  readonly #nowMs: () => number
  readonly #sessions = new Map<number, ExitSession>()

  constructor(options: ExitStreamsOptions) {
    this.#options = options
    this.#policy = options.policy
    this.#resolve = options.resolve ?? systemResolve()
    this.#nowMs = options.nowMs ?? performance.now.bind(performance)
  }

  /** Where streams may go that are opened from now on. */
  usePolicy(policy: ExitPolicy): void {
    this.#policy = policy
  }

  /** Streams being dialled or open. */
  get streams(): number {
    let sum = 0
    for (const { streams } of this.#sessions.values()) sum += streams
    return sum
  }

  /** Streams that were opened, ever. */
  get opened(): number {
    return this.counters.get('opened') ?? 0
  }

  /** The session's link; made on first use. */
  link(session: number, make: () => StreamLink): StreamLink {
    const existing = this.#sessions.get(session)
    if (existing !== undefined) return existing.link
    const link = make()
    const allowance = this.#options.newAtOnce ?? NEW_AT_ONCE
    const ended = new AbortController()
    this.#sessions.set(session, { link, ended, streams: 0, allowance, countedMs: this.#nowMs() })
    return link
  }

  findLink(session: number): StreamLink | undefined {
    return this.#sessions.get(session)?.link
  }

  /** Resets the session's streams, gives up what is being dialled, and frees what they used. */
  closeSession(session: number): void {
    const closing = this.#sessions.get(session)
    this.#sessions.delete(session)
    closing?.ended.abort()
    closing?.link.close()
  }

  close(): void {
    for (const session of [...this.#sessions.keys()]) this.closeSession(session)
  }

  /** Carries out an `openStream` request of a session whose link has its tap. */
  async open(session: number, remoteId: number, target: Target): Promise<ControlAnswer> {
    const open = this.#sessions.get(session)
    if (open === undefined) return this.#refuse(REFUSAL.generalFailure)
    if (open.streams >= this.#options.maxStreamsPerSession || !this.#mayOpen(open)) return this.#refuse(REFUSAL.tooMany)
    open.streams++
    const dialled = await this.#dial(target, open.ended.signal)
    if (typeof dialled !== 'number' && !dialled.destroyed && !open.ended.signal.aborted) {
      return this.#join(open, remoteId, dialled, target.port)
    }
    open.streams--
    if (typeof dialled === 'number') return this.#refuse(dialled)
    reset(dialled)
    return this.#refuse(REFUSAL.generalFailure)
  }

  /** The addresses of a target that the policy allows, in the order to try them; or why there are none. */
  async resolveTarget(target: Target): Promise<string[] | Refusal> {
    let addresses: readonly string[]
    try {
      addresses = parseIp(target.host) === undefined ? await inTime(this.#resolve(target.host)) : [target.host]
    } catch (error) {
      return refusalOf(error)
    }
    if (addresses.length === 0) return REFUSAL.nameNotFound
    const allowed = addresses.filter(host => this.#policy.allows(host, target.port)).slice(0, MAX_ADDRESSES)
    return allowed.length > 0 ? allowed : REFUSAL.notAllowed
  }

  async #dial(target: Target, signal: AbortSignal): Promise<Socket | Refusal> {
    const resolved = await this.resolveTarget(target)
    if (!Array.isArray(resolved)) return resolved
    const { sendFrom: from, connectMs: timeoutMs = CONNECT_MS } = this.#options
    return dialTcp(resolved, target.port, { timeoutMs, from, signal })
  }

  #join(open: ExitSession, remoteId: number, socket: Socket, port: number): ControlAnswer {
    const stream = open.link.create()
    open.link.connect(stream, remoteId)
    socket.setTimeout(IDLE_MS, () => reset(socket))
    const { watch } = this.#options
    if (watch !== undefined) {
      const address = { host: socket.remoteAddress ?? '', port }
      stream.on('data', (bytes: Uint8Array) => watch(address, bytes))
    }
    splice(socket, stream, (fromTarget, toTarget) => {
      open.streams--
      this.#count('bytesIn', fromTarget)
      this.#count('bytesOut', toTarget)
    })
    this.#count('opened', 1)
    return { kind: 'openStream', stream: stream.id }
  }

  #mayOpen(open: ExitSession): boolean {
    const { newPerSecond = NEW_PER_SECOND, newAtOnce = NEW_AT_ONCE } = this.#options
    const now = this.#nowMs()
    open.allowance = Math.min(newAtOnce, open.allowance + ((now - open.countedMs) * newPerSecond) / 1_000)
    open.countedMs = now
    if (open.allowance < 1) return false
    open.allowance--
    return true
  }

  #refuse(reason: Refusal): ControlAnswer {
    this.#count(REASON_NAMES.get(reason) ?? 'generalFailure', 1)
    return { kind: 'refused', request: 'openStream', reason }
  }

  #count(name: ExitCounter, by: number): void {
    this.counters.set(name, (this.counters.get(name) ?? 0) + by)
  }
}

const REASON_NAMES = new Map(Object.entries(REFUSAL).map(([name, reason]) => [reason, name as keyof typeof REFUSAL]))

async function inTime<T>(answer: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const late = () => reject(Object.assign(new Error('resolve a name: no answer'), { code: 'ETIMEOUT' }))
  const timer = setTimeout(late, RESOLVE_MS)
  try {
    return await Promise.race([answer, promise])
  } finally {
    clearTimeout(timer)
  }
}
