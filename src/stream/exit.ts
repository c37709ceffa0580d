// The exit's side of streams: resolves names, asks the policy about the address itself, dials exactly that address, and
// joins the connection to a stream of the client's session.

import { lookup } from 'node:dns/promises'
import { connect, isIPv6, type Socket } from 'node:net'
import { type Address, parseIp } from '#wire/address.ts'
import { type ControlAnswer, REFUSAL, type Refusal, type Target } from '#wire/control.ts'
import { refusalOf } from './dial-error.ts'
import type { ExitPolicy } from './exit-policy.ts'
import type { StreamLink } from './link.ts'
import { reset, splice } from './splice.ts'

const CONNECT_MS = 10_000
const RESOLVE_MS = 5_000
const MAX_ADDRESSES = 4

/** Every address of a name. */
export type Resolve = (name: string) => Promise<readonly string[]>

export interface ExitStreamsOptions {
  readonly policy: ExitPolicy
  readonly resolve?: Resolve
  readonly maxStreamsPerSession: number
  /** The address to dial from; the system's choice when absent. */
  readonly sendFrom?: string
  /** Laboratory only: sees what goes to and comes from targets. */
  readonly watch?: (address: Address, bytes: Uint8Array) => void
}

export class ExitStreams {
  readonly #options: ExitStreamsOptions
  readonly #resolve: Resolve
  readonly #links = new Map<number, StreamLink>()
  /** Streams being dialled or open, by session. */
  readonly #open = new Map<number, number>()
  opened = 0
  refused = 0

  constructor(options: ExitStreamsOptions) {
    this.#options = options
    this.#resolve = options.resolve ?? systemResolve
  }

  /** Streams being dialled or open. */
  get streams(): number {
    let sum = 0
    for (const count of this.#open.values()) sum += count
    return sum
  }

  /** The session's link; made on first use. */
  link(session: number, make: () => StreamLink): StreamLink {
    let link = this.#links.get(session)
    if (link === undefined) {
      link = make()
      this.#links.set(session, link)
    }
    return link
  }

  findLink(session: number): StreamLink | undefined {
    return this.#links.get(session)
  }

  /** Resets the session's streams and frees what they used. */
  closeSession(session: number): void {
    this.#links.get(session)?.close()
    this.#links.delete(session)
    this.#open.delete(session)
  }

  close(): void {
    for (const session of [...this.#links.keys()]) this.closeSession(session)
  }

  /** Carries out an `openStream` request of a session whose link has its tap. */
  async open(session: number, remoteId: number, target: Target): Promise<ControlAnswer> {
    const link = this.#links.get(session)
    const count = this.#open.get(session) ?? 0
    if (link === undefined || count >= this.#options.maxStreamsPerSession) return this.#refuse(REFUSAL.tooMany)
    this.#open.set(session, count + 1)
    const release = () => {
      const left = (this.#open.get(session) ?? 1) - 1
      if (this.#open.has(session)) this.#open.set(session, left)
    }
    const resolved = await this.resolveTarget(target)
    if (!Array.isArray(resolved)) {
      release()
      return this.#refuse(resolved)
    }
    const dialled = await dialFirst(resolved, target.port, this.#options.sendFrom)
    if (typeof dialled === 'number') {
      release()
      return this.#refuse(dialled)
    }
    if (this.#links.get(session) !== link) {
      reset(dialled)
      release()
      return this.#refuse(REFUSAL.generalFailure)
    }
    const stream = link.create()
    link.connect(stream, remoteId)
    dialled.setNoDelay(true)
    const { watch } = this.#options
    if (watch !== undefined) {
      const address = { host: dialled.remoteAddress ?? '', port: target.port }
      stream.on('data', (bytes: Uint8Array) => watch(address, bytes))
    }
    splice(dialled, stream, release)
    this.opened++
    return { kind: 'openStream', stream: stream.id }
  }

  /** The addresses of a target that the policy allows; or why there are none. */
  async resolveTarget(target: Target): Promise<string[] | Refusal> {
    let addresses: readonly string[]
    try {
      addresses = parseIp(target.host) === undefined ? await this.#resolve(target.host) : [target.host]
    } catch (error) {
      return refusalOf(error)
    }
    if (addresses.length === 0) return REFUSAL.nameNotFound
    const allowed = addresses.filter(host => this.#options.policy.allows(host, target.port)).slice(0, MAX_ADDRESSES)
    return allowed.length > 0 ? allowed : REFUSAL.notAllowed
  }

  #refuse(reason: Refusal): ControlAnswer {
    this.refused++
    return { kind: 'refused', request: 'openStream', reason }
  }
}

/** The system's resolver, bounded in time. */
async function systemResolve(name: string): Promise<readonly string[]> {
  const late = new Promise<never>((_, reject) => {
    setTimeout(() => reject(Object.assign(new Error('resolve: no answer'), { code: 'ETIMEDOUT' })), RESOLVE_MS).unref()
  })
  const found = await Promise.race([lookup(name, { all: true, verbatim: true }), late])
  return found.map(({ address }) => address)
}

/** Dials the addresses in turn; the connection, or the last reason. Each gets its share of the time. */
async function dialFirst(hosts: readonly string[], port: number, from: string | undefined): Promise<Socket | Refusal> {
  let reason: Refusal = REFUSAL.hostUnreachable
  for (const host of hosts) {
    const dialled = await dialOne(host, port, from, CONNECT_MS / hosts.length)
    if (typeof dialled !== 'number') return dialled
    reason = dialled
  }
  return reason
}

function dialOne(host: string, port: number, from: string | undefined, timeoutMs: number): Promise<Socket | Refusal> {
  return new Promise(resolve => {
    const socket = connect({
      host,
      port,
      allowHalfOpen: true,
      ...(from !== undefined && isIPv6(from) === isIPv6(host) && { localAddress: from }),
    })
    const timer = setTimeout(() => {
      socket.destroy()
      resolve(REFUSAL.timedOut)
    }, timeoutMs)
    socket.once('connect', () => {
      clearTimeout(timer)
      socket.removeAllListeners('error')
      resolve(socket)
    })
    socket.once('error', error => {
      clearTimeout(timer)
      resolve(refusalOf(error))
    })
  })
}
