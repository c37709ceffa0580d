// The data plane: carries out commands around the packet function, over whatever sockets its engine brings.
//
// Sockets: one for the node itself; one for each flow of a hop, connected, so that the kernel drops what others send to
// it; one for each tap and each association, on loopback; one for each port that was guessed. Devices: a tunnel's TUN and the port, if there are.

import type { Command, PortPlan, Report, TunnelPeerReport, TunnelPlan } from '#forward/commands.ts'
import type { Counters } from '#forward/counters.ts'
import { Forwarder, type Outlet } from '#forward/forwarder.ts'
import type { AssociationFlow, HopFlow, LegFlow, PacketFlow, SessionEntry } from '#forward/tables.ts'
import type { OtherWorkers } from '#forward/workers.ts'
import { type Address, isWildcard } from '#wire/address.ts'
import { AssociationSockets } from './association-sockets.ts'
import type { DatagramSocket, Datagrams } from './datagrams.ts'
import type { EngineWorkerData } from './engine.ts'
import { Entries, type TunnelClient } from './entries.ts'
import { Observer } from './observer.ts'
import { type PacketDevice, PacketFlows } from './packet-flows.ts'
import { PunchedSockets } from './paths/punched-sockets.ts'

/** A tunnel's device as the data plane drives it. */
export interface TunnelDriver extends TunnelClient {
  deadline(): number
  handleDeadline(now: number): void
  report(): readonly TunnelPeerReport[]
  /** Sends a packet of so many bytes to the tunnel's own address. */
  probe(token: Uint8Array, bytes: number): void
  /** Takes and gives packets of at most `mtu` bytes from now on. */
  resize(mtu: number): void
  close(): void
}

export interface DataPlaneOptions {
  readonly settings: EngineWorkerData
  readonly counters: Counters
  readonly datagrams: Datagrams
  /** Hears what happened, in order. */
  readonly report: (report: Report) => void
  readonly now: () => number
  /** Opens a tunnel, where the engine can. */
  readonly openTunnel?: (plan: TunnelPlan, plane: DataPlane) => TunnelDriver
  /** The other workers, where there are some. */
  readonly others?: OtherWorkers
  /** Opens a port, where the engine can. */
  readonly openPort?: (plan: PortPlan, plane: DataPlane) => PacketDevice
}

export class DataPlane implements Outlet {
  readonly forwarder: Forwarder
  readonly #options: DataPlaneOptions
  readonly #socket: DatagramSocket
  readonly #flows = new Map<HopFlow, DatagramSocket>()
  readonly #taps = new Map<number, DatagramSocket>()
  readonly #associations: AssociationSockets
  readonly entries: Entries
  readonly packets: PacketFlows
  readonly #punched: PunchedSockets
  #tunnel: TunnelDriver | undefined
  #observer: Observer | undefined

  constructor(options: DataPlaneOptions) {
    this.#options = options
    this.forwarder = new Forwarder(this, options.counters, options.others)
    this.#associations = new AssociationSockets(this.forwarder, options.datagrams, options.report)
    const { datagrams, counters, report, now, others } = options
    this.entries = new Entries(this.forwarder, datagrams, counters, report, now)
    this.packets = new PacketFlows(this.forwarder, counters, now, others)
    this.#punched = new PunchedSockets(datagrams, (buffer, offset, length, from) =>
      this.receive(buffer, offset, length, from),
    )
    this.#socket = this.#listen()
  }

  deadline(): number {
    return this.#tunnel?.deadline() ?? Number.POSITIVE_INFINITY
  }

  handleDeadline(now: number): void {
    this.#tunnel?.handleDeadline(now)
  }

  close(): void {
    this.#tunnel?.close()
    this.packets.close()
  }

  apply(command: Command): void {
    const { tables } = this.forwarder
    switch (command.kind) {
      case 'installSession':
        this.#removeSession(command.session)
        return tables.installSession(command.session, command.role, command.via, command.keys)
      case 'removeSession':
        return this.#removeSession(command.session)
      case 'installFlow':
        return this.#installFlow(command)
      case 'removeFlow': {
        const flow = tables.removeFlow(command.session, command.flow)
        if (flow?.kind === 'hop') this.#closeFlow(flow)
        if (flow?.kind === 'packets') this.packets.remove(flow)
        return
      }
      case 'installTap':
        return this.#installTap(command.session, command.address)
      case 'installAssociation':
        return this.#associations.install(command.association, command.session, command.host)
      case 'installAssociationTarget':
        return this.#associations.installTarget(command.association, command.header, command.flow)
      case 'removeAssociation':
        return this.#associations.remove(command.association)
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
      case 'openPort':
        return this.#openPort(command.port)
      case 'closePort':
        return this.packets.close()
      case 'installPacketFlow':
        return this.packets.install(command.session, command.flow, command.inside, command.mtu)
      case 'resizePacketFlow':
        return this.packets.resize(command.session, command.flow, command.mtu)
      case 'installTunnel':
        return this.#installTunnel(command.tunnel)
      case 'probeTunnel':
        return this.#probe(command.isWhole, () => this.#tunnel?.probe(command.token, command.bytes))
      case 'sendProbe':
        return this.#probe(command.isWhole, () => this.forwarder.apply(command))
      case 'resizeTunnel':
        return this.#tunnel?.resize(command.mtu)
      case 'reportTunnel':
        return this.report({ kind: 'tunnelReport', request: command.request, peers: this.#tunnel?.report() ?? [] })
      case 'openPunched':
        return this.#punched.open(command)
      case 'closePunched':
        return this.#punched.close(command.standIn)
      case 'sweep':
        return this.#sweep(command.idleMs)
      case 'crash':
        // In a worker this ends the thread, and what stands behind the loop is not come to.
        if (command.isSudden) process.exit(1)
        throw new Error('told to crash')
      case 'observe':
        this.#observer = new Observer(command.marker)
        this.forwarder.watch = this.#observer.watch
        return
      case 'reportObservation':
        if (this.#observer === undefined) return
        return this.report({ kind: 'observation', request: command.request, observation: this.#observer.observation() })
      default:
        return this.forwarder.apply(command)
    }
  }

  /** A datagram of the node's own socket that is for this worker. */
  receive(buffer: Uint8Array, offset: number, length: number, from: Address): void {
    this.#observer?.sawAddress(from)
    this.forwarder.receive(buffer, offset, length, from)
  }

  toSocket(address: Address, buffer: Uint8Array, offset: number, length: number): void {
    this.#observer?.sawAddress(address)
    if (this.#punched.send(address, buffer, offset, length)) return
    this.#socket.send(buffer, offset, length, address)
  }

  toFlow(flow: HopFlow, buffer: Uint8Array, offset: number, length: number): void {
    this.#observer?.sawAddress(flow.address)
    this.#flows.get(flow)?.send(buffer, offset, length)
  }

  toTap(session: SessionEntry, buffer: Uint8Array, offset: number, length: number): void {
    this.#taps.get(session.session)?.send(buffer, offset, length)
  }

  toAssociation(flow: AssociationFlow, buffer: Uint8Array, offset: number, length: number): void {
    this.#associations.deliver(flow, buffer, offset, length)
  }

  toEntry(flow: LegFlow, buffer: Uint8Array, offset: number, length: number): void {
    this.entries.deliver(flow, buffer, offset, length)
  }

  toPort(flow: PacketFlow, buffer: Uint8Array, offset: number, length: number, isShed: boolean): void {
    this.packets.deliver(flow, buffer, offset, length, isShed)
  }

  report(report: Report): void {
    this.#options.report(report)
  }

  nowMs(): number {
    return this.#options.now()
  }

  #probe(isWhole = false, send: () => void): void {
    if (isWhole) this.#socket.keepWhole?.(true)
    send()
    if (isWhole) this.#socket.keepWhole?.(false)
  }

  #listen(): DatagramSocket {
    const { datagrams, settings, others } = this.#options
    const { host, port, socketFd: fd } = settings
    const plan = { bind: { host, port }, isBusy: true, ...(fd !== undefined && { fd }) }
    return datagrams.open(plan, {
      onDatagram: (buffer, offset, length, from) => {
        if (others?.takeDatagram(buffer, offset, length, from) !== true) this.receive(buffer, offset, length, from)
      },
      onOpen: address => this.report({ kind: 'listening', address }),
      onFailed: code => this.report({ kind: 'failed', what: `bind UDP port ${settings.port}: ${code}` }),
    })
  }

  #installFlow(command: Extract<Command, { kind: 'installFlow' }>): void {
    const { session, flow, address, proof, first } = command
    const entry = this.forwarder.tables.installFlow(session, flow, address, proof, this.nowMs())
    if (entry === undefined) return
    let wasUnreachable = false
    const unreachable = () => {
      if (wasUnreachable) return
      wasUnreachable = true
      this.report({ kind: 'flowEnded', session, flow, reason: 'unreachable' })
    }
    const socket = this.#options.datagrams.open(
      { connect: address, isBusy: proof !== undefined, ...this.#bindLike(address) },
      {
        onDatagram: (buffer, offset, length) => {
          this.#observer?.sawAddress(address)
          wasUnreachable = false
          this.forwarder.receiveFromFlow(entry, buffer, offset, length)
        },
        onFailed: unreachable,
        onError: unreachable,
      },
    )
    this.#flows.set(entry, socket)
    if (first.length > 0) this.forwarder.sendFirst(entry, first)
  }

  /** A node that listens on one address sends from that one. */
  #bindLike(to: Address): { readonly bind?: Address } {
    const { host } = this.#options.settings
    return isWildcard(host) || host.includes(':') !== to.host.includes(':') ? {} : { bind: { host, port: 0 } }
  }

  #installTap(session: number, address: Address): void {
    const entry = this.forwarder.tables.sessions.get(session)
    if (entry === undefined || this.#taps.has(session)) return
    const { datagrams, settings } = this.#options
    const plan = { connect: address, isBusy: true }
    let hasFailed = false
    const socket = datagrams.open(plan, {
      onDatagram: (buffer, offset, length) =>
        this.forwarder.receiveFromTap(entry, buffer, offset, length, settings.maxStreamDatagram),
      onOpen: own => this.report({ kind: 'tapReady', session, address: own }),
      onFailed: code => {
        hasFailed = true
        this.#taps.delete(session)
        entry.hasTap = false
        this.report({ kind: 'failed', what: `connect a tap: ${code}` })
      },
    })
    if (hasFailed) return
    this.#taps.set(session, socket)
    entry.hasTap = true
  }

  #installTunnel(plan: TunnelPlan): void {
    this.#tunnel?.close()
    this.#tunnel = this.#options.openTunnel?.(plan, this)
    this.entries.tunnel = this.#tunnel
    if (this.#tunnel === undefined) this.report({ kind: 'failed', what: 'open a tunnel: this engine has none' })
  }

  #openPort(plan: PortPlan): void {
    this.packets.close()
    const device = this.#options.openPort?.(plan, this)
    if (device === undefined) this.report({ kind: 'failed', what: 'open a port: this engine has none' })
    else this.packets.open(device)
  }

  #removeSession(session: number): void {
    const entry = this.forwarder.tables.removeSession(session)
    if (entry === undefined) return
    for (const flow of entry.flows.values()) {
      if (flow.kind === 'hop') this.#closeFlow(flow)
      if (flow.kind === 'packets') this.packets.remove(flow)
    }
    this.#taps.get(session)?.close()
    this.#taps.delete(session)
    this.#associations.removeSession(session)
  }

  #closeFlow(flow: HopFlow): void {
    this.#flows.get(flow)?.close()
    this.#flows.delete(flow)
  }

  #sweep(idleMs: number): void {
    const oldest = this.nowMs() - idleMs
    for (const flow of [...this.#flows.keys(), ...this.forwarder.tables.meetings]) {
      if (flow.lastUsedMs >= oldest) continue
      this.forwarder.tables.removeFlow(flow.session.session, flow.flow)
      if (flow.kind === 'hop') this.#closeFlow(flow)
      this.report({ kind: 'flowEnded', session: flow.session.session, flow: flow.flow, reason: 'idle' })
    }
  }
}
