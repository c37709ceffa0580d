// Where the datagrams of a path machine go and come from: sockets by number, of `node:dgram` here. A data plane has others.

import dgram from 'node:dgram'
import type { Family } from '#path/base.ts'
import type { Address } from '#wire/address.ts'

export interface PathSockets extends AsyncDisposable {
  /** Opens one on every address of that family, under a number that is new; gives its port. Rejects when there is none to be had. */
  open(local: number, family: Family, port: number): Promise<number>
  /** Sends without waiting; nothing is sent by a number that is not open. */
  send(local: number, to: Address, bytes: Uint8Array): void
  close(local: number): void
  /** Lets go of one for somebody else to read; `undefined` when there is none that can be given. */
  handOver(local: number): GivenSocket | undefined
}

/** A descriptor, where the system has such, and the port that it is bound to. */
export interface GivenSocket {
  readonly fd: number | undefined
  readonly port: number
}

/** Takes a datagram that came by the socket of that number. */
export type Hear = (bytes: Uint8Array, from: Address, local: number) => void

export interface DgramSocketsOptions {
  /** A socket that is not bound yet, where others are not let out; negative where there is none to be had. */
  readonly openSocket?: (family: Family) => Promise<number>
  /** One more descriptor of a socket, for `handOver`; without it, whoever takes one over binds its port anew. */
  readonly copySocket?: (socket: dgram.Socket) => number | undefined
}

const BUFFER_BYTES = 4 * 1024 * 1024

export class DgramSockets implements PathSockets {
  readonly #hear: Hear
  readonly #options: DgramSocketsOptions
  readonly #sockets = new Map<number, dgram.Socket>()

  constructor(hear: Hear, options: DgramSocketsOptions = {}) {
    this.#hear = hear
    this.#options = options
  }

  async open(local: number, family: Family, port: number): Promise<number> {
    const fd = (await this.#options.openSocket?.(family)) ?? -1
    const socket = dgram.createSocket(family === 4 ? { type: 'udp4' } : { type: 'udp6', ipv6Only: true })
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.bind(fd < 0 ? { port } : { fd }, () => {
        socket.off('error', reject)
        resolve()
      })
    })
    // Errors of single datagrams (nobody there, no way there) are what checks are for.
    socket.on('error', () => undefined)
    socket.on('message', (bytes, from) => {
      this.#hear(bytes, { host: from.address.split('%')[0] ?? '', port: from.port }, local)
    })
    growBuffers(socket)
    this.#sockets.set(local, socket)
    return socket.address().port
  }

  send(local: number, to: Address, bytes: Uint8Array): void {
    this.#sockets.get(local)?.send(bytes, to.port, to.host, () => undefined)
  }

  close(local: number): void {
    this.#sockets.get(local)?.close()
    this.#sockets.delete(local)
  }

  handOver(local: number): GivenSocket | undefined {
    const socket = this.#sockets.get(local)
    if (socket === undefined) return undefined
    const { port } = socket.address()
    const fd = this.#options.copySocket?.(socket)
    this.close(local)
    return { fd, port }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const sockets = [...this.#sockets.values()]
    this.#sockets.clear()
    await Promise.all(sockets.map(socket => new Promise<void>(resolve => void socket.close(() => resolve()))))
  }
}

/** The system may give less, which only costs speed. */
function growBuffers(socket: dgram.Socket): void {
  try {
    socket.setRecvBufferSize(BUFFER_BYTES)
    socket.setSendBufferSize(BUFFER_BYTES)
  } catch {
    // It gives nothing.
  }
}
