// A plain rendezvous server: passes letters on to who listens in their bucket. Anybody can run one; it keeps nothing on disk,
// and learns addresses, buckets and times, never who wrote to whom.
//
// Letters stay in memory until they expire, for who comes later. Bounds: 1,024 connections, 16 from one network; 64 buckets for
// each; 2,048 letters in memory, the oldest go first; a listener that does not keep up with new ones is cut off.

import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import { copyBytes } from '#bytes/copy.ts'
import { LetterGate } from '#meet/gate.ts'
import { parseIp } from '#wire/address.ts'
import { decodeRendezvous, encodeRendezvous, MAX_RENDEZVOUS_BYTES } from '#wire/rendezvous.ts'
import { bucketName } from './carrier.ts'
import { MAIL_LIFETIME_MS } from './mailbox-carrier.ts'

const MAX_CONNECTIONS = 1024
const MAX_PER_NETWORK = 16
const MAX_BUCKETS = 64
const MAX_KEPT = 2048
const MAX_UNSENT_BYTES = 4 * 1024 * 1024
/** Of letters that were kept so much is unsent at a time: who comes later may be slow. */
const KEPT_UNSENT_BYTES = 256 * 1024
/** What one network may bring: each of its clients posts one letter in a few seconds. */
const PER_SECOND = 8
const BURST = 60
const PING_MS = 30_000
const MAX_GARBAGE = 8

export interface RendezvousOptions {
  readonly host: string
  readonly port: number
  readonly workBits: number
  readonly nowMs: () => number
}

export interface RendezvousServer {
  readonly port: number
  /** Connections and letters in memory. */
  readonly size: { readonly connections: number; readonly letters: number }
  close(): Promise<void>
}

interface Kept {
  readonly bucket: string
  readonly expiresMs: number
  readonly message: Uint8Array
}

interface Guest {
  readonly network: string
  readonly buckets: Set<string>
  garbage: number
  isAlive: boolean
}

/** Serves until it is closed; rejects when the address cannot be listened on. */
export async function serveRendezvous(options: RendezvousOptions): Promise<RendezvousServer> {
  const http = createServer((_request, response) => response.writeHead(426).end('Upgrade Required'))
  await listen(http, options)
  return new Rendezvous(http, options)
}

class Rendezvous implements RendezvousServer {
  readonly #http: Server
  readonly #options: RendezvousOptions
  readonly #sockets: WebSocketServer
  readonly #gate: LetterGate
  readonly #guests = new Map<WebSocket, Guest>()
  readonly #sweep: NodeJS.Timeout
  #kept: Kept[] = []

  constructor(http: Server, options: RendezvousOptions) {
    this.#http = http
    this.#options = options
    const { workBits } = options
    this.#gate = new LetterGate({ workBits, maxLifetimeMs: MAIL_LIFETIME_MS, perSecond: PER_SECOND, burst: BURST })
    this.#sockets = new WebSocketServer({ server: http, maxPayload: MAX_RENDEZVOUS_BYTES, perMessageDeflate: false })
    this.#sockets.on('connection', (socket, request) =>
      this.#welcome(socket, networkOf(request.socket.remoteAddress ?? '')),
    )
    this.#sweep = setInterval(() => this.#pingAll(), PING_MS)
    this.#sweep.unref()
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port
  }

  get size(): { connections: number; letters: number } {
    return { connections: this.#guests.size, letters: this.#kept.length }
  }

  async close(): Promise<void> {
    clearInterval(this.#sweep)
    for (const socket of this.#guests.keys()) socket.terminate()
    this.#sockets.close()
    this.#http.closeAllConnections()
    await new Promise(resolve => this.#http.close(resolve))
  }

  #welcome(socket: WebSocket, network: string): void {
    const others = [...this.#guests.values()].filter(guest => guest.network === network)
    if (this.#guests.size >= MAX_CONNECTIONS || others.length >= MAX_PER_NETWORK) return socket.close(1013)
    const guest: Guest = { network, buckets: new Set(), garbage: 0, isAlive: true }
    this.#guests.set(socket, guest)
    socket.on('message', (data, isBinary) => this.#handle(socket, guest, isBinary ? (data as Buffer) : Buffer.alloc(0)))
    socket.on('pong', () => (guest.isAlive = true))
    socket.on('close', () => this.#guests.delete(socket))
    socket.on('error', () => socket.terminate())
  }

  #handle(socket: WebSocket, guest: Guest, bytes: Uint8Array): void {
    const message = decodeRendezvous(bytes)
    switch (message?.kind) {
      case 'listen': {
        const bucket = bucketName(message.bucket)
        if (guest.buckets.size >= MAX_BUCKETS || guest.buckets.has(bucket)) return
        guest.buckets.add(bucket)
        this.#forgetExpired()
        return this.#sendKept(
          socket,
          this.#kept.filter(kept => kept.bucket === bucket),
        )
      }
      case 'ignore':
        guest.buckets.delete(bucketName(message.bucket))
        return
      case 'letter':
        return this.#passOn(guest, message.letter, socket)
      case undefined:
        if (++guest.garbage > MAX_GARBAGE) socket.close(1008)
        return
    }
  }

  #passOn(guest: Guest, letter: Uint8Array, from: WebSocket): void {
    const head = this.#gate.admit(letter, guest.network, this.#options.nowMs())
    if ('refused' in head) {
      const isGarbage = head.refused === 'malformed' || head.refused === 'tooLittleWork'
      if (isGarbage && ++guest.garbage > MAX_GARBAGE) from.close(1008)
      return
    }
    const bucket = bucketName(head.bucket)
    const message = encodeRendezvous({ kind: 'letter', letter: copyBytes(letter) })
    this.#kept.push({ bucket, expiresMs: head.expiresMs, message })
    if (this.#kept.length > MAX_KEPT) this.#kept.shift()
    for (const [socket, { buckets }] of this.#guests)
      if (buckets.has(bucket) && socket !== from) this.#send(socket, message)
  }

  #send(socket: WebSocket, message: Uint8Array): void {
    if (socket.bufferedAmount > MAX_UNSENT_BYTES) socket.terminate()
    else socket.send(message)
  }

  /** As fast as they are taken, the newest first: what is looked for is rarely old. */
  #sendKept(socket: WebSocket, letters: Kept[]): void {
    while (socket.readyState === socket.OPEN) {
      const next = letters.pop()
      if (next === undefined) return
      if (socket.bufferedAmount < KEPT_UNSENT_BYTES) socket.send(next.message)
      else return socket.send(next.message, () => this.#sendKept(socket, letters))
    }
  }

  #forgetExpired(): void {
    const now = this.#options.nowMs()
    this.#kept = this.#kept.filter(({ expiresMs }) => expiresMs > now)
  }

  #pingAll(): void {
    this.#forgetExpired()
    for (const [socket, guest] of this.#guests) {
      if (!guest.isAlive) socket.terminate()
      guest.isAlive = false
      socket.ping()
    }
  }
}

function listen(server: Server, { host, port }: RendezvousOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

/** An IPv4 address, or the /64 of an IPv6 one: that is what one household has. */
function networkOf(address: string): string {
  const ip = parseIp(address.replace(/^::ffff:/i, '').replace(/%.*$/, ''))
  return ip === undefined ? address : Buffer.from(ip.subarray(0, ip.length === 4 ? 4 : 8)).toString('hex')
}
