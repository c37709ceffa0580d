// What carries the packets of one's devices: the mesh (WireGuard) between a TUN and the sockets that paths lead out of. Who decides about
// paths is elsewhere (mesh-worker.ts): orders in, reports out, and nothing of either for each packet.
//
//   TUN ──► mesh ──sealed where it lies──► the peer's path: socket, meeting at a relay, channel of a TURN server
//   socket ──► STUN? reported : mesh ──opened where it lies──► TUN
//
// One port for checks and packets. Bounds: what is reported of STUN, and of packets that only the path machine can send, is held to
// a rate; more is dropped.

import { copyBytes, copyInto } from '#bytes/copy.ts'
import { systemRandom } from '#crypto/random.ts'
import type { Counters } from '#forward/counters.ts'
import { HEADROOM, type Slab } from '#forward/slab.ts'
import { TokenBucket } from '#forward/token-bucket.ts'
import { Mesh, type MeshPeer, type MeshStatus, type Origin } from '#mesh/mesh.ts'
import { markCongestion } from '#packet/congestion-mark.ts'
import { type Family, isSameAddress } from '#path/base.ts'
import type { Path } from '#path/ground.ts'
import type { Address } from '#wire/address.ts'
import { isStun } from '#wire/stun.ts'
import { CHANNEL_HEADER_BYTES, isChannelData, writeChannelHeader } from '#wire/stun-value.ts'
import { isTransport } from '#wire/transport.ts'
import type { DatagramSocket, Datagrams, SocketPlan } from './datagrams.ts'
import { MEETING_HEADER } from './meeting-port.ts'

export interface CarrierSettings {
  readonly privateKey: Uint8Array
  /** Our own; the first is of the kind that peers are asked for echoes at. */
  readonly addresses: readonly string[]
  readonly turnServers: readonly Address[]
}

export type CarrierOrder =
  | { readonly kind: 'peers'; readonly privateKey: Uint8Array; readonly peers: readonly MeshPeer[] }
  | { readonly kind: 'path'; readonly peer: number; readonly path: Path | undefined }
  | { readonly kind: 'restart'; readonly peer: number }
  /** A socket on every address of that family; `fd` is one that is open and bound, or negative. */
  | {
      readonly kind: 'open'
      readonly local: number
      readonly family: Family
      readonly port: number
      readonly fd: number
    }
  /** The way to `at` on loopback, where a relay's flow begins; who is at its other end counts as `from`. */
  | { readonly kind: 'openMeeting'; readonly local: number; readonly at: Address; readonly from: Address }
  | { readonly kind: 'close'; readonly local: number }
  | { readonly kind: 'send'; readonly local: number; readonly to: Address; readonly bytes: Uint8Array }
  /** A session's packet that came wrapped in what only the path machine opens. */
  | { readonly kind: 'packet'; readonly local: number; readonly from: Address; readonly bytes: Uint8Array }
  | { readonly kind: 'ping'; readonly peer: number; readonly request: number }
  | { readonly kind: 'status'; readonly request: number }

export type CarrierReport =
  /** What became of `open`; without a port there is none. */
  | { readonly kind: 'opened'; readonly local: number; readonly port: number | undefined }
  | { readonly kind: 'stun'; readonly local: number; readonly from: Address; readonly bytes: Uint8Array }
  /** Packets go to a peer, said at most every 100 ms. */
  | { readonly kind: 'traffic'; readonly peer: number }
  /** A packet for a peer that only the path machine can send. */
  | { readonly kind: 'outward'; readonly peer: number; readonly bytes: Uint8Array }
  /** Something is sent to a host to which no path leads: a phone. */
  | { readonly kind: 'host'; readonly host: string }
  | { readonly kind: 'secret'; readonly peer: number; readonly isAgreed: boolean }
  | { readonly kind: 'pong'; readonly request: number; readonly rttMs: number | undefined }
  | {
      readonly kind: 'status'
      readonly request: number
      readonly peers: readonly MeshStatus[]
      /** Packets that were not let in. */
      readonly refused: number
    }

export interface CarrierOptions {
  readonly settings: CarrierSettings
  readonly datagrams: Datagrams
  readonly counters: Counters
  readonly now: () => number
  readonly report: (report: CarrierReport) => void
  /** How a socket for everything is opened here. */
  readonly planOf: (order: Extract<CarrierOrder, { kind: 'open' }>) => SocketPlan
  /** To the TUN, out of received memory or the slab. Without one there is none. */
  readonly toTunnel?: (buffer: Uint8Array, offset: number, length: number) => void
  /** Memory that packets may be written to the TUN from. */
  readonly slab?: Slab
}

/** A socket; what goes out of it begins with `header`, as does what comes. */
interface Way {
  readonly local: number
  readonly socket: DatagramSocket
  readonly header: Uint8Array
  /** Where the last datagram came from: packet follows packet. */
  origin: Origin
}

interface Outward {
  path: Path | undefined
  trafficMs: number
}

const TRAFFIC_MS = 100
const MAX_HOSTS = 256
const REPORTED_BYTES_PER_SECOND = 1024 * 1024
/** What a report costs at least. */
const MIN_REPORT_BYTES = 128
/** As the forwarder has it: shorter ones are handshakes and acknowledgements. */
const MIN_SHED_BYTES = 256
const NO_HEADER = new Uint8Array(0)
const NOBODY: Address = { host: '', port: 0 }

export class MeshCarrier {
  /** The queue that datagrams come from now stands: the next that is long enough is marked, or dropped. */
  shedsNext = false
  readonly #options: CarrierOptions
  readonly #mesh: Mesh
  readonly #ways = new Map<number, Way>()
  readonly #outward = new Map<number, Outward>()
  readonly #hosts = new Set<string>()
  #lastHost = ''
  readonly #stunRate: TokenBucket
  readonly #wrappedRate: TokenBucket

  constructor(options: CarrierOptions) {
    this.#options = options
    const { settings, report, now, toTunnel } = options
    this.#stunRate = new TokenBucket(REPORTED_BYTES_PER_SECOND, now())
    this.#wrappedRate = new TokenBucket(REPORTED_BYTES_PER_SECOND, now())
    this.#mesh = new Mesh({
      privateKey: settings.privateKey,
      addresses: settings.addresses,
      random: systemRandom,
      unixOffsetMs: Date.now() - now(),
      toPeer: (peer, buffer, offset, length) => this.#sendToPeer(peer, buffer, offset, length),
      toOrigin: (origin, buffer, offset, length) => this.#sendBack(origin, buffer, offset, length),
      onSecret: (peer, isAgreed) => report({ kind: 'secret', peer, isAgreed }),
      ...(toTunnel !== undefined && {
        toTunnel: (buffer: Uint8Array, offset: number, length: number) => {
          if (!this.#isShed(buffer, offset, length)) toTunnel(buffer, offset, length)
        },
      }),
    })
  }

  deadline(): number {
    return this.#mesh.deadline()
  }

  handleDeadline(now: number): void {
    this.#mesh.handleDeadline(now)
  }

  /** A packet of the TUN, sealed where it lies, with `HEADROOM` before it. */
  send(buffer: Uint8Array, offset: number, length: number): void {
    this.#mesh.send(buffer, offset, length, this.#options.now())
  }

  carryOut(order: CarrierOrder): void {
    const { report, now } = this.#options
    switch (order.kind) {
      case 'peers':
        return this.#setPeers(order.privateKey, order.peers)
      case 'path':
        return this.#setPath(order.peer, order.path)
      case 'restart':
        return this.#mesh.restart(order.peer, now())
      case 'open':
        return this.#open(order)
      case 'openMeeting':
        return this.#openMeeting(order)
      case 'close':
        this.#ways.get(order.local)?.socket.close()
        return void this.#ways.delete(order.local)
      case 'send': {
        const way = this.#ways.get(order.local)
        return way && this.#sendBy(way, order.to, order.bytes, 0, order.bytes.length)
      }
      case 'packet':
        return this.#takeWrapped(order)
      case 'ping': {
        const { peer, request } = order
        return this.#mesh.ping(peer, now(), rttMs => report({ kind: 'pong', request, rttMs }))
      }
      case 'status': {
        const { refused } = this.#mesh
        return report({ kind: 'status', request: order.request, peers: this.#mesh.status(now()), refused })
      }
    }
  }

  /** Forgets the keys and closes every socket. */
  close(): void {
    this.#mesh.close()
    for (const { socket } of this.#ways.values()) socket.close()
    this.#ways.clear()
  }

  #setPeers(privateKey: Uint8Array, peers: readonly MeshPeer[]): void {
    const now = this.#options.now()
    this.#mesh.setPrivateKey(privateKey)
    this.#mesh.setPeers(peers, now)
    const linked = new Set(peers.filter(({ isPlain }) => isPlain !== true).map(({ peer }) => peer))
    for (const peer of this.#outward.keys()) if (!linked.has(peer)) this.#outward.delete(peer)
    for (const peer of linked) {
      const known = this.#outward.get(peer)
      // New keys: the session begins anew along the path that is there.
      if (known === undefined) this.#outward.set(peer, { path: undefined, trafficMs: Number.NEGATIVE_INFINITY })
      else if (known.path !== undefined) this.#mesh.handlePath(peer, now)
    }
  }

  #setPath(peer: number, path: Path | undefined): void {
    const outward = this.#outward.get(peer)
    if (outward === undefined) return
    outward.path = path
    if (path !== undefined) this.#mesh.handlePath(peer, this.#options.now())
  }

  #open(order: Extract<CarrierOrder, { kind: 'open' }>): void {
    const { datagrams, report, planOf } = this.#options
    const { local } = order
    let isOpen = true
    const socket = datagrams.open(planOf(order), {
      onDatagram: (buffer, offset, length, from) => this.#receive(way, buffer, offset, length, from),
      onOpen: ({ port }) => report({ kind: 'opened', local, port }),
      onFailed: () => {
        isOpen = false
        this.#ways.delete(local)
        report({ kind: 'opened', local, port: undefined })
      },
    })
    const way: Way = { local, socket, header: NO_HEADER, origin: { local, from: NOBODY } }
    if (isOpen) this.#ways.set(local, way)
  }

  #openMeeting({ local, at, from }: Extract<CarrierOrder, { kind: 'openMeeting' }>): void {
    const { length: header } = MEETING_HEADER
    const plan = { bind: { host: '127.0.0.1', port: 0 }, connect: at, isBusy: true }
    const socket = this.#options.datagrams.open(plan, {
      onDatagram: (buffer, offset, length) => {
        if (length > header) this.#receive(way, buffer, offset + header, length - header, from)
      },
    })
    const way: Way = { local, socket, header: MEETING_HEADER, origin: { local, from } }
    this.#ways.set(local, way)
  }

  #receive(way: Way, buffer: Uint8Array, offset: number, length: number, from: Address): void {
    if (!isTransport(buffer, offset, length)) {
      if (isStun(buffer, offset, length)) return this.#reportStun(way, buffer, offset, length, from)
      if (isChannelData(buffer, offset, length) && this.#isTurnServer(from)) {
        const inner = offset + CHANNEL_HEADER_BYTES
        const innerLength = ((buffer[offset + 2] ?? 0) << 8) | (buffer[offset + 3] ?? 0)
        // Checks come by channels too, and only the path machine knows whose they are.
        if (isStun(buffer, inner, innerLength)) return this.#reportStun(way, buffer, offset, length, from)
        return this.#mesh.receive(buffer, inner, innerLength, this.#originOf(way, from), this.#options.now())
      }
    }
    this.#mesh.receive(buffer, offset, length, this.#originOf(way, from), this.#options.now())
  }

  #originOf(way: Way, from: Address): Origin {
    if (way.origin.from !== from) way.origin = { local: way.local, from }
    return way.origin
  }

  #isTurnServer(from: Address): boolean {
    return this.#options.settings.turnServers.some(server => isSameAddress(server, from))
  }

  #reportStun({ local }: Way, buffer: Uint8Array, offset: number, length: number, from: Address): void {
    const { report, counters, now } = this.#options
    if (!this.#stunRate.take(Math.max(length, MIN_REPORT_BYTES), now())) return counters.add('dropRateLimit')
    report({ kind: 'stun', local, from, bytes: copyBytes(buffer, offset, offset + length) })
  }

  #takeWrapped({ local, from, bytes }: Extract<CarrierOrder, { kind: 'packet' }>): void {
    const { slab, now } = this.#options
    const origin = { local, from }
    if (slab === undefined) return this.#mesh.receive(bytes, 0, bytes.length, origin, now())
    const at = slab.take(bytes.length) + HEADROOM
    copyInto(bytes, 0, bytes.length, slab.buffer, at)
    this.#mesh.receive(slab.buffer, at, bytes.length, origin, now())
  }

  #sendToPeer(peer: number, buffer: Uint8Array, offset: number, length: number): void {
    const outward = this.#outward.get(peer)
    if (outward === undefined) return
    const { report, counters, now } = this.#options
    if (now() - outward.trafficMs >= TRAFFIC_MS) {
      outward.trafficMs = now()
      report({ kind: 'traffic', peer })
    }
    const { path } = outward
    const way = path && this.#ways.get(path.local)
    if (path === undefined || way === undefined) return
    if (path.kind !== 'turn') return this.#sendBy(way, path.to, buffer, offset, length)
    if (path.channel !== undefined) return this.#sendByChannel(way, path.to, path.channel, buffer, offset, length)
    if (!this.#wrappedRate.take(Math.max(length, MIN_REPORT_BYTES), now())) return counters.add('dropRateLimit')
    report({ kind: 'outward', peer, bytes: copyBytes(buffer, offset, offset + length) })
  }

  #sendBack({ local, from }: Origin, buffer: Uint8Array, offset: number, length: number): void {
    const way = this.#ways.get(local)
    if (way === undefined) return
    if (way.header.length === 0) this.#noteHost(from.host)
    this.#sendBy(way, from, buffer, offset, length)
  }

  #sendBy({ socket, header }: Way, to: Address, buffer: Uint8Array, offset: number, length: number): void {
    if (header.length === 0) return socket.send(buffer, offset, length, to)
    const { bytes, start } = roomBefore(buffer, offset, length, header.length)
    bytes.set(header, start)
    socket.send(bytes, start, header.length + length)
  }

  #sendByChannel(
    { socket }: Way,
    to: Address,
    channel: number,
    buffer: Uint8Array,
    offset: number,
    length: number,
  ): void {
    const { bytes, start } = roomBefore(buffer, offset, length, CHANNEL_HEADER_BYTES)
    writeChannelHeader(bytes, start, channel, length)
    socket.send(bytes, start, CHANNEL_HEADER_BYTES + length, to)
  }

  #noteHost(host: string): void {
    if (host === this.#lastHost) return
    this.#lastHost = host
    if (this.#hosts.has(host)) return
    this.#hosts.add(host)
    if (this.#hosts.size > MAX_HOSTS) this.#hosts.delete(this.#hosts.keys().next().value as string)
    this.#options.report({ kind: 'host', host })
  }

  #isShed(buffer: Uint8Array, offset: number, length: number): boolean {
    if (!this.shedsNext || length < MIN_SHED_BYTES) return false
    this.shedsNext = false
    const isMarked = markCongestion(buffer, offset)
    this.#options.counters.add(isMarked ? 'markedCongestion' : 'dropStandingQueue')
    return !isMarked
  }
}

/** Room for a header before what is sent: packets of the TUN have it, what was made for itself lies at the front of its memory. */
function roomBefore(
  buffer: Uint8Array,
  offset: number,
  length: number,
  header: number,
): { readonly bytes: Uint8Array; readonly start: number } {
  if (offset >= header) return { bytes: buffer, start: offset - header }
  const bytes = new Uint8Array(header + length)
  bytes.set(buffer.subarray(offset, offset + length), header)
  return { bytes, start: 0 }
}
