// WireGuard devices on a virtual network under a virtual clock. Endpoints are names; everything on the wire is recorded.

import { type Random, seededRandom } from '#crypto/random.ts'
import { WireGuardDevice } from '#session/wireguard/device.ts'
import type { WireGuardEvent, WireGuardOptions } from '#session/wireguard/device-state.ts'

const ROOM = 32

export interface WireDatagram {
  readonly atMs: number
  readonly from: string
  readonly to: string
  readonly bytes: Uint8Array
}

export interface TunnelPacket {
  readonly atMs: number
  readonly packet: Uint8Array
  /** The peer that it came from, as `PeerHandle.name`. */
  readonly peer: string
}

export class WireGuardNode {
  readonly device: WireGuardDevice<string>
  readonly inbox: TunnelPacket[] = []
  readonly events: WireGuardEvent<string>[] = []
  /** Where it sends from; assign to roam. */
  address: string
  readonly #net: WireGuardNet

  constructor(net: WireGuardNet, address: string, options: Partial<WireGuardOptions<string>>) {
    this.#net = net
    this.address = address
    this.device = new WireGuardDevice<string>({
      privateKey: net.random(32),
      random: net.random,
      unixOffsetMs: 1_700_000_000_000,
      outlet: {
        toEndpoint: (_peer, endpoint, buffer, offset, length) =>
          net.carry(this.address, endpoint, Uint8Array.from(buffer.subarray(offset, offset + length))),
        toTunnel: (peer, buffer, offset, length) =>
          this.inbox.push({
            atMs: net.now,
            packet: Uint8Array.from(buffer.subarray(offset, offset + length)),
            peer: peer.name,
          }),
        event: event => this.events.push(event),
      },
      sameEndpoint: (a, b) => a === b,
      endpointBytes: endpoint => Buffer.from(endpoint),
      ...options,
    })
  }

  /** Sends an IP packet into the tunnel. */
  send(packet: Uint8Array): string | undefined {
    const buffer = Buffer.alloc(ROOM + packet.length + ROOM, 0xee)
    buffer.set(packet, ROOM)
    return this.device.send(buffer, ROOM, packet.length, this.#net.now)
  }

  /** Takes a datagram as if it had come from `from`. */
  receive(bytes: Uint8Array, from: string): string | undefined {
    const buffer = Buffer.alloc(bytes.length + 7)
    buffer.set(bytes, 7)
    return this.device.receive(buffer, 7, bytes.length, from, this.#net.now)
  }

  /** The handshakes that were completed here. */
  get handshakes(): number {
    return this.events.filter(({ kind }) => kind === 'handshakeCompleted').length
  }
}

export class WireGuardNet {
  now = 1_000_000
  readonly random: Random
  readonly wire: WireDatagram[] = []
  /** When a datagram arrives, after how many milliseconds: none is a loss, two are a repetition. */
  delays: (datagram: WireDatagram) => readonly number[] = () => [10]
  /** What else happens: called with every instant at which something was done. */
  readonly nodes: WireGuardNode[] = []
  #queue: { readonly atMs: number; readonly run: () => void }[] = []

  constructor(seed: string) {
    this.random = seededRandom(seed)
  }

  add(address: string, options: Partial<WireGuardOptions<string>> = {}): WireGuardNode {
    const node = new WireGuardNode(this, address, options)
    this.nodes.push(node)
    return node
  }

  /** Two nodes that know each other: `10.0.0.1` and `fd00::1` are the first's, `.2` and `::2` the second's. */
  pair(psk?: Uint8Array, options: Partial<WireGuardOptions<string>> = {}): readonly [WireGuardNode, WireGuardNode] {
    const [a, b] = [this.add('a', options), this.add('b', options)]
    this.introduce(a, b, 2, psk)
    this.introduce(b, a, 1, psk)
    return [a, b]
  }

  /** Tells `node` of `other`, whose addresses inside end in `host`. */
  introduce(node: WireGuardNode, other: WireGuardNode, host: number, psk?: Uint8Array): void {
    const error = node.device.setPeer(
      {
        publicKey: other.device.publicKey,
        endpoint: other.address,
        allowedIps: [
          { address: inside4(host), bits: 32 },
          { address: inside6(host), bits: 128 },
        ],
        ...(psk && { presharedKey: psk }),
      },
      this.now,
    )
    if (error !== undefined) throw new Error(error)
  }

  carry(from: string, to: string, bytes: Uint8Array): void {
    const datagram = { atMs: this.now, from, to, bytes }
    this.wire.push(datagram)
    for (const delay of this.delays(datagram)) {
      this.at(this.now + delay, () => this.nodes.find(({ address }) => address === to)?.receive(bytes, from))
    }
  }

  at(atMs: number, run: () => void): void {
    this.#queue.push({ atMs, run })
  }

  /** Lets `forMs` pass. */
  run(forMs: number): void {
    const end = this.now + forMs
    for (;;) {
      let next = end
      for (const { atMs } of this.#queue) next = Math.min(next, atMs)
      for (const { device } of this.nodes) next = Math.min(next, device.deadline())
      this.now = Math.max(this.now, next)
      const due = this.#queue.filter(({ atMs }) => atMs <= this.now)
      if (due.length > 0) this.#queue = this.#queue.filter(({ atMs }) => atMs > this.now)
      for (const { run } of due) run()
      for (const { device } of this.nodes) device.handleDeadline(this.now)
      if (this.now >= end && due.length === 0) return
    }
  }

  /** The types of what was on the wire since `sinceMs`, with the sender: `a1 b2 a4`. */
  types(sinceMs = 0): string {
    return this.wire
      .filter(({ atMs }) => atMs >= sinceMs)
      .map(({ from, bytes }) => `${from}${bytes[0]}`)
      .join(' ')
  }
}

export function inside4(host: number): Uint8Array {
  return Uint8Array.of(10, 0, host >>> 8, host & 255)
}

export function inside6(host: number): Uint8Array {
  const address = new Uint8Array(16)
  address.set([0xfd, 0])
  address.set([host >>> 8, host & 255], 14)
  return address
}

/** An IP packet between two addresses of one family, `length` bytes with its header, the rest `fill`. */
export function ipPacket(from: Uint8Array, to: Uint8Array, length: number, fill = 0xab): Uint8Array {
  const packet = Buffer.alloc(length, fill)
  if (from.length === 4) {
    packet.set([0x45, 0, length >>> 8, length & 255, 0, 0, 0, 0, 64, 17, 0, 0])
    packet.set(from, 12)
    packet.set(to, 16)
  } else {
    packet.set([0x60, 0, 0, 0, (length - 40) >>> 8, (length - 40) & 255, 17, 64])
    packet.set(from, 8)
    packet.set(to, 24)
  }
  return packet
}
