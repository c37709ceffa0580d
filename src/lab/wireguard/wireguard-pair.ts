// A VPN's WireGuard server and its customer's client, both in this process, on real sockets: the client connects to wherever the
// file that it is given says.

import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { monotonicMs } from '#platform/clock.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import { parseWgQuick } from '#wire/wg-quick.ts'
import { formatKey } from '#wire/wireguard-key.ts'
import { waitFor } from '../testnet.ts'
import { makeEnd, type WireGuardEnd } from './wireguard-end.ts'

const TICK_MS = 50
const PACKET_BYTES = 200
const LONG_PACKET_BYTES = 1_200
const BURST = 32
const BURST_MS = 30

export class WireGuardPair implements AsyncDisposable {
  readonly server: Address
  readonly #sockets: readonly [Socket, Socket]
  readonly #mine: WireGuardEnd
  readonly #theirs: WireGuardEnd
  readonly #timer: NodeJS.Timeout
  /** Where the server's packets come from. */
  readonly seen = new Set<string>()

  private constructor(server: Address, sockets: readonly [Socket, Socket]) {
    this.server = server
    this.#sockets = sockets
    const [client, provider] = sockets
    const sendFrom = (socket: Socket) => (buffer: Uint8Array, offset: number, length: number, to: Address) =>
      socket.send(Buffer.from(buffer.subarray(offset, offset + length)), to.port, to.host)
    this.#mine = makeEnd(1, sendFrom(client))
    this.#theirs = makeEnd(2, sendFrom(provider))
    this.#theirs.know(this.#mine, 1)
    for (const [socket, end] of [
      [client, this.#mine],
      [provider, this.#theirs],
    ] as const)
      socket.on('message', (bytes, { address, port }) => {
        if (socket === provider) this.seen.add(address)
        end.device.receive(bytes, 0, bytes.length, { host: address, port }, monotonicMs())
      })
    this.#timer = setInterval(() => {
      for (const { device } of [this.#mine, this.#theirs]) device.handleDeadline(monotonicMs())
    }, TICK_MS)
  }

  /** Starts the server at `host`. */
  static async start(host: string): Promise<WireGuardPair> {
    const sockets = [createSocket('udp4'), createSocket('udp4')] as const
    for (const [socket, address] of [
      [sockets[0], '127.0.0.1'],
      [sockets[1], host],
    ] as const) {
      socket.bind(0, address)
      await once(socket, 'listening')
    }
    return new WireGuardPair({ host, port: sockets[1].address().port }, sockets)
  }

  /** The file that the VPN gives its customer, with more lines for [Interface]. */
  file(...lines: string[]): string {
    const [privateKey = Buffer.alloc(0)] = this.#mine.secrets
    return [
      ...['[Interface]', `PrivateKey = ${formatKey(privateKey)}`, 'Address = 10.66.0.2/32', ...lines],
      ...['[Peer]', `PublicKey = ${formatKey(this.#theirs.device.publicKey)}`, 'AllowedIPs = 10.66.0.0/24'],
      ...[`Endpoint = ${formatAddress(this.server)}`, ''],
    ].join('\n')
  }

  /** Sends packets by what a file says until one arrives at the server and one comes back. Throws when none does. */
  async exchange(file: string): Promise<void> {
    const config = parseWgQuick(Buffer.from(file))
    if ('error' in config) throw new Error(config.error.text)
    const endpoint = config.peers[0]?.endpoint
    if (endpoint === undefined) throw new Error('the file has no endpoint')
    this.#mine.know(this.#theirs, 2, endpoint)
    const text = Buffer.from('said through a stranger')
    const [out, back] = [this.#theirs.received.length, this.#mine.received.length]
    await waitFor(async () => {
      this.#mine.say(text, 2, PACKET_BYTES)
      await new Promise(resolve => setTimeout(resolve, TICK_MS))
      if (this.#theirs.received.length === out) return undefined
      this.#theirs.say(text, 1, PACKET_BYTES)
      await new Promise(resolve => setTimeout(resolve, TICK_MS))
      return this.#mine.received.length > back || undefined
    }, 'a packet through the tunnel and back')
  }

  /** Sends this many bytes to the server after an exchange, and waits until most have arrived. Throws when they do not. */
  async send(bytes: number): Promise<void> {
    const text = Buffer.from('said through a stranger')
    const before = this.#theirs.received.length
    const count = Math.ceil(bytes / LONG_PACKET_BYTES)
    for (let sent = 1; sent <= count; sent++) {
      this.#mine.say(text, 2, LONG_PACKET_BYTES)
      // Slower than a peer carries for one client: what is beyond is dropped.
      if (sent % BURST === 0) await new Promise(resolve => setTimeout(resolve, BURST_MS))
    }
    const arrived = () => this.#theirs.received.length - before
    await waitFor(async () => arrived() > count * 0.9 || undefined, 'most packets to arrive')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    await Promise.all(this.#sockets.map(socket => new Promise<void>(resolve => socket.close(() => resolve()))))
  }
}
