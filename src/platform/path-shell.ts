// The sockets, the clock and the timer around one path machine (`path/endpoint.ts`), with `node:dgram`. Packets that belong to
// sessions come out of `onPacket`; a data plane that has the main socket itself gives its STUN datagrams to the endpoint instead.
//
// Bounds: what a loop of datagrams causes is sent at once, nothing is queued here; sockets are those that the machine asked for.

import dgram from 'node:dgram'
import { networkInterfaces } from 'node:os'
import { Endpoint, type EndpointOptions, type Inbound } from '#path/endpoint.ts'
import type { Path } from '#path/ground.ts'
import { hostAddresses, type InterfaceAddress } from '#path/interfaces.ts'
import type { Address } from '#wire/address.ts'
import type { PathOffer } from '#wire/path-offer.ts'
import { monotonicMs } from './clock.ts'

export interface PathShellOptions extends EndpointOptions {
  /** Addresses of the machine that peers are told; the interfaces that are fit for it by default. */
  readonly hosts?: readonly string[]
  /** Carries an offer to the peer; called again with a newer one whenever there is more to say. */
  readonly onOffer: (peer: number, offer: PathOffer) => void
  readonly onPath: (peer: number, path: Path | undefined) => void
  readonly onPacket: (packet: Inbound) => void
  /** Sends for relays that were given to `addRelay`. */
  readonly onRelay?: (local: number, to: Address, bytes: Uint8Array) => void
}

const FIRST_LOCAL = 1_000
/** Timers wait at most this long: Node's fire at once beyond 2^31 ms. */
const MAX_WAIT_MS = 3_600_000

export class PathShell implements AsyncDisposable {
  readonly #endpoint: Endpoint
  readonly #options: PathShellOptions
  readonly #sockets = new Map<number, dgram.Socket>()
  #nextLocal = FIRST_LOCAL
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(options: PathShellOptions) {
    this.#options = options
    this.#endpoint = new Endpoint(options)
  }

  /** Opens a socket for everything, on every address of that family; gives its port. `port` 0 is any. */
  async listen(family: 4 | 6, port = 0): Promise<number> {
    const local = this.#nextLocal++
    const socket = await this.#open(local, family, port)
    const bound = socket.address().port
    const hosts = (this.#options.hosts ?? machineAddresses()).filter(host => host.includes(':') === (family === 6))
    this.do((endpoint, now) => endpoint.addSocket({ local, family, port: bound, hosts }, now))
    return bound
  }

  /** Lets the machine do something, and carries out what comes of it. */
  do<T>(what: (endpoint: Endpoint, now: number) => T): T {
    const result = what(this.#endpoint, monotonicMs())
    this.#settle()
    return result
  }

  /** Gives the machine a datagram that came by a relay. */
  deliver(bytes: Uint8Array, from: Address, local: number): void {
    const packet = this.do((endpoint, now) => endpoint.handlePacket(bytes, from, local, now))
    if (packet !== undefined) this.#options.onPacket(packet)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.do((endpoint, now) => endpoint.close(now))
    this.#isClosed = true
    clearTimeout(this.#timer)
    const sockets = [...this.#sockets.values()]
    this.#sockets.clear()
    await Promise.all(sockets.map(socket => new Promise<void>(resolve => void socket.close(() => resolve()))))
  }

  async #open(local: number, family: 4 | 6, port: number): Promise<dgram.Socket> {
    const socket = dgram.createSocket(family === 4 ? { type: 'udp4' } : { type: 'udp6', ipv6Only: true })
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.bind(port, () => {
        socket.off('error', reject)
        resolve()
      })
    })
    // Errors of single datagrams (nobody there, no way there) are what checks are for.
    socket.on('error', () => undefined)
    socket.on('message', (bytes, from) => {
      this.deliver(bytes, { host: from.address.split('%')[0] ?? '', port: from.port }, local)
    })
    this.#sockets.set(local, socket)
    return socket
  }

  #settle(): void {
    for (;;) {
      const commands = this.#endpoint.take()
      if (commands.length === 0) break
      for (const command of commands) {
        switch (command.kind) {
          case 'send':
            this.#send(command.local, command.to, command.bytes)
            break
          case 'openSockets':
            void this.#openExtras(command.request, command.count, command.family)
            break
          case 'closeSocket':
            this.#sockets.get(command.local)?.close()
            this.#sockets.delete(command.local)
            break
          case 'offer':
            this.#options.onOffer(command.peer, command.offer)
            break
          case 'path':
            this.#options.onPath(command.peer, command.path)
            break
          case 'failed':
            this.#options.onPath(command.peer, undefined)
        }
      }
    }
    this.#arm()
  }

  #send(local: number, to: Address, bytes: Uint8Array): void {
    const socket = this.#sockets.get(local)
    if (socket === undefined) this.#options.onRelay?.(local, to, bytes)
    else socket.send(bytes, to.port, to.host, () => undefined)
  }

  async #openExtras(request: number, count: number, family: 4 | 6): Promise<void> {
    for (let i = 0; i < count && !this.#isClosed; i++) {
      const local = this.#nextLocal++
      // Out of descriptors: what is there has to do.
      const socket = await this.#open(local, family, 0).catch(() => undefined)
      if (socket === undefined) return
      if (this.#isClosed) socket.close()
      else this.do((endpoint, now) => endpoint.addExtraSocket(request, local, now))
    }
  }

  #arm(): void {
    clearTimeout(this.#timer)
    if (this.#isClosed) return
    const waitMs = Math.min(Math.max(this.#endpoint.deadline() - monotonicMs(), 0), MAX_WAIT_MS)
    this.#timer = setTimeout(() => this.do((endpoint, now) => endpoint.handleDeadline(now)), waitMs)
  }
}

function machineAddresses(): readonly string[] {
  const list: InterfaceAddress[] = []
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    for (const { address, internal } of addresses ?? []) list.push({ name, address, isInternal: internal })
  }
  return hostAddresses(list)
}
