// Our side of the WireGuard interoperation test: a device over one node:dgram socket, in a namespace where another
// implementation has a TUN interface. It takes orders from the test over the process channel, one at a time.
//
// IP packets are made here by hand, so that our side needs no TUN: echo requests outwards, and what an inside socket of
// the other side sends inwards. The device's clock may be moved ahead of the real one.

import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { systemRandom } from '#crypto/random.ts'
import type { Prefix } from '#session/wireguard/allowed-ips.ts'
import { WireGuardDevice } from '#session/wireguard/device.ts'
import { echoRequest, isEchoReply } from '#wire/icmp-echo.ts'

export interface Endpoint {
  readonly address: string
  readonly port: number
}

/** What the test orders; every order is answered by its result. */
export interface Orders {
  open(options: { readonly privateKey: string; readonly outer: 4 | 6; readonly maxHandshakesPerSecond?: number }): {
    readonly publicKey: string
    readonly port: number
  }
  peer(options: {
    readonly publicKey: string
    readonly presharedKey?: string
    readonly endpoint?: Endpoint
    readonly prefixes: readonly { readonly address: readonly number[]; readonly bits: number }[]
  }): void
  /** Sends echo requests of `size` bytes, and counts the replies that come within the time. */
  ping(options: {
    readonly from: readonly number[]
    readonly to: readonly number[]
    readonly count: number
    readonly size: number
    readonly timeoutMs: number
  }): Promise<number>
  /** Sends one UDP datagram into the other side's tunnel; whether it comes out of ours within the time. */
  receive(options: { readonly to: string; readonly timeoutMs: number }): Promise<boolean>
  advance(options: { readonly ms: number }): void
  rebind(): Promise<number>
  initiate(): void
  /** Sends our last initiation again and again for a while, as fast as the socket goes; how often. */
  flood(options: { readonly forMs: number }): Promise<number>
  status(): Status
}

export interface Status {
  /** `>` or `<`, the type of the message, and `+` when its mac2 is filled in; consecutive equal ones once. */
  readonly wire: readonly string[]
  readonly handshakes: readonly string[]
  readonly drops: Readonly<Record<string, number>>
  readonly endpoint: Endpoint | undefined
  readonly latestHandshakeUnixMs: number | undefined
  readonly rxBytes: number
  readonly txBytes: number
}

const HEADROOM = 16
const wire: string[] = []
const handshakes: string[] = []
let socket: Socket
let device: WireGuardDevice<Endpoint>
let peerKey: Uint8Array
let aheadMs = 0
let timer: NodeJS.Timeout | undefined
let lastInitiation: { readonly bytes: Uint8Array; readonly to: Endpoint } | undefined
let inbound: (packet: Uint8Array) => void = () => undefined

const now = () => performance.now() + aheadMs
const base64 = (text: string) => Uint8Array.from(Buffer.from(text, 'base64'))

function record(direction: '<' | '>', bytes: Uint8Array): void {
  const type = bytes[0] ?? 0
  const hasMac2 = type < 3 && bytes.subarray(-16).some(byte => byte !== 0)
  const line = `${direction}${type}${hasMac2 ? '+' : ''}`
  if (wire.at(-1) !== line) wire.push(line)
}

async function bind(outer: 4 | 6): Promise<void> {
  socket = createSocket(outer === 4 ? 'udp4' : 'udp6')
  socket.on('message', (bytes, from) => {
    record('<', bytes)
    device.receive(bytes, 0, bytes.length, { address: from.address, port: from.port }, now())
    arm()
  })
  socket.bind(0, outer === 4 ? '127.0.0.1' : '::1')
  await once(socket, 'listening')
}

function arm(): void {
  clearTimeout(timer)
  const due = device.deadline()
  if (due === Number.POSITIVE_INFINITY) return
  timer = setTimeout(
    () => {
      device.handleDeadline(now())
      arm()
    },
    Math.max(0, due - now()),
  )
}

function send(packet: Uint8Array): void {
  const buffer = Buffer.alloc(HEADROOM + packet.length + 32)
  buffer.set(packet, HEADROOM)
  device.send(buffer, HEADROOM, packet.length, now())
  arm()
}

const orders: { [Name in keyof Orders]: (options: never) => unknown } = {
  async open(options: Parameters<Orders['open']>[0]) {
    await bind(options.outer)
    device = new WireGuardDevice<Endpoint>({
      privateKey: base64(options.privateKey),
      random: systemRandom,
      unixOffsetMs: Date.now() - now(),
      maxHandshakesPerSecond: options.maxHandshakesPerSecond ?? 1_000,
      sameEndpoint: (a, b) => a.address === b.address && a.port === b.port,
      endpointBytes: ({ address, port }) => Buffer.from(`${address} ${port}`),
      outlet: {
        toEndpoint(_peer, to, buffer, offset, length) {
          const bytes = Uint8Array.from(buffer.subarray(offset, offset + length))
          record('>', bytes)
          if (bytes[0] === 1) lastInitiation = { bytes, to }
          socket.send(bytes, to.port, to.address)
        },
        toTunnel: (_peer, buffer, offset, length) => inbound(buffer.subarray(offset, offset + length)),
        event: event => {
          if (event.kind === 'handshakeCompleted') handshakes.push(event.role)
        },
      },
    })
    return { publicKey: Buffer.from(device.publicKey).toString('base64'), port: socket.address().port }
  },
  peer({ publicKey, presharedKey, endpoint, prefixes }: Parameters<Orders['peer']>[0]) {
    peerKey = base64(publicKey)
    const allowedIps: Prefix[] = prefixes.map(({ address, bits }) => ({ address: Uint8Array.from(address), bits }))
    const error = device.setPeer(
      {
        publicKey: peerKey,
        allowedIps,
        replaceAllowedIps: true,
        ...(endpoint && { endpoint }),
        ...(presharedKey !== undefined && { presharedKey: base64(presharedKey) }),
      },
      now(),
    )
    if (error !== undefined) throw new Error(error)
  },
  ping({ from, to, count, size, timeoutMs }: Parameters<Orders['ping']>[0]) {
    return new Promise<number>(resolve => {
      let replies = 0
      const finish = () => {
        clearTimeout(limit)
        resolve(replies)
      }
      const limit = setTimeout(finish, timeoutMs)
      inbound = packet => {
        if (isEchoReply(packet, size) && ++replies === count) finish()
      }
      for (let i = 0; i < count; i++) send(echoRequest(Uint8Array.from(from), Uint8Array.from(to), i, size))
    })
  },
  async receive({ to, timeoutMs }: Parameters<Orders['receive']>[0]) {
    const marker = Buffer.from(systemRandom(24))
    const inside = createSocket(to.includes(':') ? 'udp6' : 'udp4')
    const arrived = await new Promise<boolean>(resolve => {
      const limit = setTimeout(() => resolve(false), timeoutMs)
      inbound = packet => {
        if (!Buffer.from(packet).includes(marker)) return
        clearTimeout(limit)
        resolve(true)
      }
      inside.send(marker, 9, to)
    })
    inside.close()
    return arrived
  },
  advance({ ms }: { readonly ms: number }) {
    aheadMs += ms
    device.handleDeadline(now())
    arm()
  },
  async rebind() {
    const outer = socket.address().family === 'IPv6' ? 6 : 4
    socket.close()
    await bind(outer)
    return socket.address().port
  },
  initiate() {
    device.initiate(peerKey, now())
    arm()
  },
  async flood({ forMs }: { readonly forMs: number }) {
    if (lastInitiation === undefined) throw new Error('flood: no initiation was sent')
    const { bytes, to } = lastInitiation
    const end = performance.now() + forMs
    let sent = 0
    while (performance.now() < end) {
      for (let i = 0; i < 256; i++) socket.send(bytes, to.port, to.address)
      sent += 256
      await new Promise(resolve => setImmediate(resolve))
    }
    return sent
  },
  status(): Status {
    const [peer] = device.peers(now())
    return {
      wire: wire.splice(0),
      handshakes: handshakes.splice(0),
      drops: Object.fromEntries(Object.entries(device.drops).filter(([, count]) => count > 0)),
      endpoint: peer?.endpoint,
      latestHandshakeUnixMs: peer?.latestHandshakeUnixMs,
      rxBytes: peer?.rxBytes ?? 0,
      txBytes: peer?.txBytes ?? 0,
    }
  },
}

process.on('message', async ({ name, options }: { name: keyof Orders; options: never }) => {
  try {
    process.send?.({ result: await orders[name](options) })
  } catch (error) {
    process.send?.({ error: String(error) })
  }
})
process.on('disconnect', () => process.exit(0))
