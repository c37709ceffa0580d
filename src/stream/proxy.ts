// The client's proxy: SOCKS5 and HTTP CONNECT on one port. The first byte tells them apart.
//
//   accept ──► handshake (10 s, 8 KiB at most) ──► dial ──► joined
//                                              └─► association, for as long as the connection lives (SOCKS5 UDP)
//
// Names are passed on as they are and resolved at the exit. Credentials choose the route: different ones never share one.

import { createHash } from 'node:crypto'
import { createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Address } from '#wire/address.ts'
import { REFUSAL, type Refusal, type Target } from '#wire/control.ts'
import { encodeStatus, MAX_HTTP_HEAD, parseConnect } from '#wire/http-connect.ts'
import { encodeReply, parseGreeting, parsePassword, parseRequest, SOCKS_REPLY, SOCKS_VERSION } from '#wire/socks.ts'
import { DialError } from './dial-error.ts'
import { splice } from './splice.ts'

const HANDSHAKE_MS = 10_000
const MAX_CONNECTIONS = 4_096

export interface Association {
  readonly address: Address
  close(): void
}

export interface ProxyOptions {
  /** Opens a stream under an isolation key ('' without credentials); rejects with a `DialError`. */
  readonly dial: (target: Target, isolation: string, signal: AbortSignal) => Promise<Duplex>
  readonly associate: (isolation: string, signal: AbortSignal) => Promise<Association>
}

export type ProxyCounter = 'accepted' | 'joined' | 'refused' | 'malformed' | 'slow'

export class ProxyServer {
  readonly counters = new Map<ProxyCounter, number>()
  readonly #options: ProxyOptions
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  constructor(options: ProxyOptions) {
    this.#options = options
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, socket => this.#accept(socket))
    this.#server.maxConnections = MAX_CONNECTIONS
  }

  get listening(): boolean {
    return this.#server.listening
  }

  get connections(): number {
    return this.#sockets.size
  }

  /** Listens; rejects when the address is taken. */
  listen(host: string, port: number): Promise<Address> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ host, port }, () => {
        this.#server.off('error', reject)
        const bound = this.#server.address()
        resolve(
          typeof bound === 'object' && bound !== null ? { host: bound.address, port: bound.port } : { host, port },
        )
      })
    })
  }

  /** Stops listening and resets every connection. */
  async close(): Promise<void> {
    const closed = new Promise<void>(resolve => this.#server.close(() => resolve()))
    for (const socket of this.#sockets) socket.resetAndDestroy()
    await closed
  }

  #accept(socket: Socket): void {
    this.#count('accepted')
    this.#sockets.add(socket)
    const gone = new AbortController()
    socket.once('close', () => {
      this.#sockets.delete(socket)
      gone.abort()
    })
    socket.on('error', () => {})
    this.#handshake(new HandshakeReader(socket), socket, gone.signal).catch(error => {
      this.#count(error instanceof SlowError ? 'slow' : 'malformed')
      socket.destroy()
    })
  }

  async #handshake(reader: HandshakeReader, socket: Socket, signal: AbortSignal): Promise<void> {
    const first = await reader.peek()
    if (first === SOCKS_VERSION) await this.#socks(reader, socket, signal)
    else if (first === 4) {
      // SOCKS4 cannot carry names safely; its own refusal says so.
      this.#count('refused')
      socket.end(Uint8Array.of(0, 0x5b, 0, 0, 0, 0, 0, 0))
    } else await this.#http(reader, socket, signal)
  }

  async #socks(reader: HandshakeReader, socket: Socket, signal: AbortSignal): Promise<void> {
    const { method } = await reader.read(parseGreeting)
    if (method === 'unacceptable') {
      this.#count('refused')
      socket.end(Uint8Array.of(SOCKS_VERSION, 0xff))
      return
    }
    let isolation = ''
    if (method === 'password') {
      socket.write(Uint8Array.of(SOCKS_VERSION, 2))
      const { user, password } = await reader.read(parsePassword)
      isolation = isolationKey(user, password)
      socket.write(Uint8Array.of(1, 0))
    } else {
      socket.write(Uint8Array.of(SOCKS_VERSION, 0))
    }
    const { command, target } = await reader.read(parseRequest)
    const refuse = (code: number) => {
      this.#count('refused')
      socket.end(encodeReply(code))
    }
    if (command === 'associate') return this.#associate(reader, socket, isolation, signal)
    if (command !== 'connect') return refuse(SOCKS_REPLY.commandUnknown)
    if (target === undefined) return refuse(SOCKS_REPLY.addressUnknown)
    try {
      const stream = await this.#options.dial(target, isolation, signal)
      this.#join(reader, socket, stream, encodeReply(SOCKS_REPLY.done))
    } catch (error) {
      refuse(socksCode(reasonOf(error)))
    }
  }

  async #http(reader: HandshakeReader, socket: Socket, signal: AbortSignal): Promise<void> {
    const head = await reader.read(bytes => {
      const parsed = parseConnect(bytes)
      return parsed?.kind === 'refused' ? { ...parsed, length: bytes.length } : parsed
    })
    const refuse = (status: number) => {
      this.#count('refused')
      socket.end(encodeStatus(status))
    }
    if (head.kind === 'refused') return refuse(head.status)
    const isolation = head.credentials === '' ? '' : isolationKey(Buffer.from(head.credentials))
    try {
      const stream = await this.#options.dial(head.target, isolation, signal)
      this.#join(reader, socket, stream, encodeStatus(200))
    } catch (error) {
      refuse(httpStatus(reasonOf(error)))
    }
  }

  async #associate(reader: HandshakeReader, socket: Socket, isolation: string, signal: AbortSignal): Promise<void> {
    try {
      const association = await this.#options.associate(isolation, signal)
      if (socket.destroyed) return association.close()
      socket.once('close', () => association.close())
      this.#count('joined')
      reader.release()
      socket.on('end', () => socket.end())
      socket.resume()
      socket.write(encodeReply(SOCKS_REPLY.done, association.address))
    } catch {
      this.#count('refused')
      socket.end(encodeReply(SOCKS_REPLY.generalFailure))
    }
  }

  #join(reader: HandshakeReader, socket: Socket, stream: Duplex, greeting: Uint8Array): void {
    const early = reader.release()
    if (socket.destroyed) {
      stream.destroy()
      return
    }
    this.#count('joined')
    socket.write(greeting)
    if (early.length > 0) stream.write(early)
    splice(socket, stream)
    // The client may have ended its side while its target was dialled.
    if (socket.readableEnded) stream.end()
  }

  #count(name: ProxyCounter): void {
    this.counters.set(name, (this.counters.get(name) ?? 0) + 1)
  }
}

class SlowError extends Error {}

/** Collects the bytes of a handshake, within bounds of size and time. */
class HandshakeReader {
  readonly #socket: Socket
  readonly #timer: NodeJS.Timeout
  #bytes = Buffer.alloc(0)
  #wake: () => void = () => {}
  #problem: Error | undefined

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', this.#onData)
    socket.once('end', this.#onEnd)
    socket.once('close', this.#onEnd)
    this.#timer = setTimeout(() => this.#fail(new SlowError('handshake: too slow')), HANDSHAKE_MS)
  }

  async peek(): Promise<number> {
    while (this.#bytes.length === 0) await this.#more()
    return this.#bytes[0] ?? 0
  }

  /** Reads one message with `parse`, which says how long it was. */
  async read<T extends { readonly length: number }>(
    parse: (bytes: Uint8Array) => T | 'malformed' | undefined,
  ): Promise<T> {
    for (;;) {
      const parsed = parse(this.#bytes)
      if (parsed === 'malformed') throw new Error('handshake: malformed')
      if (parsed !== undefined) {
        this.#bytes = this.#bytes.subarray(parsed.length)
        return parsed
      }
      await this.#more()
    }
  }

  /** Stops reading; returns what came after the handshake. */
  release(): Buffer {
    clearTimeout(this.#timer)
    this.#socket.pause()
    this.#socket.off('data', this.#onData)
    this.#socket.off('end', this.#onEnd)
    this.#socket.off('close', this.#onEnd)
    return this.#bytes
  }

  readonly #onData = (chunk: Buffer) => {
    this.#bytes = Buffer.concat([this.#bytes, chunk])
    // What comes early, before the target answered, waits in the kernel.
    if (this.#bytes.length > 2 * MAX_HTTP_HEAD) this.#socket.pause()
    this.#wake()
  }

  readonly #onEnd = () => this.#fail(new Error('handshake: ended early'))

  #fail(problem: Error): void {
    this.#problem ??= problem
    clearTimeout(this.#timer)
    this.#wake()
    if (problem instanceof SlowError && !this.#isDialling) this.#socket.destroy()
  }

  /** While nobody waits for bytes, the target is being dialled, which has its own bound. */
  get #isDialling(): boolean {
    return this.#wake === IDLE
  }

  async #more(): Promise<void> {
    if (this.#problem !== undefined) throw this.#problem
    await new Promise<void>(resolve => {
      this.#wake = resolve
    })
    this.#wake = IDLE
    if (this.#problem !== undefined) throw this.#problem
  }
}

const IDLE = () => {}

function isolationKey(...parts: readonly Uint8Array[]): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(Uint8Array.of(part.length)).update(part)
  return hash.digest('hex').slice(0, 32)
}

function reasonOf(error: unknown): Refusal {
  return error instanceof DialError ? error.reason : REFUSAL.generalFailure
}

function socksCode(reason: Refusal): number {
  switch (reason) {
    case REFUSAL.nameNotFound:
      return SOCKS_REPLY.hostUnreachable
    case REFUSAL.tooMany:
    case REFUSAL.unknownRequest:
      return SOCKS_REPLY.generalFailure
    case REFUSAL.timedOut:
      return SOCKS_REPLY.ttlExpired
    default:
      return reason
  }
}

function httpStatus(reason: Refusal): number {
  switch (reason) {
    case REFUSAL.notAllowed:
      return 403
    case REFUSAL.timedOut:
      return 504
    case REFUSAL.tooMany:
      return 503
    default:
      return 502
  }
}
