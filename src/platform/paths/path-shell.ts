// The sockets, the clock and the timer around one path machine (`path/endpoint.ts`). How to use it stands in path/README.md. Packets that belong to sessions come out of `onPacket`.
//
//   listen   a socket of the shell's own
//   attach   a socket of somebody else (the data plane): STUN of that one is given to `deliver`, what is to be sent comes back
//
// Bounds: what a loop of datagrams causes is sent at once, nothing is queued here; sockets are those that the machine asked for.

import type { Family } from '#path/base.ts'
import { Endpoint, type EndpointOptions, type Inbound } from '#path/endpoint.ts'
import type { Path } from '#path/ground.ts'
import type { Address } from '#wire/address.ts'
import { decodePathOffer, encodePathOffer } from '#wire/path-offer.ts'
import { monotonicMs } from '../clock.ts'
import { machineAddresses, NetworkWatch } from '../network-watch.ts'
import {
  DgramSockets,
  type DgramSocketsOptions,
  type GivenSocket,
  type Hear,
  type PathSockets,
} from './path-sockets.ts'
import { PortMapper } from './port-mapping.ts'

export interface PathShellOptions extends EndpointOptions, DgramSocketsOptions {
  /** Addresses of the machine that peers are told; the interfaces that are fit for it by default. */
  readonly hosts?: readonly string[]
  /** Which of those are told; all without it. */
  readonly tells?: (host: string) => boolean
  /** Whether the router at home is asked to open the port. */
  readonly mapsPorts?: boolean
  /** Sockets of the shell's own, which `hear` what comes; of `node:dgram` without it. */
  readonly sockets?: (hear: Hear) => PathSockets
  /** What was handed over is of no use to paths any more. */
  readonly onReturned?: (local: number) => void
  /** Something is about to be sent to a host that was not among the last 256. */
  readonly onHost?: (host: string) => void
  /**
   * Carries these bytes (at most 615) to the peer, sealed; called again with newer ones whenever there is more to say. They
   * may be lost, repeated or late.
   */
  readonly onOffer: (peer: number, offer: Uint8Array) => void
  /** Where packets for the peer go from now on; `undefined` while nothing answers. */
  readonly onPath: (peer: number, path: Path | undefined, rttMs: number | undefined) => void
  /** A packet of some peer's session; who sent it is for the session to find out. */
  readonly onPacket: (packet: Inbound) => void
}

type Send = (to: Address, bytes: Uint8Array) => void

const FIRST_LOCAL = 1_000
const MAX_HOSTS = 256
const TRAFFIC_MS = 100
const GATHER_LOOK_MS = 20
/** Whoever opens them may be another process. */
const EXTRAS_AT_ONCE = 32
/** Timers wait at most this long: Node's fire at once beyond 2^31 ms. */
const MAX_WAIT_MS = 3_600_000

export class PathShell implements AsyncDisposable {
  readonly #endpoint: Endpoint
  readonly #options: PathShellOptions
  readonly #sockets: PathSockets
  /** Sockets and relays that are not ours. */
  readonly #attached = new Map<number, Send>()
  /** Those of both that listen for everything. */
  readonly #listening = new Map<number, Family>()
  readonly #watch = new NetworkWatch({ onChange: () => this.handleNetworkChange() })
  #mapper: PortMapper | undefined
  readonly #paths = new Map<number, Path>()
  readonly #trafficMs = new Map<number, number>()
  readonly #hostsSentTo = new Set<string>()
  #nextLocal = FIRST_LOCAL
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(options: PathShellOptions) {
    this.#options = options
    this.#endpoint = new Endpoint(options)
    const hear: Hear = (bytes, from, local) => this.deliver(bytes, from, local)
    this.#sockets = options.sockets?.(hear) ?? new DgramSockets(hear, options)
  }

  /** Opens a socket for everything, on every address of that family; gives its number and port. `port` 0 is any. */
  async listen(family: Family, port = 0): Promise<{ readonly local: number; readonly port: number }> {
    const local = this.#nextLocal++
    const bound = await this.#sockets.open(local, family, port)
    this.#add(local, family, bound)
    return { local, port: bound }
  }

  /** Takes a socket that somebody else reads; gives the number under which to `deliver` its STUN datagrams. */
  attach(family: Family, port: number, send: Send): number {
    const local = this.#nextLocal++
    this.#attached.set(local, send)
    this.#add(local, family, port)
    return local
  }

  /** Takes a port that a relay holds for us at `address`; gives the number under which to `deliver` what comes there. */
  attachRelay(address: Address, send: Send): number {
    const local = this.#nextLocal++
    this.#attached.set(local, send)
    this.do((endpoint, now) => endpoint.addRelay(local, address, now))
    return local
  }

  /** The same for a flow that a relay joins to one of the peer's: it leads to `to`, which stands for the peer. `open` makes it. */
  attachMeeting(peer: number, to: Address, open: (local: number) => Send): number {
    const local = this.#nextLocal++
    this.#attached.set(local, open(local))
    this.do((endpoint, now) => endpoint.addMeeting(local, peer, to, now))
    return local
  }

  /** Lets go of what `listen` or one of the `attach…` gave. */
  detach(local: number): void {
    if (!this.#attached.delete(local)) this.#sockets.close(local)
    this.#listening.delete(local)
    this.do((endpoint, now) => endpoint.removeBase(local, now))
  }

  /** The machine may be elsewhere, or was asleep: everything is asked anew. It is noticed by itself within a second. */
  handleNetworkChange(): void {
    for (const [local, family] of this.#listening) {
      this.do((endpoint, now) => endpoint.handleNetworkChange(local, this.#hosts(family), now))
    }
    void this.#mapper?.start()
  }

  /** Takes an offer of the peer; false when it is malformed. */
  handleOffer(peer: number, bytes: Uint8Array): boolean {
    const offer = decodePathOffer(bytes)
    if (offer !== undefined) this.do((endpoint, now) => endpoint.handleOffer(peer, offer, now))
    return offer !== undefined
  }

  /** Sends a packet of a session to the peer; false while there is no path. */
  send(peer: number, bytes: Uint8Array): boolean {
    const now = monotonicMs()
    if (now - (this.#trafficMs.get(peer) ?? Number.NEGATIVE_INFINITY) >= TRAFFIC_MS) {
      this.#trafficMs.set(peer, now)
      this.do(endpoint => endpoint.handleTraffic(peer, now))
    }
    const path = this.#paths.get(peer)
    if (path === undefined) return false
    if (path.kind === 'turn') return this.do(endpoint => endpoint.send(peer, bytes, now))
    this.#send(path.local, path.to, bytes)
    return true
  }

  /**
   * Gives one of the sockets that ports were guessed with to somebody who reads it from now on: its descriptor, where the system has
   * such, and the port that it is bound to. What `attach` says of STUN and of sending holds for it then. `undefined` when it is none
   * of ours.
   */
  handOver(local: number, send: Send): GivenSocket | undefined {
    const given = this.#listening.has(local) ? undefined : this.#sockets.handOver(local)
    if (given !== undefined) this.#attached.set(local, send)
    return given
  }

  /** Forgets a peer. */
  disconnect(peer: number): void {
    this.#paths.delete(peer)
    this.#trafficMs.delete(peer)
    this.do(endpoint => endpoint.disconnect(peer))
  }

  /** Asks servers for our addresses anew; resolves when they have answered, or after `limitMs`. */
  async gather(limitMs: number): Promise<void> {
    const endMs = monotonicMs() + limitMs
    this.do((endpoint, now) => endpoint.gather(now))
    while (!this.#isClosed && this.#endpoint.isGathering && monotonicMs() < endMs)
      await new Promise(resolve => setTimeout(resolve, GATHER_LOOK_MS))
  }

  /** Lets the machine do something, and carries out what comes of it. */
  do<T>(what: (endpoint: Endpoint, now: number) => T): T {
    const result = what(this.#endpoint, monotonicMs())
    this.#settle()
    return result
  }

  /** Gives the machine a datagram that came by what was attached. */
  deliver(bytes: Uint8Array, from: Address, local: number): void {
    const packet = this.#endpoint.handlePacket(bytes, from, local, monotonicMs())
    // A session's packet changes nothing in the machine.
    if (packet === undefined) this.#settle()
    else this.#options.onPacket(packet)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.do((endpoint, now) => endpoint.close(now))
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#watch[Symbol.dispose]()
    await this.#mapper?.[Symbol.asyncDispose]()
    await this.#sockets[Symbol.asyncDispose]()
  }

  #add(local: number, family: Family, port: number): void {
    const hosts = this.#hosts(family)
    this.#listening.set(local, family)
    this.do((endpoint, now) => endpoint.addSocket({ local, family, port, hosts }, now))
    if (this.#options.mapsPorts !== true || family === 6 || this.#mapper !== undefined) return
    this.#mapper = new PortMapper({
      port,
      hosts: () => this.#hosts(family),
      onMapping: address => this.do((endpoint, now) => endpoint.handlePortMapping(local, address, now)),
    })
    void this.#mapper.start()
  }

  #hosts(family: Family): readonly string[] {
    const { hosts = machineAddresses(), tells = () => true } = this.#options
    return hosts.filter(host => host.includes(':') === (family === 6) && tells(host))
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
            this.#sockets.close(command.local)
            if (this.#attached.delete(command.local)) this.#options.onReturned?.(command.local)
            break
          case 'offer':
            this.#options.onOffer(command.peer, encodePathOffer(command.offer))
            break
          case 'path':
            if (command.path === undefined) this.#paths.delete(command.peer)
            else this.#paths.set(command.peer, command.path)
            this.#options.onPath(command.peer, command.path, command.rttMs)
            break
          case 'failed':
            this.#options.onPath(command.peer, undefined, undefined)
        }
      }
    }
    this.#arm()
  }

  #send(local: number, to: Address, bytes: Uint8Array): void {
    const attached = this.#attached.get(local)
    if (attached !== undefined) return attached(to, bytes)
    if (!this.#hostsSentTo.has(to.host)) this.#addHost(to.host)
    this.#sockets.send(local, to, bytes)
  }

  #addHost(host: string): void {
    const { onHost } = this.#options
    if (onHost === undefined) return
    this.#hostsSentTo.add(host)
    if (this.#hostsSentTo.size > MAX_HOSTS) this.#hostsSentTo.delete(this.#hostsSentTo.keys().next().value as string)
    onHost(host)
  }

  async #openExtras(request: number, count: number, family: Family): Promise<void> {
    const open = async () => {
      const local = this.#nextLocal++
      // Out of descriptors: what is there has to do.
      const port = await this.#sockets.open(local, family, 0).catch(() => undefined)
      if (port === undefined) return false
      if (this.#isClosed) this.#sockets.close(local)
      else this.do((endpoint, now) => endpoint.addExtraSocket(request, local, now))
      return true
    }
    for (let left = count; left > 0 && !this.#isClosed; left -= EXTRAS_AT_ONCE) {
      const opened = await Promise.all(Array.from({ length: Math.min(left, EXTRAS_AT_ONCE) }, open))
      if (opened.includes(false)) return
    }
  }

  #arm(): void {
    clearTimeout(this.#timer)
    if (this.#isClosed) return
    const waitMs = Math.min(Math.max(this.#endpoint.deadline() - monotonicMs(), 0), MAX_WAIT_MS)
    this.#timer = setTimeout(() => this.do((endpoint, now) => endpoint.handleDeadline(now)), waitMs)
  }
}
