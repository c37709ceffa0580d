// The portable engine: carries out commands with node:dgram sockets, on every platform and without privileges.
//
// Sockets: one for the node itself; one for each flow of a hop, connected, so that the kernel drops what others send to
// it; one for each tap and each association, on loopback.

import type { Socket } from 'node:dgram'
import { copyBytes } from '#bytes/copy.ts'
import type { Command, Report } from '#forward/commands.ts'
import type { Counters } from '#forward/counters.ts'
import { Forwarder, type Outlet } from '#forward/forwarder.ts'
import type { AssociationFlow, HopFlow, SessionEntry } from '#forward/tables.ts'
import { type Address, isWildcard } from '#wire/address.ts'
import { AssociationSockets } from './association-sockets.ts'
import { monotonicMs } from './clock.ts'
import type { EngineWorkerData } from './engine.ts'
import { Observer } from './observer.ts'
import { bindUdp, closeUdp, connectUdp, growBuffers, openUdp, sendUdp } from './udp.ts'

const MAX_BACKLOG = 256
const MAX_PENDING_FIRST = 16

interface FlowSocket {
  readonly socket: Socket
  isConnected: boolean
  readonly waiting: Uint8Array[]
  wasUnreachable: boolean
}

export class PortableEngine implements Outlet {
  readonly #options: EngineWorkerData
  readonly #counters: Counters
  readonly #post: (reports: Report[]) => void
  readonly #forwarder: Forwarder
  readonly #socket: Socket
  readonly #flows = new Map<HopFlow, FlowSocket>()
  readonly #taps = new Map<number, FlowSocket>()
  readonly #associations: AssociationSockets
  #reports: Report[] = []
  #observer: Observer | undefined

  constructor(options: EngineWorkerData, counters: Counters, post: (reports: Report[]) => void) {
    this.#options = options
    this.#counters = counters
    this.#post = post
    this.#forwarder = new Forwarder(this, counters)
    this.#associations = new AssociationSockets(this.#forwarder, report => this.report(report))
    this.#socket = openUdp(options.host)
    this.#listen()
  }

  apply(command: Command): void {
    const tables = this.#forwarder.tables
    switch (command.kind) {
      case 'installSession':
        this.#removeSession(command.session)
        return tables.installSession(command.session, command.role, command.via, command.keys)
      case 'removeSession':
        return this.#removeSession(command.session)
      case 'installFlow':
        return this.#installFlow(command.session, command.flow, command.address, command.prove, command.first)
      case 'removeFlow': {
        const flow = tables.removeFlow(command.session, command.flow)
        if (flow?.kind === 'hop') this.#closeFlow(flow)
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
      case 'sweep':
        return this.#sweep(command.idleMs)
      case 'observe':
        this.#observer = new Observer(command.marker)
        this.#forwarder.watch = this.#observer.watch
        return
      case 'reportObservation':
        if (this.#observer === undefined) return
        return this.report({ kind: 'observation', request: command.request, observation: this.#observer.observation() })
      default:
        return this.#forwarder.apply(command)
    }
  }

  toSocket(address: Address, buffer: Uint8Array, offset: number, length: number): void {
    this.#observer?.sawAddress(address)
    this.#send(this.#socket, buffer, offset, length, address)
  }

  toFlow(flow: HopFlow, buffer: Uint8Array, offset: number, length: number): void {
    const carrier = this.#flows.get(flow)
    if (carrier === undefined) return
    this.#observer?.sawAddress(flow.address)
    if (carrier.isConnected) return this.#send(carrier.socket, buffer, offset, length, undefined)
    if (carrier.waiting.length < MAX_PENDING_FIRST) carrier.waiting.push(copyBytes(buffer, offset, offset + length))
    else this.#counters.add('dropSendQueue')
  }

  toTap(session: SessionEntry, buffer: Uint8Array, offset: number, length: number): void {
    const tap = this.#taps.get(session.session)
    if (tap?.isConnected) this.#send(tap.socket, buffer, offset, length, undefined)
  }

  toAssociation(flow: AssociationFlow, buffer: Uint8Array, offset: number, length: number): void {
    this.#associations.deliver(flow, buffer, offset, length)
  }

  report(report: Report): void {
    this.#reports.push(report)
    if (this.#reports.length > 1) return
    queueMicrotask(() => {
      const reports = this.#reports
      this.#reports = []
      this.#post(reports)
    })
  }

  nowMs(): number {
    return monotonicMs()
  }

  #listen(): void {
    const { host, port } = this.#options
    this.#socket.on('message', (message, from) => {
      this.#observer?.sawAddress({ host: from.address, port: from.port })
      this.#forwarder.receive(message, message.length, { host: from.address, port: from.port })
    })
    this.#socket.on('error', () => this.#counters.add('dropSendError'))
    bindUdp(this.#socket, host, port, error => {
      if (error !== undefined) return this.report({ kind: 'failed', what: `bind UDP port ${port}: ${error.code}` })
      growBuffers(this.#socket)
      const bound = this.#socket.address()
      this.report({ kind: 'listening', address: { host: bound.address, port: bound.port } })
    })
  }

  #installFlow(session: number, flow: number, address: Address, prove: boolean, first: Uint8Array): void {
    const entry = this.#forwarder.tables.installFlow(session, flow, address, prove, this.nowMs())
    if (entry === undefined) return
    const socket = openUdp(address.host)
    this.#bindToOwn(socket, address)
    const carrier: FlowSocket = { socket, isConnected: false, waiting: [], wasUnreachable: false }
    this.#flows.set(entry, carrier)
    socket.on('message', message => {
      this.#observer?.sawAddress(address)
      carrier.wasUnreachable = false
      this.#forwarder.receiveFromFlow(entry, message, message.length)
    })
    socket.on('error', () => this.#unreachable(entry, carrier))
    connectUdp(socket, address, error => {
      if (error !== undefined) return this.#unreachable(entry, carrier)
      carrier.isConnected = true
      for (const waiting of carrier.waiting.splice(0)) this.#send(socket, waiting, 0, waiting.length, undefined)
    })
    if (first.length > 0) this.#forwarder.sendFirst(entry, first)
  }

  /** A node that listens on one address sends from that one. */
  #bindToOwn(socket: Socket, to: Address): void {
    const { host } = this.#options
    if (isWildcard(host) || host.includes(':') !== to.host.includes(':')) return
    bindUdp(socket, host, 0, () => {})
  }

  /** The far end's host says that nobody listens there. It may be forged, so it is told on as a hint and no more. */
  #unreachable(flow: HopFlow, carrier: FlowSocket): void {
    this.#counters.add('dropSendError')
    if (carrier.wasUnreachable) return
    carrier.wasUnreachable = true
    this.report({ kind: 'flowEnded', session: flow.session.session, flow: flow.flow, reason: 'unreachable' })
  }

  #installTap(session: number, address: Address): void {
    const entry = this.#forwarder.tables.sessions.get(session)
    if (entry === undefined || this.#taps.has(session)) return
    const socket = openUdp(address.host)
    const tap: FlowSocket = { socket, isConnected: false, waiting: [], wasUnreachable: false }
    this.#taps.set(session, tap)
    entry.hasTap = true
    const maxLength = this.#options.maxStreamDatagram
    socket.on('message', message => this.#forwarder.receiveFromTap(entry, message, message.length, maxLength))
    socket.on('error', () => this.#counters.add('dropSendError'))
    connectUdp(socket, address, error => {
      if (error !== undefined) return this.report({ kind: 'failed', what: `connect a tap: ${error.code}` })
      tap.isConnected = true
      growBuffers(socket)
      const bound = socket.address()
      this.report({ kind: 'tapReady', session, address: { host: bound.address, port: bound.port } })
    })
  }

  #removeSession(session: number): void {
    const entry = this.#forwarder.tables.removeSession(session)
    if (entry === undefined) return
    for (const flow of entry.flows.values()) if (flow.kind === 'hop') this.#closeFlow(flow)
    const tap = this.#taps.get(session)
    if (tap !== undefined) closeUdp(tap.socket)
    this.#taps.delete(session)
    this.#associations.removeSession(session)
  }

  #closeFlow(flow: HopFlow): void {
    const carrier = this.#flows.get(flow)
    this.#flows.delete(flow)
    if (carrier !== undefined) closeUdp(carrier.socket)
  }

  #sweep(idleMs: number): void {
    const oldest = this.nowMs() - idleMs
    for (const flow of this.#flows.keys()) {
      if (flow.lastUsedMs >= oldest) continue
      this.#forwarder.tables.removeFlow(flow.session.session, flow.flow)
      this.#closeFlow(flow)
      this.report({ kind: 'flowEnded', session: flow.session.session, flow: flow.flow, reason: 'idle' })
    }
  }

  #send(socket: Socket, buffer: Uint8Array, offset: number, length: number, to: Address | undefined): void {
    const backlog = socket.getSendQueueCount()
    if (backlog > 0) {
      if (backlog > MAX_BACKLOG) return this.#counters.add('dropSendQueue')
      this.#forwarder.retainPackets()
    }
    if (!sendUdp(socket, buffer, offset, length, to)) this.#counters.add('dropSendError')
  }
}
