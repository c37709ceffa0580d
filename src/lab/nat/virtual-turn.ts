// A TURN server of the virtual internet, as strict as RFC 8656 lets it be: credentials on every request, nonces that go stale,
// allocations by the client's address and port, nothing from peers without permission.

import { copyBytes } from '#bytes/copy.ts'
import { longTermKey } from '#crypto/hmac.ts'
import { isAuthentic, sealStun } from '#path/stun-auth.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import {
  type DecodedStun,
  decodeStun,
  readU32Value,
  STUN_ATTRIBUTE,
  STUN_METHOD,
  type StunAttribute,
  stunAttribute,
  u32Value,
} from '#wire/stun.ts'
import {
  CHANNEL_HEADER_BYTES,
  channelOf,
  channelPayload,
  errorValue,
  isChannelData,
  readXorAddress,
  writeChannelHeader,
  xorAddressValue,
} from '#wire/stun-value.ts'
import type { VirtualInternet } from './virtual-nat.ts'

interface Allocation {
  readonly client: Address
  readonly port: number
  readonly permitted: Map<string, number>
  readonly channels: Map<number, Address>
  untilMs: number
}

const PORT = 3_478
const REALM = 'lab'
const LIFETIME_MS = 600_000
const PERMISSION_MS = 300_000

export interface VirtualTurnOptions {
  readonly username: string
  readonly password: string
  /** Nonces are good for this long. */
  readonly nonceMs?: number
  /** Offers SHA-256 for the password, as RFC 8489 has it. */
  readonly hasSha256?: boolean
}

export class VirtualTurn {
  readonly address: Address
  /** Every request that was understood: its method, and the code of the refusal or 0. */
  readonly log: { readonly method: number; readonly code: number }[] = []
  readonly #net: VirtualInternet
  readonly #options: VirtualTurnOptions
  readonly #byClient = new Map<string, Allocation>()
  readonly #byPort = new Map<number, Allocation>()
  #nextPort = 49_152

  constructor(net: VirtualInternet, host: string, options: VirtualTurnOptions) {
    this.#net = net
    this.#options = options
    this.address = { host, port: PORT }
    net.root.hosts.set(host, (from, to, bytes) => {
      if (to.port === PORT) this.#fromClient(from, bytes)
      else this.#fromPeer(to.port, from, bytes)
    })
  }

  /** Forgets every allocation. */
  restart(): void {
    this.#byClient.clear()
    this.#byPort.clear()
  }

  #fromClient(from: Address, bytes: Uint8Array): void {
    const allocation = this.#allocationOf(from)
    if (isChannelData(bytes, 0, bytes.length)) {
      const peer = allocation?.channels.get(channelOf(bytes, 0))
      if (peer !== undefined) this.#toPeer(allocation, peer, channelPayload(bytes))
      return
    }
    const message = decodeStun(bytes)
    if (message === undefined) return
    if (message.class === 'indication') {
      const peer = peerOf(message)
      const data = stunAttribute(message, STUN_ATTRIBUTE.data)
      if (peer && data && this.#isPermitted(allocation, peer)) this.#toPeer(allocation, peer, data)
    } else if (message.class === 'request') {
      this.#answer(from, bytes, message, allocation)
    }
  }

  #answer(from: Address, bytes: Uint8Array, message: DecodedStun, allocation: Allocation | undefined): void {
    const { username, password, hasSha256 = false } = this.#options
    const kind = hasSha256 ? 'sha256' : 'sha1'
    const key = longTermKey(hasSha256 ? 'sha256' : 'md5', username, REALM, password)
    const transaction = copyBytes(message.transaction)
    const reply = (code: number, attributes: StunAttribute[]) => {
      this.log.push({ method: message.method, code })
      const kindOfReply = code === 0 ? ('success' as const) : ('error' as const)
      const answer = { class: kindOfReply, method: message.method, transaction, attributes }
      this.#net.send(this.#net.root, this.address, from, sealStun(answer, code === 0 ? { kind, key } : undefined))
    }
    const refuse = (code: number) => {
      const attributes: StunAttribute[] = [
        { type: STUN_ATTRIBUTE.errorCode, value: errorValue(code, '') },
        { type: STUN_ATTRIBUTE.realm, value: Buffer.from(REALM) },
        { type: STUN_ATTRIBUTE.nonce, value: Buffer.from(this.#nonce()) },
      ]
      if (hasSha256)
        attributes.push({ type: STUN_ATTRIBUTE.passwordAlgorithms, value: Buffer.from([0, 2, 0, 0, 0, 1, 0, 0]) })
      reply(code, attributes)
    }
    if (!isAuthentic(bytes, message, key)) return refuse(401)
    if (Buffer.from(stunAttribute(message, STUN_ATTRIBUTE.nonce) ?? []).toString() !== this.#nonce()) return refuse(438)
    if (message.method === STUN_METHOD.allocate) {
      if (allocation !== undefined) return refuse(437)
      const made = this.#allocate(from)
      return reply(0, [
        { type: STUN_ATTRIBUTE.xorRelayedAddress, value: xorAddressValue(this.#relayed(made), transaction) },
        { type: STUN_ATTRIBUTE.xorMappedAddress, value: xorAddressValue(from, transaction) },
        { type: STUN_ATTRIBUTE.lifetime, value: u32Value(LIFETIME_MS / 1_000) },
      ])
    }
    if (allocation === undefined) return refuse(437)
    const peer = peerOf(message)
    if (message.method === STUN_METHOD.refresh) {
      const seconds = readU32Value(stunAttribute(message, STUN_ATTRIBUTE.lifetime)) ?? LIFETIME_MS / 1_000
      allocation.untilMs = this.#net.now + seconds * 1_000
      return reply(0, [{ type: STUN_ATTRIBUTE.lifetime, value: u32Value(seconds) }])
    }
    if (peer === undefined) return refuse(400)
    allocation.permitted.set(peer.host, this.#net.now + PERMISSION_MS)
    if (message.method === STUN_METHOD.channelBind) {
      const [high = 0, low = 0] = stunAttribute(message, STUN_ATTRIBUTE.channelNumber) ?? []
      allocation.channels.set((high << 8) | low, peer)
    }
    reply(0, [])
  }

  #allocate(client: Address): Allocation {
    const port = this.#nextPort++
    const untilMs = this.#net.now + LIFETIME_MS
    const allocation = { client, port, permitted: new Map<string, number>(), channels: new Map(), untilMs }
    this.#byClient.set(formatAddress(client), allocation)
    this.#byPort.set(port, allocation)
    return allocation
  }

  #allocationOf(client: Address): Allocation | undefined {
    const allocation = this.#byClient.get(formatAddress(client))
    return allocation !== undefined && allocation.untilMs > this.#net.now ? allocation : undefined
  }

  #isPermitted(allocation: Allocation | undefined, peer: Address): boolean {
    return (allocation?.permitted.get(peer.host) ?? 0) > this.#net.now
  }

  #toPeer(allocation: Allocation | undefined, peer: Address, bytes: Uint8Array): void {
    if (allocation !== undefined) this.#net.send(this.#net.root, this.#relayed(allocation), peer, copyBytes(bytes))
  }

  #fromPeer(port: number, peer: Address, bytes: Uint8Array): void {
    const allocation = this.#byPort.get(port)
    if (allocation === undefined || allocation.untilMs <= this.#net.now || !this.#isPermitted(allocation, peer)) return
    for (const [channel, bound] of allocation.channels) {
      if (formatAddress(bound) !== formatAddress(peer)) continue
      const framed = new Uint8Array(CHANNEL_HEADER_BYTES + bytes.length)
      writeChannelHeader(framed, 0, channel, bytes.length)
      framed.set(bytes, CHANNEL_HEADER_BYTES)
      return this.#net.send(this.#net.root, this.address, allocation.client, framed)
    }
    const transaction = this.#net.random(12)
    const attributes = [
      { type: STUN_ATTRIBUTE.xorPeerAddress, value: xorAddressValue(peer, transaction) },
      { type: STUN_ATTRIBUTE.data, value: bytes },
    ]
    const message = { class: 'indication', method: STUN_METHOD.data, transaction, attributes } as const
    this.#net.send(this.#net.root, this.address, allocation.client, sealStun(message))
  }

  #relayed({ port }: Allocation): Address {
    return { host: this.address.host, port }
  }

  #nonce(): string {
    const age = Math.floor(this.#net.now / (this.#options.nonceMs ?? 3_600_000))
    // The cookie and its first feature bit: password algorithms (RFC 8489 §9.2, §18.1).
    return this.#options.hasSha256 ? `obMatJos2gAAA${age}` : `nonce ${age}`
  }
}

function peerOf(message: DecodedStun): Address | undefined {
  return readXorAddress(stunAttribute(message, STUN_ATTRIBUTE.xorPeerAddress), message.transaction)
}
