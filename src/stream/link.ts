// One end of the streams of one session: a UDX instance of its own, so that no session can reach the streams of another,
// and one UDX socket on loopback, to which the data plane connects the session's tap.

import { randomBytes, randomInt } from 'node:crypto'
import UDX, { type UDXSocket, type UDXStream } from 'udx-native'
import type { Address } from '#wire/address.ts'

const BUFFER_BYTES = 4 * 1024 * 1024
/** Ends a stream whose other side has vanished without a word. */
const KEEPALIVE_MS = 20_000

export class StreamLink {
  readonly #udx = new UDX()
  readonly #socket: UDXSocket
  readonly #streams = new Map<number, UDXStream>()
  #tap: Address | undefined
  #isClosed = false

  constructor() {
    this.#socket = this.#udx.createSocket()
    bindSomewhere(this.#socket)
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

  /** The tap is ready: streams send to it from now on. */
  attach(tap: Address): void {
    this.#tap = tap
  }

  get isAttached(): boolean {
    return this.#tap !== undefined
  }

  /** A stream with an unused random id, not connected yet. */
  create(): UDXStream {
    let id = randomBytes(4).readUInt32LE()
    while (id === 0 || this.#streams.has(id)) id = randomBytes(4).readUInt32LE()
    const stream = this.#udx.createStream(id)
    this.#streams.set(id, stream)
    stream.once('close', () => this.#streams.delete(id))
    stream.on('error', () => {})
    return stream
  }

  /** Joins a stream to the one with `remoteId` at the other end; throws before `attach`. */
  connect(stream: UDXStream, remoteId: number): void {
    if (this.#tap === undefined || this.#isClosed) throw new Error('connect a stream: the link has no tap')
    stream.connect(this.#socket, remoteId, this.#tap.port, this.#tap.host)
    stream.setKeepalive(KEEPALIVE_MS)
  }

  /** Resets every stream and frees the socket. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    for (const stream of this.#streams.values()) stream.destroy(new Error('the route was closed'))
    this.#streams.clear()
    this.#socket.close().catch(() => {})
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
