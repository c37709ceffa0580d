// The client's proxy: SOCKS5 and HTTP CONNECT on one port. The first byte tells them apart.
//
//   accept ──► handshake (10 s, 8 KiB at most) ──► dial ──► joined
//      │              │                              │  └─► association, for as long as the connection lives (SOCKS5 UDP)
//      └──────────────┴──── refused: an answer, and a second to read it ◄──┘
//
// Names are passed on as they are and resolved at the exit. Credentials choose the route: different ones never share one.

import { createHmac, randomBytes } from 'node:crypto'
import { createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Address } from '#wire/address.ts'
import { REFUSAL, type Refusal, type Target } from '#wire/control.ts'
import { encodeStatus, parseConnect } from '#wire/http-connect.ts'
import {
  encodeReply,
  parseGreeting,
  parsePassword,
  parseRequest,
  SOCKS_REPLY,
  SOCKS_VERSION,
  SOCKS4_REFUSED,
} from '#wire/socks.ts'
import { DESCRIPTIONS, DialError } from './dial-error.ts'
import { HandshakeReader, MalformedError, UnfinishedError } from './handshake-reader.ts'
import { splice } from './splice.ts'

const MAX_CONNECTIONS = 4_096
/** How long a client that was refused may take to read why. */
const FAREWELL_MS = 1_000
const NO_METHOD = Uint8Array.of(SOCKS_VERSION, 0xff)
const PASSWORD_REFUSED = Uint8Array.of(1, 1)

export interface Association {
  readonly address: Address
  close(): void
}

export interface ProxyOptions {
  /** Opens a stream under an isolation key ('' without credentials); rejects with a `DialError`. */
  readonly dial: (target: Target, isolation: string, signal: AbortSignal) => Promise<Duplex>
  /** Opens a UDP endpoint; `lost` is called when it is of no more use. */
  readonly associate: (isolation: string, signal: AbortSignal, lost: () => void) => Promise<Association>
  readonly maxConnections?: number
  /** Whether the process can have one more connection. */
  readonly hasRoom?: () => boolean
}

export type ProxyCounter =
  | 'accepted'
  | 'dropped'
  | 'outOfFiles'
  | 'joined'
  | 'refused'
  | 'malformed'
  | 'slow'
  | 'gone'
  | 'failed'

export class ProxyServer {
  readonly counters = new Map<ProxyCounter, number>()
  readonly #options: ProxyOptions
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  /** So that nobody who sees an isolation key can try passwords against it. */
  readonly #isolationSecret = randomBytes(32)

  constructor(options: ProxyOptions) {
    this.#options = options
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, socket => this.#accept(socket))
    this.#server.maxConnections = options.maxConnections ?? MAX_CONNECTIONS
    this.#server.on('drop', () => this.#count('dropped'))
  }

  get listening(): boolean {
    return this.#server.listening
  }

  get connections(): number {
    return this.#sockets.size
  }

  /** Listens; rejects with the system's code when it cannot (EADDRINUSE, EACCES). */
  listen(host: string, port: number): Promise<Address> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ host, port }, () => {
        this.#server.off('error', reject)
        // Without descriptors left a connection cannot be accepted; the others go on.
        this.#server.on('error', () => this.#count('failed'))
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
    if (this.#options.hasRoom?.() === false) {
      this.#count('outOfFiles')
      return void socket.destroy()
    }
    this.#count('accepted')
    this.#sockets.add(socket)
    const gone = new AbortController()
    socket.once('close', () => {
      this.#sockets.delete(socket)
      gone.abort()
    })
    socket.on('error', () => {})
    const reader = new HandshakeReader(socket)
    this.#handshake(reader, socket, gone.signal).catch(error => {
      if (error instanceof MalformedError) return this.#refuse(reader, socket, error.answer, 'malformed')
      const isSlow = error instanceof UnfinishedError && error.isSlow
      this.#count(isSlow ? 'slow' : error instanceof UnfinishedError ? 'gone' : 'failed')
      reader.release()
      socket.destroy()
    })
  }

  async #handshake(reader: HandshakeReader, socket: Socket, signal: AbortSignal): Promise<void> {
    const first = await reader.peek()
    if (first === SOCKS_VERSION) return this.#socks(reader, socket, signal)
    if (first === 4) return this.#refuse(reader, socket, SOCKS4_REFUSED)
    return this.#http(reader, socket, signal)
  }

  async #socks(reader: HandshakeReader, socket: Socket, signal: AbortSignal): Promise<void> {
    const { method } = await reader.read(parseGreeting, NO_METHOD)
    if (method === 'unacceptable') return this.#refuse(reader, socket, NO_METHOD)
    let isolation = ''
    if (method === 'password') {
      socket.write(Uint8Array.of(SOCKS_VERSION, 2))
      const { user, password } = await reader.read(parsePassword, PASSWORD_REFUSED)
      isolation = this.#isolationKey(user, password)
      socket.write(Uint8Array.of(1, 0))
    } else {
      socket.write(Uint8Array.of(SOCKS_VERSION, 0))
    }
    const { command, target } = await reader.read(parseRequest, encodeReply(SOCKS_REPLY.generalFailure))
    reader.finish()
    const refuse = (code: number) => this.#refuse(reader, socket, encodeReply(code))
    if (command === 'unknown') return refuse(SOCKS_REPLY.commandUnknown)
    try {
      if (command === 'associate') {
        this.#associated(
          reader,
          socket,
          await this.#options.associate(isolation, signal, () => socket.resetAndDestroy()),
        )
      } else if (target === undefined) {
        refuse(SOCKS_REPLY.addressUnknown)
      } else {
        const stream = await this.#options.dial(target, isolation, signal)
        this.#join(reader, socket, stream, encodeReply(SOCKS_REPLY.done))
      }
    } catch (error) {
      refuse(socksCode(reasonOf(error)))
    }
  }

  async #http(reader: HandshakeReader, socket: Socket, signal: AbortSignal): Promise<void> {
    const head = await reader.read(bytes => {
      const parsed = parseConnect(bytes)
      return parsed?.kind === 'refused' ? { ...parsed, length: bytes.length } : parsed
    }, encodeStatus(400))
    reader.finish()
    if (head.kind === 'refused') return this.#refuse(reader, socket, encodeStatus(head.status))
    const { user, password } = head.credentials ?? {}
    const isolation = user === undefined || password === undefined ? '' : this.#isolationKey(user, password)
    try {
      const stream = await this.#options.dial(head.target, isolation, signal)
      this.#join(reader, socket, stream, encodeStatus(200))
    } catch (error) {
      const reason = reasonOf(error)
      this.#refuse(reader, socket, encodeStatus(httpStatus(reason), DESCRIPTIONS[reason]))
    }
  }

  #associated(reader: HandshakeReader, socket: Socket, association: Association): void {
    if (socket.destroyed) return association.close()
    this.#count('joined')
    socket.once('close', () => association.close())
    reader.release()
    socket.write(encodeReply(SOCKS_REPLY.done, association.address))
    if (socket.readableEnded) socket.end()
    else socket.once('end', () => socket.end())
    socket.resume()
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
  }

  /** Says why not, gives the client a moment to read it, and closes. */
  #refuse(reader: HandshakeReader, socket: Socket, answer: Uint8Array, why: ProxyCounter = 'refused'): void {
    this.#count(why)
    reader.release()
    if (socket.destroyed) return
    const timer = setTimeout(() => socket.destroy(), FAREWELL_MS)
    socket.once('close', () => clearTimeout(timer))
    socket.end(answer)
    // What is still unread when a connection closes would turn its end into a reset, and the answer might be lost.
    socket.resume()
  }

  #isolationKey(user: Uint8Array, password: Uint8Array): string {
    const hash = createHmac('sha256', this.#isolationSecret)
    hash.update(Uint8Array.of(user.length >> 8, user.length & 0xff))
    return hash.update(user).update(password).digest('hex').slice(0, 32)
  }

  #count(name: ProxyCounter): void {
    this.counters.set(name, (this.counters.get(name) ?? 0) + 1)
  }
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
