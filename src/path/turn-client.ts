// A port on a TURN server (RFC 8656), from one socket of ours: allocation, permissions, channels. A pure machine.
//
//   idle ──begin──► allocating ──success──► allocated ──(refreshed before it ends)──►│
//                     │   ▲                     │
//                     │   └──(retry, later)     └──(server forgot us, or silence)──► allocating
//                     └──(refused, or silence)──► failed
//
// Credentials are long-term (RFC 8489 §9.2): the first request goes without, the refusal brings realm and nonce. A nonce that
// went stale is renewed in place. A server that offers SHA-256 for the password gets it.
// Bounds: 64 permissions, 32 channels, 8 datagrams that wait for a permission; what is oldest goes first.

import { longTermKey } from '#crypto/hmac.ts'
import type { Random } from '#crypto/random.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import {
  type DecodedStun,
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
  isChannelData,
  MAX_CHANNEL,
  MIN_CHANNEL,
  readErrorCode,
  readXorAddress,
  writeChannelHeader,
  xorAddressValue,
} from '#wire/stun-value.ts'
import { familyOf } from './base.ts'
import { Retransmission } from './retransmission.ts'
import { isAuthentic, type StunKey, sealStun } from './stun-auth.ts'

export interface TurnServer {
  readonly address: Address
  readonly username: string
  readonly password: string
}

export interface TurnClientOptions {
  readonly server: TurnServer
  readonly random: Random
  /** Sends a datagram to the server. */
  readonly send: (bytes: Uint8Array) => void
}

export type TurnState = 'idle' | 'allocating' | 'allocated' | 'failed' | 'closed'

/** A datagram that a peer sent to our port on the server. */
export interface TurnDatagram {
  readonly from: Address
  readonly bytes: Uint8Array
}

const UDP = 17
const MAX_PERMISSIONS = 64
const MAX_CHANNELS = 32
const MAX_WAITING = 8
const MAX_OUTSTANDING = 64
/** A permission lasts five minutes, a channel ten (RFC 8656 §9, §12). */
const PERMISSION_REFRESH_MS = 240_000
const CHANNEL_REFRESH_MS = 480_000
const MIN_RETRY_MS = 2_000
const MAX_RETRY_MS = 60_000
const MAX_CHALLENGES = 3
/** "obMatJos2", then feature bits in base64: the server has more to offer than MD5 (RFC 8489 §9.2). */
const NONCE_COOKIE = /^obMatJos2([A-Za-z0-9+/]{4})/
const SHA256_ALGORITHM = 2

interface Question {
  readonly method: number
  readonly about: string
  readonly attributes?: readonly StunAttribute[]
  /** Stands in XOR-PEER-ADDRESS, which depends on the transaction and so on the try. */
  readonly peer?: Address
}

interface Request {
  readonly question: Question
  readonly challenges: number
  readonly bytes: Uint8Array
  readonly key: StunKey | undefined
  readonly timer: Retransmission
}

interface Permission {
  isGranted: boolean
  refreshMs: number
  readonly waiting: { readonly to: Address; readonly bytes: Uint8Array }[]
}

interface Channel {
  readonly number: number
  readonly peer: Address
  isBound: boolean
  refreshMs: number
}

export class TurnClient {
  readonly #options: TurnClientOptions
  #state: TurnState = 'idle'
  #relayed: Address | undefined
  #mapped: Address | undefined
  #realm = ''
  #nonce = new Uint8Array(0)
  #algorithms: Uint8Array | undefined
  #key: StunKey | undefined
  #refreshMs = Number.POSITIVE_INFINITY
  #retryMs = Number.POSITIVE_INFINITY
  #retryDelayMs = MIN_RETRY_MS
  readonly #requests = new Map<string, Request>()
  readonly #permissions = new Map<string, Permission>()
  readonly #channels = new Map<string, Channel>()
  #nextChannel = MIN_CHANNEL

  constructor(options: TurnClientOptions) {
    this.#options = options
  }

  get state(): TurnState {
    return this.#state
  }

  get server(): Address {
    return this.#options.server.address
  }

  /** Our port on the server, once there is one. */
  get relayed(): Address | undefined {
    return this.#relayed
  }

  /** Our address as the server sees it. */
  get mapped(): Address | undefined {
    return this.#mapped
  }

  begin(now: number): void {
    this.#state = 'allocating'
    this.#forget()
    this.#ask({ method: STUN_METHOD.allocate, about: 'allocate', attributes: this.#allocation() }, now)
  }

  /** Asks whether the server still knows us: after a silence, or when our address may have changed. */
  verify(now: number): void {
    if (this.#state === 'failed') this.begin(now)
    else if (this.#state === 'allocated') this.#ask({ method: STUN_METHOD.refresh, about: 'refresh' }, now)
  }

  /** Gives the port back. */
  close(now: number): void {
    if (this.#state === 'allocated') {
      const attributes = [{ type: STUN_ATTRIBUTE.lifetime, value: u32Value(0) }]
      this.#ask({ method: STUN_METHOD.refresh, about: 'close', attributes }, now)
    }
    this.#state = 'closed'
    this.#forget()
  }

  /** Sends a datagram to a peer through the server; it waits until the server permits that peer. */
  sendTo(to: Address, bytes: Uint8Array, now: number): void {
    if (this.#state !== 'allocated') return
    const channel = this.#channels.get(formatAddress(to))
    if (channel?.isBound) {
      const framed = new Uint8Array(CHANNEL_HEADER_BYTES + bytes.length)
      writeChannelHeader(framed, 0, channel.number, bytes.length)
      framed.set(bytes, CHANNEL_HEADER_BYTES)
      return this.#options.send(framed)
    }
    const permission = this.#permit(to.host, now)
    if (permission.isGranted) return this.#indicate(to, bytes)
    if (permission.waiting.length === MAX_WAITING) permission.waiting.shift()
    permission.waiting.push({ to, bytes })
  }

  /** The channel to that peer, once the server has bound it; asks for one otherwise (4 bytes of overhead instead of 36). */
  channelTo(peer: Address, now: number): number | undefined {
    if (this.#state !== 'allocated') return undefined
    const name = formatAddress(peer)
    const known = this.#channels.get(name)
    if (known !== undefined) return known.isBound ? known.number : undefined
    if (this.#channels.size === MAX_CHANNELS || this.#nextChannel > MAX_CHANNEL) return undefined
    const channel: Channel = { number: this.#nextChannel++, peer, isBound: false, refreshMs: now }
    this.#channels.set(name, channel)
    this.#bind(channel, now)
    return undefined
  }

  /** Takes a datagram of the server; gives what a peer sent, if that is what it carries. */
  handlePacket(bytes: Uint8Array, message: DecodedStun | undefined, now: number): TurnDatagram | undefined {
    if (message === undefined) {
      if (!isChannelData(bytes, 0, bytes.length)) return undefined
      const number = channelOf(bytes, 0)
      for (const channel of this.#channels.values()) {
        if (channel.number === number) return { from: channel.peer, bytes: channelPayload(bytes) }
      }
      return undefined
    }
    if (message.class === 'indication' && message.method === STUN_METHOD.data) {
      const from = readXorAddress(stunAttribute(message, STUN_ATTRIBUTE.xorPeerAddress), message.transaction)
      const data = stunAttribute(message, STUN_ATTRIBUTE.data)
      return from && data && this.#permissions.has(from.host) ? { from, bytes: data } : undefined
    }
    const name = nameOf(message.transaction)
    const request = this.#requests.get(name)
    if (request === undefined || request.question.method !== message.method) return undefined
    if (message.class === 'success') {
      if (request.key === undefined || !isAuthentic(bytes, message, request.key.key)) return undefined
      this.#requests.delete(name)
      this.#succeed(request, message, now)
    } else if (message.class === 'error') {
      this.#requests.delete(name)
      this.#refused(request, message, now)
    }
    return undefined
  }

  deadline(): number {
    let due = Math.min(this.#refreshMs, this.#retryMs)
    for (const { timer } of this.#requests.values()) due = Math.min(due, timer.dueMs)
    for (const { refreshMs } of this.#permissions.values()) due = Math.min(due, refreshMs)
    for (const { refreshMs } of this.#channels.values()) due = Math.min(due, refreshMs)
    return due
  }

  handleDeadline(now: number): void {
    if (this.#retryMs <= now) return this.begin(now)
    for (const [name, request] of this.#requests) {
      const what = request.timer.next(now)
      if (what === 'send') this.#options.send(request.bytes)
      if (what !== 'failed') continue
      this.#requests.delete(name)
      const { about } = request.question
      if (about === 'allocate' || about === 'refresh') return this.#fail(now)
    }
    if (this.#refreshMs <= now) {
      this.#refreshMs = Number.POSITIVE_INFINITY
      this.#ask({ method: STUN_METHOD.refresh, about: 'refresh' }, now)
    }
    for (const [host, permission] of this.#permissions) {
      if (permission.refreshMs <= now) this.#askPermission(host, permission, now)
    }
    for (const channel of this.#channels.values()) if (channel.refreshMs <= now) this.#bind(channel, now)
  }

  #allocation(): StunAttribute[] {
    const family = familyOf(this.server.host)
    return [
      { type: STUN_ATTRIBUTE.requestedTransport, value: Uint8Array.of(UDP, 0, 0, 0) },
      // RFC 8656 §7.1: IPv4 is what a server gives unless asked.
      ...(family === 6 ? [{ type: STUN_ATTRIBUTE.requestedAddressFamily, value: Uint8Array.of(2, 0, 0, 0) }] : []),
    ]
  }

  #ask(question: Question, now: number, challenges = 0): void {
    const { method, peer, attributes: others = [] } = question
    const transaction = this.#options.random(12)
    const key = this.#key
    const attributes = [...others]
    if (peer) attributes.push({ type: STUN_ATTRIBUTE.xorPeerAddress, value: xorAddressValue(peer, transaction) })
    if (key !== undefined) attributes.push(...this.#credentials())
    const bytes = sealStun({ class: 'request', method, transaction, attributes }, key)
    this.#options.send(bytes)
    if (question.about === 'close') return
    this.#requests.set(nameOf(transaction), { question, challenges, bytes, key, timer: new Retransmission(now) })
    if (this.#requests.size > MAX_OUTSTANDING) {
      for (const oldest of this.#requests.keys()) {
        this.#requests.delete(oldest)
        break
      }
    }
  }

  #credentials(): StunAttribute[] {
    const { username } = this.#options.server
    const list: StunAttribute[] = [
      { type: STUN_ATTRIBUTE.username, value: Buffer.from(username) },
      { type: STUN_ATTRIBUTE.realm, value: Buffer.from(this.#realm) },
      { type: STUN_ATTRIBUTE.nonce, value: this.#nonce },
    ]
    if (this.#algorithms === undefined) return list
    const chosen = Uint8Array.of(0, this.#key?.kind === 'sha256' ? SHA256_ALGORITHM : 1, 0, 0)
    list.push({ type: STUN_ATTRIBUTE.passwordAlgorithms, value: Buffer.from(this.#algorithms) })
    list.push({ type: STUN_ATTRIBUTE.passwordAlgorithm, value: chosen })
    return list
  }

  #succeed({ question: { about } }: Request, message: DecodedStun, now: number): void {
    if (about === 'allocate') {
      const { transaction } = message
      this.#relayed = readXorAddress(stunAttribute(message, STUN_ATTRIBUTE.xorRelayedAddress), transaction)
      this.#mapped = readXorAddress(stunAttribute(message, STUN_ATTRIBUTE.xorMappedAddress), transaction)
      if (this.#relayed === undefined) return this.#fail(now)
      this.#state = 'allocated'
      this.#retryDelayMs = MIN_RETRY_MS
    }
    if (about === 'allocate' || about === 'refresh') {
      const lifetimeMs = (readU32Value(stunAttribute(message, STUN_ATTRIBUTE.lifetime)) ?? 600) * 1_000
      this.#refreshMs = now + Math.max(lifetimeMs - 60_000, lifetimeMs / 2)
      return
    }
    const [what, name = ''] = about.split(' ')
    if (what === 'permit') {
      const permission = this.#permissions.get(name)
      if (permission === undefined) return
      permission.isGranted = true
      permission.refreshMs = now + PERMISSION_REFRESH_MS
      for (const { to, bytes } of permission.waiting.splice(0)) this.#indicate(to, bytes)
    } else if (what === 'bind') {
      const channel = this.#channels.get(name)
      if (channel === undefined) return
      channel.isBound = true
      channel.refreshMs = now + CHANNEL_REFRESH_MS
    }
  }

  #refused({ question, challenges }: Request, message: DecodedStun, now: number): void {
    const { about } = question
    const code = readErrorCode(stunAttribute(message, STUN_ATTRIBUTE.errorCode))
    if ((code === 401 || code === 438) && challenges < MAX_CHALLENGES && this.#learn(message, code)) {
      return this.#ask(question, now, challenges + 1)
    }
    if (about === 'allocate') return this.#fail(now)
    // RFC 8656 §6: the server has no allocation for the address that we come from now.
    if (about === 'refresh' || code === 437) return this.begin(now)
    const [what, name = ''] = about.split(' ')
    if (what === 'permit') this.#permissions.delete(name)
    if (what === 'bind') this.#channels.delete(name)
  }

  /** Takes realm and nonce from a refusal; false when it has none, or repeats a 401 about the same nonce. */
  #learn(message: DecodedStun, code: number): boolean {
    const realm = stunAttribute(message, STUN_ATTRIBUTE.realm)
    const nonce = stunAttribute(message, STUN_ATTRIBUTE.nonce)
    if (nonce === undefined || nonce.length > 763) return false
    if (code === 401 && this.#key !== undefined && Buffer.compare(nonce, this.#nonce) === 0) return false
    this.#nonce = new Uint8Array(nonce)
    if (realm !== undefined) this.#realm = Buffer.from(realm.subarray(0, 763)).toString()
    const bits = NONCE_COOKIE.exec(Buffer.from(nonce).toString('latin1'))?.[1]
    const hasAlgorithms = bits !== undefined && ((Buffer.from(bits, 'base64')[0] ?? 0) & 0x80) !== 0
    const offered = stunAttribute(message, STUN_ATTRIBUTE.passwordAlgorithms)
    this.#algorithms = hasAlgorithms && offered !== undefined ? new Uint8Array(offered) : undefined
    const kind = this.#algorithms !== undefined && offersSha256(this.#algorithms) ? 'sha256' : 'sha1'
    const { username, password } = this.#options.server
    const digest = kind === 'sha256' ? 'sha256' : 'md5'
    this.#key = { kind, key: longTermKey(digest, opaque(username), opaque(this.#realm), opaque(password)) }
    return true
  }

  #fail(now: number): void {
    this.#state = 'failed'
    this.#forget()
    this.#retryMs = now + this.#retryDelayMs
    this.#retryDelayMs = Math.min(this.#retryDelayMs * 2, MAX_RETRY_MS)
  }

  #forget(): void {
    this.#relayed = undefined
    this.#requests.clear()
    this.#permissions.clear()
    this.#channels.clear()
    this.#refreshMs = Number.POSITIVE_INFINITY
    this.#retryMs = Number.POSITIVE_INFINITY
  }

  #permit(host: string, now: number): Permission {
    const known = this.#permissions.get(host)
    if (known !== undefined) return known
    const permission: Permission = { isGranted: false, refreshMs: Number.POSITIVE_INFINITY, waiting: [] }
    if (this.#permissions.size === MAX_PERMISSIONS) {
      for (const oldest of this.#permissions.keys()) {
        this.#permissions.delete(oldest)
        break
      }
    }
    this.#permissions.set(host, permission)
    this.#askPermission(host, permission, now)
    return permission
  }

  #askPermission(host: string, permission: Permission, now: number): void {
    permission.refreshMs = Number.POSITIVE_INFINITY
    this.#ask({ method: STUN_METHOD.createPermission, about: `permit ${host}`, peer: { host, port: 9 } }, now)
  }

  #bind(channel: Channel, now: number): void {
    channel.refreshMs = Number.POSITIVE_INFINITY
    const number = Uint8Array.of(channel.number >>> 8, channel.number & 0xff, 0, 0)
    const attributes = [{ type: STUN_ATTRIBUTE.channelNumber, value: number }]
    const about = `bind ${formatAddress(channel.peer)}`
    this.#ask({ method: STUN_METHOD.channelBind, about, attributes, peer: channel.peer }, now)
  }

  #indicate(to: Address, bytes: Uint8Array): void {
    const transaction = this.#options.random(12)
    const attributes = [
      { type: STUN_ATTRIBUTE.xorPeerAddress, value: xorAddressValue(to, transaction) },
      { type: STUN_ATTRIBUTE.data, value: bytes },
    ]
    this.#options.send(sealStun({ class: 'indication', method: STUN_METHOD.send, transaction, attributes }))
  }
}

/** OpaqueString (RFC 8265 §4.2) of the characters that names and passwords have. */
function opaque(text: string): string {
  return text.replace(/\p{Zs}/gu, ' ').normalize('NFC')
}

function offersSha256(algorithms: Uint8Array): boolean {
  for (let at = 0; at + 4 <= algorithms.length; ) {
    const parameters = ((algorithms[at + 2] ?? 0) << 8) | (algorithms[at + 3] ?? 0)
    if (algorithms[at] === 0 && algorithms[at + 1] === SHA256_ALGORITHM) return true
    at += 4 + ((parameters + 3) & ~3)
  }
  return false
}

function nameOf(transaction: Uint8Array): string {
  return Buffer.from(transaction).toString('hex')
}
