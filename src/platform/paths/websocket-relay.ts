// The door of a relay for clients whose network lets no UDP through: each WebSocket is one client, each binary message one datagram
// for the relay's own port, and back. What is carried is sealed as ever; the door sees what any router sees.
//
// Plain HTTP here; TLS is for a proxy in front of it. Bounds: 1,024 connections, 16 from one network (IPv4 /24, IPv6 /56);
// messages of 2,048 bytes; a client that does not keep up loses datagrams, one that is silent for two minutes its connection.

import dgram from 'node:dgram'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import { type Address, parseIp } from '#wire/address.ts'

const MAX_CONNECTIONS = 1_024
const MAX_PER_NETWORK = 16
export const MAX_MESSAGE_BYTES = 2_048
const MAX_UNSENT_BYTES = 512 * 1_024
const MAX_SILENT_MS = 120_000

export interface WebSocketRelay extends AsyncDisposable {
  readonly port: number
}

/**
 * Serves until it is disposed of; rejects when `listen` cannot be listened on.
 *
 * @param target the relay's own UDP socket
 */
export async function serveWebSocketRelay(listen: Address, target: Address): Promise<WebSocketRelay> {
  const http = createServer((_request, response) => response.writeHead(426).end('Upgrade Required'))
  await new Promise<void>((resolve, reject) => {
    http.once('error', reject)
    http.listen(listen.port, listen.host, resolve)
  })
  return new Door(http, target)
}

class Door implements WebSocketRelay {
  readonly #http: Server
  readonly #target: Address
  readonly #sockets: WebSocketServer
  readonly #perNetwork = new Map<string, number>()

  constructor(http: Server, target: Address) {
    this.#http = http
    this.#target = target
    this.#sockets = new WebSocketServer({ server: http, maxPayload: MAX_MESSAGE_BYTES, perMessageDeflate: false })
    this.#sockets.on('connection', (client, { socket }) => this.#admit(client, networkOf(socket.remoteAddress ?? '')))
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#sockets.clients) client.terminate()
    this.#sockets.close()
    await new Promise<void>(resolve => void this.#http.close(() => resolve()))
  }

  #admit(client: WebSocket, network: string): void {
    const others = this.#perNetwork.get(network) ?? 0
    client.on('error', () => client.terminate())
    if (this.#sockets.clients.size > MAX_CONNECTIONS || others >= MAX_PER_NETWORK) return client.close(1013)
    this.#perNetwork.set(network, others + 1)
    const end = this.#carry(client)
    client.on('close', () => {
      end()
      const left = (this.#perNetwork.get(network) ?? 1) - 1
      if (left === 0) this.#perNetwork.delete(network)
      else this.#perNetwork.set(network, left)
    })
  }

  #carry(client: WebSocket): () => void {
    const { host, port } = this.#target
    const socket = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4')
    const silence = setTimeout(() => client.terminate(), MAX_SILENT_MS)
    let isConnected = false
    socket.on('error', () => undefined)
    socket.connect(port, host, () => void (isConnected = true))
    socket.on('message', bytes => {
      if (client.bufferedAmount <= MAX_UNSENT_BYTES) client.send(bytes)
    })
    client.on('message', (message, isBinary) => {
      silence.refresh()
      if (isBinary && isConnected) socket.send(message as Buffer, () => undefined)
    })
    return () => {
      clearTimeout(silence)
      socket.close()
    }
  }
}

function networkOf(host: string): string {
  const ip = parseIp(host.replace(/^::ffff:/, ''))
  return ip === undefined ? '' : ip.subarray(0, ip.length === 4 ? 3 : 7).join('.')
}
