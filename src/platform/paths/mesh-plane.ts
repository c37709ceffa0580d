// The mesh plane: the packets of one's devices, between a TUN and the sockets that paths lead out of. Who decides about paths is
// elsewhere (mesh-worker.ts): orders in, reports out, and nothing of either for each packet.
//
//   TUN ──► mesh ──sealed where it lies──► the peer's path: socket, meeting at a relay, channel of a TURN server
//   socket ──► a session's packet? mesh ──opened where it lies──► TUN
//                                : reported; what is no check comes back
//
// One port for checks and packets. Bound: 1,024 datagrams and packets that were reported are not dealt with yet; more are dropped.

import { copyBytes, copyInto } from '#bytes/copy.ts'
import { systemRandom } from '#crypto/random.ts'
import type { Counters } from '#forward/counters.ts'
import { HEADROOM, type Slab } from '#forward/slab.ts'
import { Mesh, type MeshPeer, type Origin } from '#mesh/mesh.ts'
import { markCongestion } from '#packet/congestion-mark.ts'
import { isSameAddress } from '#path/base.ts'
import type { Path } from '#path/ground.ts'
import type { Address } from '#wire/address.ts'
import { CHANNEL_HEADER_BYTES, isChannelData } from '#wire/stun-value.ts'
import { isTransport } from '#wire/transport.ts'
import type { Datagrams, SocketPlan } from '../datagrams.ts'
import type { MeshPlaneOrder, MeshPlaneReport, MeshPlaneSettings } from './mesh-plane-orders.ts'
import { originOf, sendBy, sendByChannel, type Way, Ways } from './mesh-ways.ts'

export interface MeshPlaneOptions {
  readonly settings: MeshPlaneSettings
  readonly datagrams: Datagrams
  readonly counters: Counters
  readonly now: () => number
  readonly report: (report: MeshPlaneReport) => void
  /** How a socket for everything is opened here. */
  readonly planOf: (order: Extract<MeshPlaneOrder, { kind: 'open' }>) => SocketPlan
  /** To the TUN, out of received memory or the slab. Without one there is none. */
  readonly toTunnel?: (buffer: Uint8Array, offset: number, length: number) => void
  /** Memory that packets may be written to the TUN from. */
  readonly slab?: Slab
}

interface Outward {
  path: Path | undefined
  trafficMs: number
}

const TRAFFIC_MS = 100
const MAX_HOSTS = 256
const MAX_UNHEARD = 1_024
/** As the forwarder has it: shorter ones are handshakes and acknowledgements. */
const MIN_SHED_BYTES = 256
export class MeshPlane {
  /** The queue that datagrams come from now stands: the next that is long enough is marked, or dropped. */
  shedsNext = false
  readonly #options: MeshPlaneOptions
  readonly #mesh: Mesh
  readonly #ways: Ways
  readonly #outward = new Map<number, Outward>()
  readonly #hosts = new Set<string>()
  #lastHost = ''
  /** Reports of datagrams and packets that were not dealt with yet. */
  #unheard = 0

  constructor(options: MeshPlaneOptions) {
    this.#options = options
    const { settings, datagrams, report, now, toTunnel } = options
    this.#ways = new Ways(datagrams, (way, buffer, offset, length, from) =>
      this.#receive(way, buffer, offset, length, from),
    )
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

  carryOut(order: MeshPlaneOrder): void {
    const { report, now } = this.#options
    switch (order.kind) {
      case 'peers':
        return this.#setPeers(order.privateKey, order.peers)
      case 'path':
        return this.#setPath(order.peer, order.path)
      case 'restart':
        return this.#mesh.restart(order.peer, now())
      case 'open':
        return this.#ways.open(order.local, this.#options.planOf(order), at =>
          report({ kind: 'opened', local: order.local, port: at }),
        )
      case 'openMeeting':
        return this.#ways.openMeeting(order.local, order.at, order.from)
      case 'close':
        return this.#ways.close(order.local)
      case 'send': {
        const way = this.#ways.find(order.local)
        return way && sendBy(way, order.to, order.bytes, 0, order.bytes.length)
      }
      case 'packet':
        return this.#takeBack(order)
      case 'heard':
        this.#unheard -= order.reports
        return
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
    this.#ways.closeAll()
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

  #receive(way: Way, buffer: Uint8Array, offset: number, length: number, from: Address): void {
    if (isTransport(buffer, offset, length)) return this.#open(way, buffer, offset, length, from)
    if (isChannelData(buffer, offset, length) && this.#isTurnServer(from)) {
      const inner = offset + CHANNEL_HEADER_BYTES
      const innerLength = ((buffer[offset + 2] ?? 0) << 8) | (buffer[offset + 3] ?? 0)
      if (isTransport(buffer, inner, innerLength)) return this.#open(way, buffer, inner, innerLength, from)
    }
    const { report } = this.#options
    if (!this.#mayReport()) return
    report({ kind: 'datagram', local: way.local, from, bytes: copyBytes(buffer, offset, offset + length) })
  }

  #open(way: Way, buffer: Uint8Array, offset: number, length: number, from: Address): void {
    this.#mesh.receive(buffer, offset, length, originOf(way, from), this.#options.now())
  }

  #mayReport(): boolean {
    if (this.#unheard >= MAX_UNHEARD) {
      this.#options.counters.add('dropHandshakeQueue')
      return false
    }
    this.#unheard++
    return true
  }

  #isTurnServer(from: Address): boolean {
    return this.#options.settings.turnServers.some(server => isSameAddress(server, from))
  }

  #takeBack({ local, from, bytes }: Extract<MeshPlaneOrder, { kind: 'packet' }>): void {
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
    const { report, now } = this.#options
    if (now() - outward.trafficMs >= TRAFFIC_MS) {
      outward.trafficMs = now()
      report({ kind: 'traffic', peer })
    }
    const { path } = outward
    const way = path && this.#ways.find(path.local)
    if (path === undefined || way === undefined) return
    if (path.kind !== 'turn') return sendBy(way, path.to, buffer, offset, length)
    if (path.channel !== undefined) return sendByChannel(way, path.to, path.channel, buffer, offset, length)
    if (this.#mayReport()) report({ kind: 'outward', peer, bytes: copyBytes(buffer, offset, offset + length) })
  }

  #sendBack({ local, from }: Origin, buffer: Uint8Array, offset: number, length: number): void {
    const way = this.#ways.find(local)
    if (way === undefined) return
    if (way.header.length === 0) this.#noteHost(from.host)
    sendBy(way, from, buffer, offset, length)
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
