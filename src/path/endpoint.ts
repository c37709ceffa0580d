// The node's own end of every path: its sockets, what servers say about them, its ports on TURN servers and relays, and one
// agent for each peer. A pure machine; the shell has the sockets and carries the offers.
//
//   socket ──datagram──► handlePacket ──► STUN of a server ──► gatherer, lifetime, TURN client
//                             │     └───► STUN of a peer  ───► agent (by USERNAME, by tag of the transaction)
//                             └──(everything else)──► given back, unwrapped: a session's packet
//
// Bounds: 64 sockets and relays, 512 extra sockets, 256 peers; more are refused.

import type { Random } from '#crypto/random.ts'
import type { Address } from '#wire/address.ts'
import { type Candidate, MAX_CANDIDATES, type NatBehaviour, type PathOffer } from '#wire/path-offer.ts'
import { type DecodedStun, decodeStun, isStun, STUN_METHOD } from '#wire/stun.ts'
import { Agent } from './agent.ts'
import { type Base, candidatePriority, type Family, isLoopback, isSameAddress } from './base.ts'
import { ufragOf } from './credentials.ts'
import { Gatherer } from './gatherer.ts'
import type { Ground, Path, PathCommand } from './ground.ts'
import { DEFAULT_KEEPALIVE_MS, MappingLifetime } from './mapping-lifetime.ts'
import { UNKNOWN_NAT } from './nat-behaviour.ts'
import { tagOf } from './outstanding.ts'
import { ProbeBudget } from './probe-budget.ts'
import { TurnClient, type TurnServer } from './turn-client.ts'

export interface EndpointOptions {
  readonly random: Random
  /** Servers that are asked for our address: relays, or configured ones. Nobody is asked who is not named here. */
  readonly stunServers: readonly Address[]
  readonly turnServers: readonly TurnServer[]
  /**
   * Peers are strangers: no ports are guessed unless `vouch` says so, and less is sent to an address that never answered. Servers are asked by `gather`
   * alone: were they asked when somebody is met, they would see when that is.
   */
  readonly meetsStrangers?: boolean
  /** Whether the lifetime of mappings is to be learned; it takes a socket and a few minutes. */
  readonly learnsLifetime?: boolean
}

/** A socket that listens for everything: paths, checks and servers. */
export interface SocketDescription {
  readonly local: number
  readonly family: Family
  readonly port: number
  /** Addresses of the machine that it hears on and a peer may be told (`hostAddresses`). */
  readonly hosts: readonly string[]
}

/** A datagram that is not the path's own: a session's packet. */
export interface Inbound {
  readonly bytes: Uint8Array
  readonly from: Address
  /** The socket or relay that it came by; negative for a port on a TURN server. */
  readonly local: number
}

interface Socket {
  readonly base: Base
  readonly port: number
  hosts: readonly string[]
  mapped: Address | undefined
  readonly gatherer: Gatherer
}

interface Turn {
  readonly base: Base
  readonly over: Base
  readonly client: TurnClient
}

const MAX_BASES = 64
const MAX_EXTRAS = 512
const MAX_PEERS = 256
/** Refreshes that are asked for more often than this are one. */
const REFRESH_SPACING_MS = 1_000
const LIFETIME_REQUEST = 0

export class Endpoint {
  readonly #options: EndpointOptions
  readonly #ground: Ground
  readonly #out: PathCommand[] = []
  readonly #bases = new Map<number, Base>()
  readonly #sockets = new Map<number, Socket>()
  #turns: Turn[] = []
  readonly #agents = new Map<number, Agent>()
  readonly #agentByTag = new Map<string, Agent>()
  readonly #waiting = new Map<number, { readonly peer: number; left: number }>()
  #nextTurn = -1
  #nextRequest = LIFETIME_REQUEST + 1
  #extras = 0
  #refreshedMs = Number.NEGATIVE_INFINITY
  #described = ''
  #lifetime: MappingLifetime | undefined
  #lifetimeBase: Base | undefined
  #lifetimeState: 'unknown' | 'asked' | 'known' = 'unknown'

  constructor(options: EndpointOptions) {
    this.#options = options
    this.#ground = {
      random: options.random,
      budget: new ProbeBudget(options.meetsStrangers),
      guesses: options.meetsStrangers !== true,
      out: this.#out,
      keepaliveMs: () => this.keepaliveMs,
      isGathering: () => this.isGathering,
      bases: peer => this.#usableBases(peer),
      candidates: () => this.candidates(),
      nat: () => this.nat(),
      refresh: now => {
        if (options.meetsStrangers !== true) this.#refresh(now)
      },
      send: (base, to, bytes, now) => this.#send(base, to, bytes, now),
      path: (base, to, isRelayed, now) => this.#path(base, to, isRelayed, now),
      openSockets: (peer, count) => this.#openSockets(peer, count),
      closeSocket: base => this.#closeExtra(base),
    }
  }

  /** How long an idle mapping is left alone. */
  get keepaliveMs(): number {
    return this.#lifetime?.keepaliveMs ?? DEFAULT_KEEPALIVE_MS
  }

  /** Whether servers have still to answer. */
  get isGathering(): boolean {
    return [...this.#sockets.values()].some(({ gatherer }) => !gatherer.isDone)
  }

  /** Asks servers anew what our addresses are: a NAT forgets what was not used for a while. */
  gather(now: number): void {
    this.#refresh(now)
  }

  /** A socket of the node; its servers are asked at once. */
  addSocket({ local, family, port, hosts }: SocketDescription, now: number): void {
    if (this.#bases.size >= MAX_BASES || this.#bases.has(local)) return
    const isOnLoopback = hosts.some(isLoopback)
    const base: Base = { local, kind: 'socket', family, address: undefined, isExtra: false, isOnLoopback }
    const { random, stunServers, turnServers } = this.#options
    const isFirst = ![...this.#sockets.values()].some(({ base }) => base.family === family)
    const send = (to: Address, bytes: Uint8Array) => this.#out.push({ kind: 'send', local, to, bytes })
    const gatherer = new Gatherer({ base, servers: stunServers, random, send: (to, bytes) => void send(to, bytes) })
    this.#bases.set(local, base)
    this.#sockets.set(local, { base, port, hosts, mapped: undefined, gatherer })
    gatherer.begin(now)
    for (const server of isFirst ? turnServers : []) {
      if (server.address.host.includes(':') !== (family === 6)) continue
      const client = new TurnClient({ server, random, send: bytes => void send(server.address, bytes) })
      const turnBase: Base = { local: this.#nextTurn--, kind: 'turn', family, address: undefined, isExtra: false }
      this.#turns.push({ base: turnBase, over: base, client })
      client.begin(now)
    }
    this.#groundChanged(now)
  }

  /** A port that a relay holds for us at `address`; datagrams of `local` go there and come from there. */
  addRelay(local: number, address: Address, now: number): void {
    if (this.#bases.size >= MAX_BASES || this.#bases.has(local)) return
    const family = address.host.includes(':') ? 6 : 4
    this.#bases.set(local, { local, kind: 'relay', family, address, isExtra: false })
    this.#groundChanged(now)
  }

  /** A flow that a relay joins to one of the peer's; `to` stands for the peer there (an address of 100::/64, RFC 6666). */
  addMeeting(local: number, peer: number, to: Address, now: number): void {
    if (this.#bases.size >= MAX_BASES || this.#bases.has(local)) return
    this.#bases.set(local, { local, kind: 'relay', family: 6, address: undefined, isExtra: false, meets: { peer, to } })
    const agent = this.#agents.get(peer)
    agent?.handleGroundChange(now)
    agent?.handleTraffic(now)
  }

  /** A socket that `openSockets` asked for; a number of its own, not used before. */
  addExtraSocket(request: number, local: number, now: number): void {
    const isKnown = this.#bases.has(local)
    const base: Base = { local, kind: 'socket', family: 4, address: undefined, isExtra: true }
    if (isKnown) return
    const waiting = this.#waiting.get(request)
    const agent = waiting && this.#agents.get(waiting.peer)
    const isForLifetime = request === LIFETIME_REQUEST && this.#lifetimeState === 'asked' && !this.#lifetimeBase
    if (this.#extras >= MAX_EXTRAS || (!isForLifetime && agent === undefined)) {
      this.#out.push({ kind: 'closeSocket', local })
      return
    }
    this.#bases.set(local, base)
    this.#extras++
    if (waiting !== undefined && --waiting.left === 0) this.#waiting.delete(request)
    if (agent !== undefined) agent.addSocket(base)
    else this.#beginLifetime(base, now)
  }

  /** A socket or relay that is gone. */
  removeBase(local: number, now: number): void {
    const base = this.#bases.get(local)
    if (base === undefined) return
    this.#bases.delete(local)
    this.#sockets.delete(local)
    if (base.isExtra) this.#extras--
    const turns = this.#turns.filter(({ over }) => over === base)
    this.#turns = this.#turns.filter(({ over }) => over !== base)
    for (const agent of this.#agents.values()) {
      agent.handleBaseRemoved(local, now)
      for (const turn of turns) agent.handleBaseRemoved(turn.base.local, now)
    }
    this.#groundChanged(now)
  }

  /** The machine has other addresses, or woke, or joined another network. */
  handleNetworkChange(local: number, hosts: readonly string[], now: number): void {
    const socket = this.#sockets.get(local)
    if (socket === undefined) return
    socket.hosts = hosts
    this.#refreshedMs = Number.NEGATIVE_INFINITY
    this.#refresh(now)
    this.#groundChanged(now)
    for (const agent of this.#agents.values()) agent.handleNetworkChange(now)
  }

  /** A port that the router opened for the socket, or none any more. */
  handlePortMapping(local: number, mapped: Address | undefined, now: number): void {
    const socket = this.#sockets.get(local)
    if (socket === undefined) return
    socket.mapped = mapped
    this.#groundChanged(now)
  }

  /** Begins to look for a path to `peer` (a number of the caller); false when there are too many peers. */
  connect(peer: number, isControlling: boolean, now: number): boolean {
    if (this.#agents.size >= MAX_PEERS || this.#agents.has(peer)) return false
    const agent = new Agent({ peer, isControlling, ground: this.#ground }, now)
    this.#agents.set(peer, agent)
    this.#agentByTag.set(agent.tag, agent)
    this.#askForLifetime()
    return true
  }

  disconnect(peer: number): void {
    const agent = this.#agents.get(peer)
    if (agent === undefined) return
    agent.close()
    this.#agents.delete(peer)
    this.#agentByTag.delete(agent.tag)
  }

  /** What a peer says about itself, from whatever carried it. */
  handleOffer(peer: number, offer: PathOffer, now: number): void {
    this.#agents.get(peer)?.handleOffer(offer, now)
  }

  /** Application data goes to or from the peer; said at most every 100 ms. */
  handleTraffic(peer: number, now: number): void {
    this.#agents.get(peer)?.handleTraffic(now)
  }

  /** Somebody says that the peer is at that host (`ProbeBudget.vouch`): ports may be guessed there. False when it is too early. */
  vouch(peer: number, host: string, now: number): boolean {
    const agent = this.#agents.get(peer)
    if (agent === undefined || !this.#ground.budget.vouch(host, now)) return false
    agent.guessOnce(now)
    return true
  }

  /** New credentials for one peer, everything checked anew. */
  restart(peer: number, now: number): void {
    this.#agents.get(peer)?.restart(now)
  }

  path(peer: number, now: number): Path | undefined {
    return this.#agents.get(peer)?.path(now)
  }

  /** Sends a packet along the path; false while there is none. Fast senders use `path` and send for themselves. */
  send(peer: number, bytes: Uint8Array, now: number): boolean {
    return this.#agents.get(peer)?.send(bytes, now) ?? false
  }

  /** Takes any datagram; gives back what belongs to a session. */
  handlePacket(bytes: Uint8Array, from: Address, local: number, now: number): Inbound | undefined {
    const base = this.#bases.get(local)
    if (base === undefined) return isStun(bytes, 0, bytes.length) ? undefined : { bytes, from, local }
    const message = decodeStun(bytes)
    for (const turn of this.#turns) {
      if (turn.over !== base || !isSameAddress(turn.client.server, from)) continue
      const inner = turn.client.handlePacket(bytes, message, now)
      this.#turnChanged(turn, now)
      if (inner !== undefined) return this.#receive(inner.bytes, decodeStun(inner.bytes), inner.from, turn.base, now)
    }
    return this.#receive(bytes, message, from, base, now)
  }

  deadline(): number {
    let due = this.#lifetime?.deadline() ?? Number.POSITIVE_INFINITY
    for (const { gatherer } of this.#sockets.values()) due = Math.min(due, gatherer.deadline())
    for (const { client } of this.#turns) due = Math.min(due, client.deadline())
    for (const agent of this.#agents.values()) due = Math.min(due, agent.deadline())
    return due
  }

  handleDeadline(now: number): void {
    for (const { gatherer } of this.#sockets.values()) gatherer.handleDeadline(now)
    for (const turn of this.#turns) {
      turn.client.handleDeadline(now)
      this.#turnChanged(turn, now)
    }
    this.#lifetime?.handleDeadline(now)
    this.#endLifetime()
    for (const agent of this.#agents.values()) if (agent.deadline() <= now) agent.handleDeadline(now)
  }

  /** Takes what the shell has to do. */
  take(): PathCommand[] {
    return this.#out.splice(0)
  }

  /** Gives every port back. */
  close(now: number): void {
    for (const peer of [...this.#agents.keys()]) this.disconnect(peer)
    for (const { client } of this.#turns) client.close(now)
    this.#turns = []
  }

  /** What a peer may be told about where we are, best first. */
  candidates(): readonly Candidate[] {
    const list: Candidate[] = []
    const add = (kind: Candidate['kind'], address: Address, family: Family, index: number) => {
      if (list.some(candidate => isSameAddress(candidate.address, address))) return
      list.push({ kind, priority: candidatePriority(kind, family, index), address })
    }
    for (const { base, port, hosts, mapped, gatherer } of this.#sockets.values()) {
      for (const [i, host] of hosts.entries()) add('host', { host, port }, base.family, i)
      if (mapped !== undefined) add('mapped', mapped, base.family, 0)
      for (const [i, address] of gatherer.mapped.toReversed().entries()) {
        add('serverReflexive', address, base.family, i)
      }
    }
    for (const base of this.#usableBases(undefined)) {
      if (base.address !== undefined) add('relayed', base.address, base.family, base.kind === 'relay' ? 0 : 1)
    }
    return list.toSorted((a, b) => b.priority - a.priority).slice(0, MAX_CANDIDATES)
  }

  /** How the NAT in front of the first IPv4 socket assigns ports. */
  nat(): NatBehaviour {
    for (const { base, gatherer } of this.#sockets.values()) if (base.family === 4) return gatherer.nat
    return UNKNOWN_NAT
  }

  *#usableBases(peer: number | undefined): Generator<Base> {
    for (const base of this.#bases.values()) {
      if (!base.isExtra && (base.meets === undefined || base.meets.peer === peer)) yield base
    }
    for (const { base } of this.#turns) if (base.address !== undefined) yield base
  }

  #receive(
    bytes: Uint8Array,
    message: DecodedStun | undefined,
    from: Address,
    base: Base,
    now: number,
  ): Inbound | undefined {
    if (message === undefined) return isStun(bytes, 0, bytes.length) ? undefined : { bytes, from, local: base.local }
    if (message.method !== STUN_METHOD.binding) return undefined
    if (message.class === 'request') {
      const ufrag = ufragOf(message)
      for (const agent of this.#agents.values()) {
        if (ufrag !== undefined && agent.ufrags.includes(ufrag)) agent.handleRequest(bytes, message, from, base, now)
      }
    } else if (message.class !== 'indication') {
      if (base === this.#lifetimeBase) {
        this.#lifetime?.handleAnswer(message, from, now)
        this.#endLifetime()
      } else if (this.#sockets.get(base.local)?.gatherer.handleAnswer(message, from)) {
        this.#groundChanged(now)
      } else {
        this.#agentByTag.get(tagOf(message.transaction))?.handleAnswer(bytes, message, from, base, now)
      }
    }
    return undefined
  }

  #send(base: Base, to: Address, bytes: Uint8Array, now: number): void {
    if (base.kind !== 'turn') {
      this.#out.push({ kind: 'send', local: base.local, to, bytes })
      return
    }
    this.#turns.find(turn => turn.base === base)?.client.sendTo(to, bytes, now)
  }

  #path(base: Base, to: Address, isRelayed: boolean, now: number): Path {
    const turn = this.#turns.find(turn => turn.base === base)
    if (turn === undefined) return { kind: isRelayed ? 'relayed' : 'direct', local: base.local, to }
    const { client, over } = turn
    return { kind: 'turn', local: over.local, to: client.server, channel: client.channelTo(to, now) }
  }

  #refresh(now: number): void {
    if (now - this.#refreshedMs < REFRESH_SPACING_MS) return
    this.#refreshedMs = now
    for (const { gatherer } of this.#sockets.values()) gatherer.begin(now)
    for (const { client } of this.#turns) client.verify(now)
  }

  #turnChanged(turn: Turn, now: number): void {
    const { relayed } = turn.client
    const { base } = turn
    if (relayed === base.address || (relayed && base.address && isSameAddress(relayed, base.address))) return
    base.address = relayed
    // Another port is another base: pairs of the old one work no longer.
    for (const agent of this.#agents.values()) agent.handleBaseRemoved(base.local, now)
    this.#groundChanged(now)
  }

  #groundChanged(now: number): void {
    const described = JSON.stringify([this.candidates(), this.nat()])
    if (described === this.#described) return
    this.#described = described
    for (const agent of this.#agents.values()) agent.handleGroundChange(now)
  }

  #openSockets(peer: number, count: number): void {
    const request = this.#nextRequest++
    this.#waiting.set(request, { peer, left: count })
    if (this.#waiting.size > MAX_PEERS) {
      for (const oldest of this.#waiting.keys()) {
        this.#waiting.delete(oldest)
        break
      }
    }
    this.#out.push({ kind: 'openSockets', request, count, family: 4 })
  }

  #closeExtra(base: Base): void {
    if (!this.#bases.delete(base.local)) return
    this.#extras--
    this.#out.push({ kind: 'closeSocket', local: base.local })
  }

  #askForLifetime(): void {
    const hasServer = this.#options.stunServers.some(({ host }) => !host.includes(':'))
    if (this.#options.learnsLifetime !== true || this.#lifetimeState !== 'unknown' || !hasServer) return
    this.#lifetimeState = 'asked'
    this.#out.push({ kind: 'openSockets', request: LIFETIME_REQUEST, count: 1, family: 4 })
  }

  #beginLifetime(base: Base, now: number): void {
    const server = this.#options.stunServers.find(({ host }) => !host.includes(':'))
    if (server === undefined) return
    this.#lifetimeBase = base
    this.#lifetime = new MappingLifetime(server, this.#options.random, (to, bytes) => {
      this.#out.push({ kind: 'send', local: base.local, to, bytes })
    })
    this.#lifetime.begin(now)
  }

  #endLifetime(): void {
    if (this.#lifetime === undefined || !this.#lifetime.isDone || this.#lifetimeBase === undefined) return
    this.#closeExtra(this.#lifetimeBase)
    this.#lifetimeBase = undefined
    this.#lifetimeState = 'known'
  }
}
