// A host of the virtual internet that runs the real path machine: its shell has virtual sockets, a flow on a relay, offers that
// take a while, and an application that sends a numbered packet every 20 ms as soon as there is a path.

import { copyBytes } from '#bytes/copy.ts'
import { Endpoint, type EndpointOptions } from '#path/endpoint.ts'
import type { Path, PathCommand } from '#path/ground.ts'
import type { Address } from '#wire/address.ts'
import { decodePathOffer, encodePathOffer } from '#wire/path-offer.ts'
import { unwrap, wrap } from './flow-frame.ts'
import { type Realm, tunnelAddress, type VirtualInternet, type VirtualRelay } from './virtual-nat.ts'

export interface VirtualPeerOptions {
  readonly host: string
  readonly realm: Realm
  readonly relay?: VirtualRelay
  /** No UDP: the flow on the relay goes through a stream. */
  readonly isStreamOnly?: boolean
  /** A relay joins a flow of ours to the other's. */
  readonly meets?: boolean
  readonly endpoint?: Partial<EndpointOptions>
  readonly stunServers: readonly Address[]
  readonly signalMs?: number
}

const MAIN = 0
const RELAY = 1
const MEETING = 2
/** They stand for the two ends of a meeting. */
const ENDS: readonly [Address, Address] = [
  { host: '100::1', port: 1 },
  { host: '100::2', port: 1 },
]
const MAIN_PORT = 41_000
const TUNNEL_PORT = 41_001
const FIRST_EXTRA_PORT = 45_000
/** A flow on a relay is there after a round trip. */
const FLOW_MS = 60
const SEND_EVERY_MS = 20
const TUNNEL_KEEPALIVE_MS = 5_000

export class VirtualPeer {
  readonly endpoint: Endpoint
  readonly commands: Exclude<PathCommand, { kind: 'send' }>[] = []
  /** When each path was told. */
  readonly paths: { readonly atMs: number; readonly path: Path | undefined }[] = []
  /** When each application packet arrived, by its number. */
  readonly received = new Map<number, number>()
  other: VirtualPeer | undefined
  isSending = true
  sent = 0
  /** Whether offers get through. */
  canSignal = true
  readonly #net: VirtualInternet
  readonly #options: VirtualPeerOptions
  readonly #ports = new Map<number, number>([[MAIN, MAIN_PORT]])
  readonly #locals = new Map<number, number>([[MAIN_PORT, MAIN]])
  #flow: Address | undefined
  #meetingEnds: { readonly theirs: Address; readonly ours: Address } | undefined
  #realm: Realm
  #host: string
  #nextLocal = 10
  #nextPort = FIRST_EXTRA_PORT

  constructor(net: VirtualInternet, options: VirtualPeerOptions) {
    this.#net = net
    this.#options = options
    this.#realm = options.realm
    this.#host = options.host
    const { stunServers } = options
    this.endpoint = new Endpoint({ random: net.random, stunServers, turnServers: [], ...options.endpoint })
    this.#listen()
    net.machines.add(this)
  }

  /** Begins: both sides do at the same moment, as after a rendezvous. */
  connect(other: VirtualPeer, isControlling: boolean): void {
    const { now } = this.#net
    this.other = other
    this.endpoint.addSocket({ local: MAIN, family: 4, port: MAIN_PORT, hosts: [this.#host] }, now)
    this.endpoint.connect(1, isControlling, now)
    const { relay, meets } = this.#options
    if (meets) {
      const [theirs, ours] = isControlling ? ENDS : [ENDS[1], ENDS[0]]
      this.#meetingEnds = { theirs, ours }
      this.#net.at(now + FLOW_MS, () => {
        this.endpoint.addMeeting(MEETING, 1, theirs, this.#net.now)
        this.settle()
      })
    }
    if (relay !== undefined) {
      const flow = relay.open()
      this.#flow = flow
      this.#net.at(now + FLOW_MS, () => {
        if (this.#options.isStreamOnly) relay.attach(flow.port, (from, bytes) => this.#deliver(bytes, from, RELAY))
        this.#keepTunnel()
        this.endpoint.addRelay(RELAY, flow, this.#net.now)
        this.settle()
      })
    }
    this.#tick()
    this.settle()
  }

  /** The machine is on another network. */
  move(realm: Realm, host: string): void {
    this.#realm.hosts.delete(this.#host)
    this.#realm = realm
    this.#host = host
    this.#listen()
    this.endpoint.handleNetworkChange(MAIN, [host], this.#net.now)
    this.#keepTunnel(true)
    this.settle()
  }

  get path(): Path | undefined {
    return this.endpoint.path(1, this.#net.now)
  }

  deadline(): number {
    return this.endpoint.deadline()
  }

  handleDeadline(): void {
    this.endpoint.handleDeadline(this.#net.now)
    this.settle()
  }

  /** Carries out what the machine decided. */
  settle(): void {
    for (const command of this.endpoint.take()) {
      if (command.kind !== 'send') this.commands.push(command)
      this.#perform(command)
    }
  }

  #perform(command: PathCommand): void {
    const { now } = this.#net
    switch (command.kind) {
      case 'send':
        return this.#send(command.local, command.to, command.bytes)
      case 'openSockets':
        for (let i = 0; i < command.count; i++) {
          const local = this.#nextLocal++
          const port = this.#nextPort++
          this.#ports.set(local, port)
          this.#locals.set(port, local)
          this.endpoint.addExtraSocket(command.request, local, now)
        }
        return
      case 'closeSocket':
        this.#locals.delete(this.#ports.get(command.local) ?? 0)
        this.#ports.delete(command.local)
        return
      case 'offer': {
        const bytes = encodePathOffer(command.offer)
        this.#net.at(now + (this.#options.signalMs ?? 150), () => {
          const offer = decodePathOffer(bytes)
          if (offer === undefined || this.other === undefined || !this.canSignal) return
          this.other.endpoint.handleOffer(1, offer, this.#net.now)
          this.other.settle()
        })
        return
      }
      case 'path':
        this.paths.push({ atMs: now, path: command.path })
        return
      case 'failed':
    }
  }

  #send(local: number, to: Address, bytes: Uint8Array): void {
    const { relay, isStreamOnly } = this.#options
    if (local === RELAY) {
      if (relay === undefined || this.#flow === undefined) return
      if (isStreamOnly) return relay.stream(this.#flow.port, to, copyBytes(bytes))
      const from = { host: this.#host, port: TUNNEL_PORT }
      return this.#net.send(this.#realm, from, tunnelAddress(relay), wrap(this.#flow.port, to, bytes))
    }
    if (local === MEETING) {
      const { other } = this
      const copy = copyBytes(bytes)
      const from = this.#meetingEnds?.ours
      if (from === undefined || other === undefined) return
      return this.#net.at(this.#net.now + FLOW_MS, () => other.#deliver(copy, from, MEETING))
    }
    const port = this.#ports.get(local)
    if (port !== undefined) this.#net.send(this.#realm, { host: this.#host, port }, to, copyBytes(bytes))
  }

  #listen(): void {
    this.#realm.hosts.set(this.#host, (from, to, bytes) => {
      if (to.port === TUNNEL_PORT) {
        const tunnelled = unwrap(bytes)
        if (tunnelled !== undefined) this.#deliver(tunnelled.bytes, tunnelled.address, RELAY)
        return
      }
      const local = this.#locals.get(to.port)
      if (local !== undefined) this.#deliver(bytes, from, local)
    })
  }

  #deliver(bytes: Uint8Array, from: Address, local: number): void {
    const inbound = this.endpoint.handlePacket(bytes, from, local, this.#net.now)
    if (inbound !== undefined && inbound.bytes.length === 8) {
      const number = Buffer.from(inbound.bytes).readUInt32LE(4)
      if (!this.received.has(number)) this.received.set(number, this.#net.now)
    }
    this.settle()
  }

  /** The session with the relay probes its way, as sessions do. */
  #keepTunnel(isOnce = false): void {
    if (this.#flow !== undefined && !this.#options.isStreamOnly) {
      this.#send(RELAY, { host: '0.0.0.0', port: 0 }, new Uint8Array(0))
    }
    if (!isOnce) this.#net.at(this.#net.now + TUNNEL_KEEPALIVE_MS, () => this.#keepTunnel())
  }

  #tick(): void {
    if (this.isSending && this.path !== undefined) {
      const packet = Buffer.from([4, 0, 0, 0, 0, 0, 0, 0])
      packet.writeUInt32LE(this.sent++, 4)
      this.endpoint.handleTraffic(1, this.#net.now)
      this.endpoint.send(1, packet, this.#net.now)
      this.settle()
    }
    this.#net.at(this.#net.now + SEND_EVERY_MS, () => this.#tick())
  }
}
