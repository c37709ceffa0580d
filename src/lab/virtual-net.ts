// A virtual internet under a virtual clock: hops and clients run the real machines and the real packet function, and every
// datagram is carried by this file. Nothing waits, nothing is random but the seed, and everything on the wire is recorded.

import { copyBytes } from '#bytes/copy.ts'
import { type Random, seededRandom } from '#crypto/random.ts'
import { generateX25519 } from '#crypto/x25519.ts'
import type { Command, Report } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { Forwarder, type Outlet } from '#forward/forwarder.ts'
import { HEADROOM } from '#forward/slab.ts'
import type { AssociationFlow, FlowEntry, HopFlow, LegFlow, PacketFlow, SessionEntry } from '#forward/tables.ts'
import { AssociationSockets } from '#platform/association-sockets.ts'
import type { DatagramSocket, Datagrams, SocketHandlers, SocketPlan } from '#platform/datagrams.ts'
import { Entries } from '#platform/entries.ts'
import { PacketFlows } from '#platform/packet-flows.ts'
import { Hop } from '#relay/hop.ts'
import type { HopTunnel } from '#relay/hop-flows.ts'
import type { MeetingRoom } from '#relay/meeting-room.ts'
import type { WireGuardGate } from '#relay/wireguard-gate.ts'
import { type Choice, Routes, type RoutesEvent } from '#route/routes.ts'
import type { RouteHop } from '#route/way.ts'
import { hopKeys } from '#session/hop-handshake.ts'
import { type Address, formatAddress } from '#wire/address.ts'

export interface WirePacket {
  readonly from: string
  readonly to: string
  readonly bytes: Uint8Array
}

interface Machine {
  handleReport(report: Report, now: number): void
  handleDeadline(now: number): void
  deadline(): number
}

/** Whatever has an address on the virtual internet. */
export interface VirtualHost {
  readonly address: Address
  receive(from: Address, port: number, bytes: Uint8Array): void
  deadline(): number
  handleDeadline(): void
}

export class VirtualNet {
  now = 1_000_000
  delayMs = 10
  /** Every datagram that was sent. */
  readonly wire: WirePacket[] = []
  /** Whether a datagram is lost. */
  loses: (packet: WirePacket) => boolean = () => false
  readonly random: Random
  readonly #nodes = new Map<string, VirtualHost>()
  #queue: { readonly atMs: number; readonly run: () => void }[] = []

  constructor(seed: string) {
    this.random = seededRandom(seed)
  }

  add(node: VirtualHost): void {
    this.#nodes.set(node.address.host, node)
  }

  /** A hop vanishes with everything it knew. */
  kill(host: string): void {
    this.#nodes.delete(host)
  }

  send(from: Address, to: Address, bytes: Uint8Array): void {
    const packet = { from: formatAddress(from), to: formatAddress(to), bytes }
    this.wire.push(packet)
    if (this.loses(packet)) return
    this.at(this.now + this.delayMs, () => this.#nodes.get(to.host)?.receive(from, to.port, copyBytes(bytes)))
  }

  at(atMs: number, run: () => void): void {
    this.#queue.push({ atMs, run })
  }

  /** Runs until `until` holds or `limitMs` have passed; says whether it holds. */
  run(limitMs: number, until: () => boolean = () => false): boolean {
    const end = this.now + limitMs
    for (;;) {
      if (until()) return true
      let next = end
      for (const { atMs } of this.#queue) next = Math.min(next, atMs)
      for (const node of this.#nodes.values()) next = Math.min(next, node.deadline())
      if (next >= end) {
        this.now = end
        return until()
      }
      this.now = Math.max(this.now, next)
      const due = this.#queue.filter(({ atMs }) => atMs <= this.now)
      this.#queue = this.#queue.filter(({ atMs }) => atMs > this.now)
      for (const { run } of due) run()
      for (const node of this.#nodes.values()) if (node.deadline() <= this.now) node.handleDeadline()
    }
  }
}

/** One host: the packet function and a machine over it. */
export class VirtualNode implements VirtualHost, Outlet, Datagrams {
  readonly counters = new Counters()
  readonly address: Address
  /** Stream datagrams that came out of taps. */
  readonly tapped: { readonly session: number; readonly bytes: Uint8Array }[] = []
  readonly forwarder: Forwarder
  protected readonly net: VirtualNet
  readonly #machine: Machine
  readonly #take: (now: number) => Command[]
  readonly #flowPorts = new Map<number, HopFlow>()
  readonly #portOf = new Map<HopFlow, number>()
  readonly entries: Entries
  readonly packets: PacketFlows
  readonly associations: AssociationSockets
  /** IP packets that were written to this host's TUN. */
  readonly written: Uint8Array[] = []
  readonly #sockets = new Map<number, SocketHandlers>()
  #nextPort = 40_000

  constructor(net: VirtualNet, host: string, machine: Machine, take: (now: number) => Command[]) {
    this.net = net
    this.address = { host, port: 51_821 }
    this.#machine = machine
    this.#take = take
    this.forwarder = new Forwarder(this, this.counters)
    const report = (report: Report) => this.report(report)
    this.entries = new Entries(this.forwarder, this, this.counters, report, () => net.now)
    this.associations = new AssociationSockets(this.forwarder, this, report)
    this.packets = new PacketFlows(this.forwarder, this.counters, () => net.now)
    net.add(this)
  }

  /** A socket of this host, bound to a port of its address. */
  open({ bind }: SocketPlan, handlers: SocketHandlers): DatagramSocket {
    const address = { host: this.address.host, port: bind?.port || this.#nextPort++ }
    this.#sockets.set(address.port, handlers)
    handlers.onOpen?.(address)
    return {
      send: (buffer, offset, length, to) => {
        if (to !== undefined) this.net.send(address, to, copyBytes(buffer, offset, offset + length))
      },
      close: () => this.#sockets.delete(address.port),
    }
  }

  /** Gives this host a TUN. */
  openPort(): void {
    const write = (buffer: Uint8Array, offset: number, length: number) =>
      this.written.push(copyBytes(buffer, offset, offset + length))
    this.packets.open({ write, flush: () => {}, limit: () => {}, close: () => {} })
  }

  /** What the device of this host's entries does to be probed. */
  probeTunnel: (token: Uint8Array, bytes: number) => void = () => {}

  /** A packet that this host's kernel sends into its TUN. */
  sendPacket(bytes: Uint8Array): void {
    const { slab } = this.forwarder
    const at = slab.take(bytes.length) + HEADROOM
    slab.buffer.set(bytes, at)
    this.packets.send(slab.buffer, at, bytes.length)
  }

  receive(from: Address, port: number, bytes: Uint8Array): void {
    if (port === this.address.port) this.forwarder.receive(bytes, 0, bytes.length, from)
    this.#sockets.get(port)?.onDatagram(bytes, 0, bytes.length, from)
    const flow = this.#flowPorts.get(port)
    // A flow's socket is connected: it hears nobody else.
    if (flow !== undefined && formatAddress(flow.address) === formatAddress(from)) {
      this.forwarder.receiveFromFlow(flow, bytes, 0, bytes.length)
    }
    this.settle()
  }

  deadline(): number {
    return this.#machine.deadline()
  }

  handleDeadline(): void {
    this.#machine.handleDeadline(this.net.now)
    this.settle()
  }

  /** Carries out what the machine decided. */
  settle(): void {
    for (const command of this.#take(this.net.now)) this.#apply(command)
  }

  toSocket(to: Address, buffer: Uint8Array, offset: number, length: number): void {
    this.net.send(this.address, to, copyBytes(buffer, offset, offset + length))
  }

  toFlow(flow: HopFlow, buffer: Uint8Array, offset: number, length: number): void {
    let port = this.#portOf.get(flow)
    if (port === undefined) {
      port = this.#nextPort++
      this.#portOf.set(flow, port)
      this.#flowPorts.set(port, flow)
    }
    this.net.send({ host: this.address.host, port }, flow.address, copyBytes(buffer, offset, offset + length))
  }

  toTap(session: SessionEntry, buffer: Uint8Array, offset: number, length: number): void {
    this.tapped.push({ session: session.session, bytes: copyBytes(buffer, offset, offset + length) })
  }

  toAssociation(flow: AssociationFlow, buffer: Uint8Array, offset: number, length: number): void {
    this.associations.deliver(flow, buffer, offset, length)
  }

  toEntry(flow: LegFlow, buffer: Uint8Array, offset: number, length: number): void {
    this.entries.deliver(flow, buffer, offset, length)
  }

  toPort(flow: PacketFlow, buffer: Uint8Array, offset: number, length: number, isShed: boolean): void {
    this.packets.deliver(flow, buffer, offset, length, isShed)
  }

  report(report: Report): void {
    this.#machine.handleReport(report, this.net.now)
    this.net.at(this.net.now, () => this.settle())
  }

  nowMs(): number {
    return this.net.now
  }

  #forget(flows: Iterable<FlowEntry | undefined> = []): void {
    for (const flow of flows) if (flow?.kind === 'packets') this.packets.remove(flow)
  }

  #apply(command: Command): void {
    const { tables } = this.forwarder
    switch (command.kind) {
      case 'installSession':
        return tables.installSession(command.session, command.role, command.via, command.keys)
      case 'removeSession':
        this.#forget(tables.removeSession(command.session)?.flows.values())
        return
      case 'installFlow': {
        const { session, flow, address, proof, first } = command
        const entry = tables.installFlow(session, flow, address, proof, this.net.now)
        if (entry !== undefined && first.length > 0) this.forwarder.sendFirst(entry, first)
        return
      }
      case 'removeFlow':
        this.#forget([tables.removeFlow(command.session, command.flow)])
        return
      case 'openPort':
        return this.openPort()
      case 'closePort':
        return this.packets.close()
      case 'installPacketFlow':
        return this.packets.install(command.session, command.flow, command.inside, command.mtu)
      case 'resizePacketFlow':
        return this.packets.resize(command.session, command.flow, command.mtu)
      case 'installTap': {
        const session = tables.sessions.get(command.session)
        if (session !== undefined) session.hasTap = true
        return
      }
      case 'installEntry':
        return this.entries.install(command.entry, command.client)
      case 'removeEntry':
        return this.entries.remove(command.entry)
      case 'installLeg':
        return this.entries.installLeg(command.entry, command.session, command.flow)
      case 'useLeg':
        return this.entries.useLeg(command.entry, command.session)
      case 'removeLeg':
        return this.entries.removeLeg(command.entry, command.session)
      case 'proveLeg':
        return this.entries.prove(command.entry)
      case 'installAssociation':
        return this.associations.install(command.association, command.session, command.host)
      case 'installAssociationTarget':
        return this.associations.installTarget(command.association, command.header, command.flow)
      case 'removeAssociation':
        return this.associations.remove(command.association)
      case 'probeTunnel':
        return this.probeTunnel(command.token, command.bytes)
      case 'installTunnel':
      case 'resizeTunnel':
      case 'openPunched':
      case 'closePunched':
      case 'reportTunnel':
      case 'sweep':
      case 'observe':
      case 'reportObservation':
      case 'crash':
        // No sockets, no applications, and the laboratory sees everything anyway.
        return
      default:
        return this.forwarder.apply(command)
    }
  }
}

export interface VirtualHop extends RouteHop {
  readonly node: VirtualNode
  readonly machine: Hop
  readonly privateKey: Uint8Array
}

/** A hop with its own keys at `host`. */
export function addHop(
  net: VirtualNet,
  host: string,
  offers: {
    readonly isExit?: boolean
    readonly wireGuard?: WireGuardGate
    readonly tunnel?: HopTunnel
    readonly meetings?: MeetingRoom
  } = {},
): VirtualHop {
  const { privateKey, publicKey } = generateX25519()
  const machine = new Hop(
    {
      keys: hopKeys(Uint8Array.from(privateKey)),
      limits: { maxSessions: 1_000, maxFlows: 1_000, maxFlowsPerSession: 64 },
      random: net.random,
      mayReachHop: () => true,
      isExit: offers.isExit ?? false,
      ...(offers.wireGuard && { wireGuard: offers.wireGuard }),
      ...(offers.tunnel && { tunnel: offers.tunnel }),
      ...(offers.meetings && { meetings: offers.meetings }),
    },
    net.now,
  )
  const node = new VirtualNode(net, host, machine, () => machine.take())
  return { id: host, operator: host, address: node.address, key: publicKey, node, machine, privateKey }
}

export interface VirtualClient {
  readonly node: VirtualNode
  readonly routes: Routes
  readonly events: RoutesEvent[]
}

/** A client whose choices are the given functions. */
export function addClient(
  net: VirtualNet,
  host: string,
  pickRoute: () => Choice,
  pickWay: (exit: RouteHop, avoid: readonly RouteHop[]) => readonly RouteHop[] | undefined,
  isBusy = () => true,
): VirtualClient {
  const routes = new Routes({ random: net.random, pickRoute, pickWay, isBusy })
  const events: RoutesEvent[] = []
  const node = new VirtualNode(net, host, routes, now => {
    const commands = routes.take(now)
    events.push(...routes.takeEvents())
    return commands
  })
  return { node, routes, events }
}
