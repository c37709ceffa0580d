// One end of the streams of one session: a UDX instance of its own, so that no session can reach the streams of another,
// and one UDX socket on loopback, to which the data plane connects the session's tap.
//
//   streams ◄──► UDX socket ◄── loopback ──► tap (data plane) ◄── sealed in the session ──► tap ◄──► the other link

import { randomBytes, randomInt } from 'node:crypto'
import UDX, { type UDXSocket } from 'udx-native'
import type { Address } from '#wire/address.ts'
import { encodeUdxDestroy, readUdxHeader } from '#wire/udx-packet.ts'
import { LinkStream, resetError } from './link-stream.ts'
import { WindowBudget } from './window-budget.ts'

const BUFFER_BYTES = 4 * 1024 * 1024
/** Growth of windows beyond the first 64 KiB of each stream: of one link, and of all links of the process. */
const LINK_WINDOW_BYTES = 32 * 1024 * 1024
const PROCESS_WINDOWS = new WindowBudget(128 * 1024 * 1024)
/** Streams that are remembered after their end, the oldest forgotten first. */
const MAX_GONE = 2_048

export class StreamLink {
  readonly #udx = new UDX()
  readonly #socket: UDXSocket
  readonly #streams = new Map<number, LinkStream>()
  /** The other side's id of streams that are gone, by ours. */
  readonly #gone = new Map<number, number>()
  readonly #budget = new WindowBudget(LINK_WINDOW_BYTES, PROCESS_WINDOWS)
  #tap: Address | undefined
  #isClosed = false

  constructor() {
    this.#socket = this.#udx.createSocket()
    bindSomewhere(this.#socket)
    this.#socket.on('message', (bytes: Uint8Array, from: Address) => this.#handleStray(bytes, from))
    try {
      this.#socket.setRecvBufferSize(BUFFER_BYTES)
      this.#socket.setSendBufferSize(BUFFER_BYTES)
    } catch {
      // Smaller buffers only cost speed.
    }
  }

  /** Where the data plane connects the tap to. */
  get address(): Address {
    const bound = this.#socket.address()
    return { host: bound?.host ?? '', port: bound?.port ?? 0 }
  }

  get streams(): number {
    return this.#streams.size
  }

  /** Bytes received that nobody has read yet, of all streams. */
  get unreadBytes(): number {
    let sum = 0
    for (const stream of this.#streams.values()) sum += stream.unreadBytes
    return sum
  }

  /** The tap is ready: streams send to it from now on. */
  attach(tap: Address): void {
    this.#tap = tap
  }

  get isAttached(): boolean {
    return this.#tap !== undefined
  }

  /** A stream with an unused random id, not connected yet. It keeps what arrives early. */
  create(): LinkStream {
    if (this.#isClosed) throw new Error('create a stream: the link is closed')
    let id = randomBytes(4).readUInt32LE()
    while (id === 0 || this.#streams.has(id) || this.#gone.has(id)) id = randomBytes(4).readUInt32LE()
    const firewall = (_: UDXSocket, port: number, host: string) => !this.#isTap({ host, port })
    const stream = new LinkStream(this.#udx.createStream(id, { firewall }), this.#budget)
    this.#streams.set(id, stream)
    stream.once('close', () => this.#streams.delete(id))
    stream.on('error', () => {})
    return stream
  }

  /** Joins a stream to the one with `remoteId` at the other end; throws before `attach`. */
  connect(stream: LinkStream, remoteId: number): void {
    if (this.#tap === undefined || this.#isClosed) throw new Error('connect a stream: the link has no tap')
    stream.once('close', () => this.#remember(stream.id, remoteId))
    stream.connect(this.#socket, remoteId, this.#tap.port, this.#tap.host)
  }

  /** Resets every stream and frees the socket. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    for (const stream of this.#streams.values()) stream.abort(resetError('the route was closed'))
    this.#streams.clear()
    this.#socket.close().catch(() => {})
  }

  #remember(id: number, remoteId: number): void {
    this.#gone.set(id, remoteId)
    if (this.#gone.size <= MAX_GONE) return
    for (const oldest of this.#gone.keys()) {
      this.#gone.delete(oldest)
      return
    }
  }

  /** A packet for a stream that is gone: UDX says that once and unreliably, so it is said again. */
  #handleStray(bytes: Uint8Array, from: Address): void {
    const header = readUdxHeader(bytes)
    if (header === undefined || !header.wantsAnswer || !this.#isTap(from) || this.#isClosed) return
    const remoteId = this.#gone.get(header.stream)
    if (remoteId !== undefined) this.#socket.trySend(encodeUdxDestroy(remoteId, header), from.port, from.host)
  }

  #isTap({ host, port }: Address): boolean {
    return host === this.#tap?.host && port === this.#tap.port
  }
}

/** On Linux all of 127/8 is loopback: a random address in it is one more thing that a local intruder would have to guess. */
function bindSomewhere(socket: UDXSocket): void {
  if (process.platform === 'linux') {
    try {
      return socket.bind(0, `127.${randomInt(1, 255)}.${randomInt(0, 256)}.${randomInt(1, 255)}`)
    } catch {
      // A container may have only 127.0.0.1.
    }
  }
  socket.bind(0, '127.0.0.1')
}
