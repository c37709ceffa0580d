// Where packets between devices leave and come: sockets by the path machine's numbers, and what stands before a packet there.
//
//   socket    nothing, or a channel's number and the length to a TURN server (RFC 8656 §12.4)
//   meeting   MEETING_HEADER, to the data plane on loopback

import type { Origin } from '#mesh/mesh.ts'
import type { Address } from '#wire/address.ts'
import { CHANNEL_HEADER_BYTES, writeChannelHeader } from '#wire/stun-value.ts'
import type { DatagramSocket, Datagrams, SocketPlan } from '../datagrams.ts'
import { MEETING_HEADER } from '../meeting-port.ts'

/** What goes out of it begins with `header`, as does what comes. */
export interface Way {
  readonly local: number
  readonly socket: DatagramSocket
  readonly header: Uint8Array
  /** Where the last datagram came from: packet follows packet. */
  origin: Origin
}

/** A datagram without the way's header, the callee's to overwrite until it returns. */
type Receive = (way: Way, buffer: Uint8Array, offset: number, length: number, from: Address) => void

const NO_HEADER = new Uint8Array(0)
const NOBODY: Address = { host: '', port: 0 }

export class Ways {
  readonly #datagrams: Datagrams
  readonly #receive: Receive
  readonly #ways = new Map<number, Way>()

  constructor(datagrams: Datagrams, receive: Receive) {
    this.#datagrams = datagrams
    this.#receive = receive
  }

  find(local: number): Way | undefined {
    return this.#ways.get(local)
  }

  /** Opens a socket for everything; `done` gets its port, or nothing where there is none to be had. */
  open(local: number, plan: SocketPlan, done: (port: number | undefined) => void): void {
    let isOpen = true
    const socket = this.#datagrams.open(plan, {
      onDatagram: (buffer, offset, length, from) => this.#receive(way, buffer, offset, length, from),
      onOpen: ({ port }) => done(port),
      onFailed: () => {
        isOpen = false
        this.#ways.delete(local)
        done(undefined)
      },
    })
    const way: Way = { local, socket, header: NO_HEADER, origin: { local, from: NOBODY } }
    if (isOpen) this.#ways.set(local, way)
  }

  /** Opens the way to `at`, where a relay's flow begins; who is at its other end counts as `from`. */
  openMeeting(local: number, at: Address, from: Address): void {
    const { length: header } = MEETING_HEADER
    const plan = { bind: { host: '127.0.0.1', port: 0 }, connect: at, isBusy: true }
    const socket = this.#datagrams.open(plan, {
      onDatagram: (buffer, offset, length) => {
        if (length > header) this.#receive(way, buffer, offset + header, length - header, from)
      },
    })
    const way: Way = { local, socket, header: MEETING_HEADER, origin: { local, from } }
    this.#ways.set(local, way)
  }

  close(local: number): void {
    this.#ways.get(local)?.socket.close()
    this.#ways.delete(local)
  }

  closeAll(): void {
    for (const local of [...this.#ways.keys()]) this.close(local)
  }
}

/** The same object for as long as datagrams come from the same sender. */
export function originOf(way: Way, from: Address): Origin {
  if (way.origin.from !== from) way.origin = { local: way.local, from }
  return way.origin
}

export function sendBy({ socket, header }: Way, to: Address, buffer: Uint8Array, offset: number, length: number): void {
  if (header.length === 0) return socket.send(buffer, offset, length, to)
  const { bytes, start } = roomBefore(buffer, offset, length, header.length)
  bytes.set(header, start)
  socket.send(bytes, start, header.length + length)
}

export function sendByChannel(
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

/** Room for a header: packets of the TUN have it before them, what was made for itself lies at the front of its memory. */
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
