// UDP endpoints for a proxy's clients (SOCKS5 UDP ASSOCIATE, RFC 1928 §7). The SOCKS header of a datagram, as bytes, is the
// key of a table that the control plane fills: known headers are cut off and the rest goes into the flow, unknown ones
// are reported once, with their datagram, and bounded in number.

import { copyBytes } from '#bytes/copy.ts'
import type { Report } from '#forward/commands.ts'
import type { Forwarder } from '#forward/forwarder.ts'
import type { AssociationFlow } from '#forward/tables.ts'
import type { Address } from '#wire/address.ts'
import { socksUdpHeaderLength } from '#wire/socks-udp.ts'
import type { DatagramSocket, Datagrams } from './datagrams.ts'

const MAX_TARGETS = 256

interface Association {
  readonly session: number
  readonly socket: DatagramSocket
  /** The application: the first to send from loopback. */
  client: Address | undefined
  /** Flow by header; undefined while the control plane opens it. */
  readonly targets: Map<string, number | undefined>
}

export class AssociationSockets {
  readonly #forwarder: Forwarder
  readonly #datagrams: Datagrams
  readonly #report: (report: Report) => void
  readonly #associations = new Map<number, Association>()

  constructor(forwarder: Forwarder, datagrams: Datagrams, report: (report: Report) => void) {
    this.#forwarder = forwarder
    this.#datagrams = datagrams
    this.#report = report
  }

  install(association: number, session: number, host: string): void {
    const plan = { bind: { host, port: 0 }, isBusy: true }
    const socket = this.#datagrams.open(plan, {
      onDatagram: (buffer, offset, length, from) => this.#receive(association, entry, buffer, offset, length, from),
      onOpen: address => this.#report({ kind: 'associationReady', association, address }),
      onFailed: code => this.#report({ kind: 'failed', what: `bind a UDP association: ${code}` }),
    })
    const entry: Association = { session, socket, client: undefined, targets: new Map() }
    this.#associations.set(association, entry)
  }

  installTarget(association: number, header: Uint8Array, flow: number): void {
    const entry = this.#associations.get(association)
    if (entry === undefined) return
    entry.targets.set(keyOf(header, header.length), flow)
    const flows = this.#forwarder.tables.sessions.get(entry.session)?.flows
    flows?.set(flow, { kind: 'association', association, header })
  }

  remove(association: number): void {
    const entry = this.#associations.get(association)
    if (entry === undefined) return
    this.#associations.delete(association)
    entry.socket.close()
    const flows = this.#forwarder.tables.sessions.get(entry.session)?.flows
    for (const flow of entry.targets.values()) if (flow !== undefined) flows?.delete(flow)
  }

  removeSession(session: number): void {
    for (const [association, entry] of this.#associations) if (entry.session === session) this.remove(association)
  }

  /** Sends a datagram from a flow on to the application, behind its SOCKS header. */
  deliver(flow: AssociationFlow, buffer: Uint8Array, offset: number, length: number): void {
    const entry = this.#associations.get(flow.association)
    if (entry?.client === undefined) return
    const datagram = Buffer.concat([flow.header, buffer.subarray(offset, offset + length)])
    entry.socket.send(datagram, 0, datagram.length, entry.client)
  }

  #receive(
    association: number,
    entry: Association,
    buffer: Uint8Array,
    offset: number,
    length: number,
    from: Address,
  ): void {
    entry.client ??= from
    if (entry.client.port !== from.port || entry.client.host !== from.host) return
    const message = buffer.subarray(offset, offset + length)
    const header = socksUdpHeaderLength(message)
    if (header === undefined) return
    const key = keyOf(message, header)
    const flow = entry.targets.get(key)
    if (flow !== undefined) {
      return this.#forwarder.send(entry.session, flow, message, header, length - header)
    }
    if (entry.targets.has(key) || entry.targets.size >= MAX_TARGETS) return
    entry.targets.set(key, undefined)
    this.#report({
      kind: 'associationTarget',
      association,
      header: copyBytes(message, 0, header),
      datagram: copyBytes(message, header),
    })
  }
}

function keyOf(bytes: Uint8Array, length: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, length).toString('latin1')
}
