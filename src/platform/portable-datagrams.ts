// UDP by node:dgram, on every platform and without privileges.

import { createSocket, type Socket } from 'node:dgram'
import { isIPv6 } from 'node:net'
import { copyBytes } from '#bytes/copy.ts'
import type { Counters } from '#forward/counters.ts'
import type { Address } from '#wire/address.ts'
import {
  type DatagramSocket,
  type Datagrams,
  isOutOfDescriptors,
  type SocketHandlers,
  type SocketPlan,
} from './datagrams.ts'

const BUFFER_BYTES = 4 * 1024 * 1024
/** Datagrams that the system has not taken yet; more are dropped. */
const MAX_BACKLOG = 256
/** Datagrams that wait for a socket to be connected. */
const MAX_WAITING = 16

type Lookup = (hostname: string, options: unknown, done: (error: null, address: string, family: number) => void) => void
const literal: Lookup = (host, _options, done) => done(null, host, isIPv6(host) ? 6 : 4)

export class PortableDatagrams implements Datagrams {
  readonly #counters: Counters
  readonly #retain: () => void

  /** @param retain called when a datagram is still to be read after `send` returned */
  constructor(counters: Counters, retain: () => void) {
    this.#counters = counters
    this.#retain = retain
  }

  open(plan: SocketPlan, handlers: SocketHandlers): DatagramSocket {
    return new PortableSocket(plan, handlers, this.#counters, this.#retain)
  }
}

class PortableSocket implements DatagramSocket {
  readonly #socket: Socket
  readonly #plan: SocketPlan
  readonly #handlers: SocketHandlers
  readonly #counters: Counters
  readonly #retain: () => void
  #isOpen = false
  readonly #waiting: { readonly bytes: Uint8Array; readonly to: Address | undefined }[] = []

  constructor(plan: SocketPlan, handlers: SocketHandlers, counters: Counters, retain: () => void) {
    this.#plan = plan
    this.#handlers = handlers
    this.#counters = counters
    this.#retain = retain
    const host = plan.connect?.host ?? plan.bind?.host ?? '0.0.0.0'
    const { ipv6Only = false } = plan
    this.#socket = createSocket({ type: isIPv6(host) ? 'udp6' : 'udp4', ipv6Only, lookup: literal as never })
    this.#socket.on('message', (message, { address, port }) =>
      handlers.onDatagram(message, 0, message.length, plan.connect ?? { host: address, port }),
    )
    this.#socket.on('error', error => this.#fail(error))
    if (plan.bind === undefined) this.#connect()
    else this.#socket.bind({ address: plan.bind.host, port: plan.bind.port, exclusive: true }, () => this.#connect())
  }

  send(buffer: Uint8Array, offset: number, length: number, to?: Address): void {
    if (!this.#isOpen) {
      if (this.#waiting.length < MAX_WAITING)
        this.#waiting.push({ bytes: copyBytes(buffer, offset, offset + length), to })
      else this.#counters.add('dropSendQueue')
      return
    }
    const backlog = this.#socket.getSendQueueCount()
    if (backlog > 0) {
      if (backlog > MAX_BACKLOG) return this.#counters.add('dropSendQueue')
      this.#retain()
    }
    try {
      if (to === undefined) this.#socket.send(buffer, offset, length)
      else this.#socket.send(buffer, offset, length, to.port, to.host)
    } catch {
      this.#counters.add('dropSendError')
    }
  }

  close(): void {
    try {
      this.#socket.close()
    } catch {
      // It was closed already.
    }
  }

  #connect(): void {
    const { connect } = this.#plan
    if (connect === undefined) return this.#opened()
    try {
      this.#socket.connect(connect.port, connect.host, (error?: Error) =>
        error === undefined ? this.#opened() : this.#fail(error),
      )
    } catch (error) {
      this.#fail(error as NodeJS.ErrnoException)
    }
  }

  #opened(): void {
    this.#isOpen = true
    if (this.#plan.isBusy) this.#growBuffers()
    for (const { bytes, to } of this.#waiting.splice(0)) this.send(bytes, 0, bytes.length, to)
    const { address, port } = this.#socket.address()
    this.#handlers.onOpen?.({ host: address, port })
  }

  #fail(error: NodeJS.ErrnoException): void {
    this.#counters.add(isOutOfDescriptors(error.code) ? 'noDescriptor' : 'dropSendError')
    if (this.#isOpen || this.#handlers.onFailed === undefined) this.#handlers.onError?.()
    else this.#handlers.onFailed(error.code ?? 'UNKNOWN')
  }

  /** The system may give less: `hoplite doctor` says how to change that. */
  #growBuffers(): void {
    try {
      this.#socket.setRecvBufferSize(BUFFER_BYTES)
      this.#socket.setSendBufferSize(BUFFER_BYTES)
    } catch {
      // A smaller buffer only costs speed.
    }
  }
}
