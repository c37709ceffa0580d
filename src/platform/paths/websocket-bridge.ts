// A relay's door (websocket-relay.ts) as a UDP address on loopback: datagrams that come there go through a WebSocket to the
// relay, and back. So the data plane needs to know nothing of it.
//
// The first sender is the only one: the kernel drops what others send. Bounds: four datagrams wait for the WebSocket to be open,
// more are dropped, and so are those that come while it has half a megabyte unsent; it is opened anew at most every second, and only while there is something to carry.

import dgram from 'node:dgram'
import { once } from 'node:events'
import { WebSocket } from 'ws'
import { type Address, formatAddress } from '#wire/address.ts'
import { MAX_MESSAGE_BYTES } from './websocket-relay.ts'

const MAX_UNSENT_BYTES = 512 * 1_024
const REOPEN_MS = 1_000
const HANDSHAKE_MS = 5_000
const MAX_WAITING = 4

export class WebSocketBridge implements Disposable {
  readonly #url: string
  readonly #socket: dgram.Socket
  #client: WebSocket | undefined
  #openedMs = Number.NEGATIVE_INFINITY
  #isBound = false
  #waiting: Buffer[] = []

  private constructor(door: Address, socket: dgram.Socket) {
    this.#url = `ws://${formatAddress(door)}/`
    this.#socket = socket
    socket.on('error', () => undefined)
    socket.on('message', (bytes, { port, address }) => {
      if (!this.#isBound) socket.connect(port, address)
      this.#isBound = true
      this.#carry(bytes)
    })
  }

  /** Opens the way to a relay's door. */
  static async open(door: Address): Promise<WebSocketBridge> {
    const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1')
    await once(socket, 'listening')
    const bridge = new WebSocketBridge(door, socket)
    bridge.#reopen()
    return bridge
  }

  /** Where to send datagrams for the relay. */
  get address(): Address {
    return { host: '127.0.0.1', port: this.#socket.address().port }
  }

  [Symbol.dispose](): void {
    this.#client?.terminate()
    this.#socket.close()
  }

  #carry(bytes: Buffer): void {
    const client = this.#client
    if (client?.readyState === WebSocket.OPEN) {
      if (client.bufferedAmount <= MAX_UNSENT_BYTES) client.send(bytes)
      return
    }
    if (this.#waiting.length < MAX_WAITING) this.#waiting.push(bytes)
    if (client?.readyState !== WebSocket.CONNECTING) this.#reopen()
  }

  #reopen(): void {
    const now = performance.now()
    if (now - this.#openedMs < REOPEN_MS) return
    this.#openedMs = now
    const options = { perMessageDeflate: false, maxPayload: MAX_MESSAGE_BYTES, handshakeTimeout: HANDSHAKE_MS }
    const client = new WebSocket(this.#url, options)
    client.on('error', () => client.terminate())
    client.on('open', () => {
      for (const bytes of this.#waiting.splice(0)) client.send(bytes)
    })
    client.on('close', () => {
      this.#waiting = []
    })
    client.on('message', (message, isBinary) => {
      if (isBinary && this.#isBound) this.#socket.send(message as Buffer, () => undefined)
    })
    this.#client = client
  }
}
