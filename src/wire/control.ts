// Control messages: requests of a client to one hop, and that hop's answers, inside their session.
//
// They travel in frames of kind `control` (frame.ts), sealed like every packet. UDP may lose, repeat and reorder them:
// the asker repeats a request under the same number until it is answered, and the answerer keeps its last answers and
// repeats them, so that a request is carried out once.
//
//   offset size  field
//   0      1     kind (below); answers have the top bit set
//   1      2     request number, little-endian, chosen by the asker
//   3      …     body
//
//   kind 1  open         flow u24, purpose u8 (1 hop, 2 datagram, 3 WireGuard), target, first datagram (rest, may be empty)
//   kind 2  close        flow u24
//   kind 3  ping         empty
//   kind 4  report       empty; the answer: packets and bytes carried in the session, u64 each, both directions together
//   kind 5  openStream   stream u32 (the asker's stream id), target
//   kind 6  openTunnel   flow u24: the flow that IP packets go in, at an exit with a tunnel; mtu u16 (from 576): the longest
//                        packet that the way carries, which the same request again may change
//   kind 8  pay          token (354 bytes, token.ts), inward bytes of the session that the payer has accepted so far u64
//   kind 9  meet         flow u24, token (32 bytes): the flow is joined to that of whoever else shows the token
//   kind 10 other        flow u24: where the client is whose flow a meeting has joined to this one
//   kind 7  notice       flow u24, reason u8: the hop tells the client, unasked and unanswered, that a flow ended
//
//   target: kind u8 = 4 (IPv4, 4 bytes), 6 (IPv6, 16 bytes) or 3 (name: length u8, 1 to 253 bytes of LDH ASCII), port u16
//
//   answers: 0x80|kind, request number, status u8 (0 = done, else a reason), body
//     openStream done: stream u32 (the answerer's stream id)
//     openTunnel done: families u8 (1 IPv4, 2 IPv6, at least one), mtu u16 (from 1280), DNS servers: count u8, 1 to 4, then
//       kind u8 = 4 or 6 and the address each
//     open and meet done: empty
//     other done: kind u8 = 4 or 6 and the address that the relay sees of it
//     pay done: outward bytes of the session that the hop has carried so far u64
//
// Length policy: exact, except the first datagram, which is the rest of the message. Decoders return `undefined` for
// anything else. Source: our own; the verbs are those of RFC 9298 (CONNECT-UDP) and RFC 1928 (the reasons).

import { copyBytes } from '#bytes/copy.ts'
import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { formatIPv6, parseIp } from './address.ts'
import { TOKEN_BYTES } from './token.ts'

export const CONTROL_KIND = {
  open: 1,
  close: 2,
  ping: 3,
  report: 4,
  openStream: 5,
  openTunnel: 6,
  notice: 7,
  pay: 8,
  meet: 9,
  other: 10,
} as const

export const MEETING_TOKEN_BYTES = 32

/** Why a request was refused. The numbers below 9 are those of SOCKS5 replies (RFC 1928 §6). */
export const REFUSAL = {
  generalFailure: 1,
  notAllowed: 2,
  networkUnreachable: 3,
  hostUnreachable: 4,
  connectionRefused: 5,
  timedOut: 6,
  unknownRequest: 7,
  nameNotFound: 16,
  tooMany: 17,
  paymentRefused: 18,
} as const
export type Refusal = (typeof REFUSAL)[keyof typeof REFUSAL]

/** What a flow is opened for: another hop, datagrams of an application, or a WireGuard server. Hops and servers prove it. */
export const FLOW_PURPOSE = { hop: 1, datagram: 2, wireguard: 3 } as const
export type FlowPurpose = (typeof FLOW_PURPOSE)[keyof typeof FLOW_PURPOSE]

/** Where a flow or stream goes: an IP address in text form or a host name in lower case, and a port. */
export interface Target {
  readonly host: string
  readonly port: number
}

export type ControlRequest =
  | {
      readonly kind: 'open'
      readonly flow: number
      readonly purpose: FlowPurpose
      readonly target: Target
      readonly first: Uint8Array
    }
  | { readonly kind: 'close'; readonly flow: number }
  | { readonly kind: 'ping' }
  | { readonly kind: 'report' }
  | { readonly kind: 'openStream'; readonly stream: number; readonly target: Target }
  /** `mtu`: the longest packet in bytes that the way carries, 576 to 65,535. */
  | { readonly kind: 'openTunnel'; readonly flow: number; readonly mtu: number }
  | { readonly kind: 'pay'; readonly token: Uint8Array; readonly acceptedBytes: number }
  | { readonly kind: 'meet'; readonly flow: number; readonly token: Uint8Array }
  | { readonly kind: 'other'; readonly flow: number }

/** What an exit's tunnel carries. */
export interface TunnelOffer {
  readonly hasIpv4: boolean
  readonly hasIpv6: boolean
  /** The longest IP packet in bytes, 1,280 to 65,535. */
  readonly mtu: number
  /** 1 to 4 addresses of DNS servers that are reached through the tunnel, first choice first. */
  readonly dns: readonly string[]
}

export type ControlAnswer =
  | { readonly kind: 'open' | 'close' | 'ping' | 'meet' }
  | { readonly kind: 'report'; readonly packets: number; readonly bytes: number }
  | { readonly kind: 'openStream'; readonly stream: number }
  | ({ readonly kind: 'openTunnel' } & TunnelOffer)
  | { readonly kind: 'pay'; readonly outwardBytes: number }
  /** An IP address in text form. */
  | { readonly kind: 'other'; readonly host: string }
  | { readonly kind: 'refused'; readonly request: ControlRequest['kind']; readonly reason: Refusal }

export type ControlMessage =
  | { readonly type: 'request'; readonly number: number; readonly request: ControlRequest }
  | { readonly type: 'answer'; readonly number: number; readonly answer: ControlAnswer }
  | { readonly type: 'notice'; readonly flow: number; readonly reason: number }

const ANSWER = 0x80
const NAME = /^(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?$/

const MIN_TUNNEL_MTU = 1_280
/** What every host of IPv4 takes (RFC 791 §3.1). */
const MIN_FLOW_MTU = 576
const MAX_DNS_SERVERS = 4

/** A resolver would take these for IPv4 addresses (`0x7f.1`). */
const NUMERIC = /(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)\.?$/

/** Encodes a message; the result is a new array. */
export function encodeControl(message: ControlMessage): Uint8Array {
  const first = message.type === 'request' && message.request.kind === 'open' ? message.request.first.length : 0
  const writer = new Writer(400 + first)
  switch (message.type) {
    case 'request':
      writer.u8(CONTROL_KIND[message.request.kind]).u16le(message.number)
      writeRequest(writer, message.request)
      break
    case 'answer':
      writeAnswer(writer, message.number, message.answer)
      break
    case 'notice':
      writer.u8(CONTROL_KIND.notice).u16le(0).u24le(message.flow).u8(message.reason)
      break
  }
  return writer.done()
}

/** Decodes a message; `undefined` when it is malformed. `first` is a view into `bytes`. */
export function decodeControl(bytes: Uint8Array): ControlMessage | undefined {
  const reader = new Reader(bytes)
  const kind = reader.u8()
  const number = reader.u16le()
  const message = kind & ANSWER ? readAnswer(reader, kind & ~ANSWER, number) : readRequest(reader, kind, number)
  return message !== undefined && reader.done ? message : undefined
}

/** Whether `host` is an IP address or a host name that may be asked for. */
export function isTargetHost(host: string): boolean {
  return parseIp(host) !== undefined || (NAME.test(host) && !NUMERIC.test(host))
}

function writeRequest(writer: Writer, request: ControlRequest): void {
  switch (request.kind) {
    case 'open':
      writer.u24le(request.flow).u8(request.purpose)
      writeTarget(writer, request.target)
      writer.bytes(request.first)
      return
    case 'close':
    case 'other':
      writer.u24le(request.flow)
      return
    case 'openTunnel':
      writer.u24le(request.flow).u16le(request.mtu)
      return
    case 'openStream':
      writer.u32le(request.stream)
      writeTarget(writer, request.target)
      return
    case 'pay':
      writer.bytes(request.token).u64le(request.acceptedBytes)
      return
    case 'meet':
      writer.u24le(request.flow).bytes(request.token)
      return
    case 'ping':
    case 'report':
      return
  }
}

function writeAnswer(writer: Writer, number: number, answer: ControlAnswer): void {
  const kind = answer.kind === 'refused' ? answer.request : answer.kind
  writer.u8(ANSWER | CONTROL_KIND[kind]).u16le(number)
  writer.u8(answer.kind === 'refused' ? answer.reason : 0)
  if (answer.kind === 'report') writer.u64le(answer.packets).u64le(answer.bytes)
  if (answer.kind === 'openStream') writer.u32le(answer.stream)
  if (answer.kind === 'openTunnel') writeOffer(writer, answer)
  if (answer.kind === 'pay') writer.u64le(answer.outwardBytes)
  if (answer.kind === 'other') writeIp(writer, parseIp(answer.host))
}

function readRequest(reader: Reader, kind: number, number: number): ControlMessage | undefined {
  switch (kind) {
    case CONTROL_KIND.open: {
      const flow = reader.u24le()
      const purpose = reader.u8()
      const target = readTarget(reader)
      const first = reader.rest()
      if (target === undefined || !isPurpose(purpose)) return undefined
      return { type: 'request', number, request: { kind: 'open', flow, purpose, target, first } }
    }
    case CONTROL_KIND.close:
      return { type: 'request', number, request: { kind: 'close', flow: reader.u24le() } }
    case CONTROL_KIND.ping:
      return { type: 'request', number, request: { kind: 'ping' } }
    case CONTROL_KIND.report:
      return { type: 'request', number, request: { kind: 'report' } }
    case CONTROL_KIND.openStream: {
      const stream = reader.u32le()
      const target = readTarget(reader)
      return target && { type: 'request', number, request: { kind: 'openStream', stream, target } }
    }
    case CONTROL_KIND.openTunnel: {
      const [flow, mtu] = [reader.u24le(), reader.u16le()]
      return mtu < MIN_FLOW_MTU ? undefined : { type: 'request', number, request: { kind: 'openTunnel', flow, mtu } }
    }
    case CONTROL_KIND.pay: {
      const token = copyBytes(reader.bytes(TOKEN_BYTES))
      return { type: 'request', number, request: { kind: 'pay', token, acceptedBytes: reader.u64le() } }
    }
    case CONTROL_KIND.meet: {
      const flow = reader.u24le()
      const token = copyBytes(reader.bytes(MEETING_TOKEN_BYTES))
      return { type: 'request', number, request: { kind: 'meet', flow, token } }
    }
    case CONTROL_KIND.other:
      return { type: 'request', number, request: { kind: 'other', flow: reader.u24le() } }
    case CONTROL_KIND.notice:
      return { type: 'notice', flow: reader.u24le(), reason: reader.u8() }
    default:
      return undefined
  }
}

function readAnswer(reader: Reader, kind: number, number: number): ControlMessage | undefined {
  const request = REQUEST_NAMES.get(kind)
  if (request === undefined) return undefined
  const status = reader.u8()
  if (status !== 0) {
    const reason = REASONS.has(status) ? (status as Refusal) : REFUSAL.generalFailure
    return { type: 'answer', number, answer: { kind: 'refused', request, reason } }
  }
  switch (request) {
    case 'report':
      return { type: 'answer', number, answer: { kind: request, packets: reader.u64le(), bytes: reader.u64le() } }
    case 'openStream':
      return { type: 'answer', number, answer: { kind: request, stream: reader.u32le() } }
    case 'openTunnel': {
      const offer = readOffer(reader)
      return offer && { type: 'answer', number, answer: { kind: request, ...offer } }
    }
    case 'pay':
      return { type: 'answer', number, answer: { kind: request, outwardBytes: reader.u64le() } }
    case 'other': {
      const kind = reader.u8()
      const host = kind === 4 || kind === 6 ? readIp(reader, kind) : undefined
      return host === undefined || reader.failed
        ? undefined
        : { type: 'answer', number, answer: { kind: request, host } }
    }
    default:
      return { type: 'answer', number, answer: { kind: request } }
  }
}

function isPurpose(value: number): value is FlowPurpose {
  return value >= FLOW_PURPOSE.hop && value <= FLOW_PURPOSE.wireguard
}

function writeOffer(writer: Writer, { hasIpv4, hasIpv6, mtu, dns }: TunnelOffer): void {
  writer.u8((hasIpv4 ? 1 : 0) | (hasIpv6 ? 2 : 0)).u16le(mtu)
  writer.u8(dns.length)
  for (const host of dns) writeIp(writer, parseIp(host))
}

function readOffer(reader: Reader): TunnelOffer | undefined {
  const families = reader.u8()
  const mtu = reader.u16le()
  const count = reader.u8()
  if (families < 1 || families > 3 || mtu < MIN_TUNNEL_MTU || count < 1 || count > MAX_DNS_SERVERS) return undefined
  const dns: string[] = []
  for (let i = 0; i < count; i++) {
    const kind = reader.u8()
    const host = kind === 4 || kind === 6 ? readIp(reader, kind) : undefined
    if (host === undefined || reader.failed) return undefined
    dns.push(host)
  }
  return { hasIpv4: (families & 1) !== 0, hasIpv6: (families & 2) !== 0, mtu, dns }
}

function writeTarget(writer: Writer, target: Target): void {
  const ip = parseIp(target.host)
  if (ip !== undefined) {
    writeIp(writer, ip)
  } else {
    const name = Buffer.from(target.host, 'latin1')
    writer.u8(3).u8(name.length).bytes(name)
  }
  writer.u16le(target.port)
}

function readTarget(reader: Reader): Target | undefined {
  const host = readHost(reader)
  const port = reader.u16le()
  return host === undefined || port === 0 || reader.failed ? undefined : { host, port }
}

function readHost(reader: Reader): string | undefined {
  const kind = reader.u8()
  switch (kind) {
    case 4:
    case 6:
      return readIp(reader, kind)
    case 3: {
      const name = Buffer.from(reader.bytes(reader.u8())).toString('latin1')
      return parseIp(name) === undefined && isTargetHost(name) ? name : undefined
    }
    default:
      return undefined
  }
}

function writeIp(writer: Writer, ip: Uint8Array | undefined): void {
  if (ip === undefined) throw new TypeError('write an IP address: it is none')
  writer.u8(ip.length === 4 ? 4 : 6).bytes(ip)
}

/** `undefined` when it is an IPv4 address inside an IPv6 one; the reader has failed when bytes are missing. */
function readIp(reader: Reader, kind: 4 | 6): string | undefined {
  return kind === 4 ? reader.bytes(4).join('.') : formatIPv6(reader.bytes(16))
}

const REQUEST_NAMES = new Map<number, ControlRequest['kind']>([
  [1, 'open'],
  [2, 'close'],
  [3, 'ping'],
  [4, 'report'],
  [5, 'openStream'],
  [6, 'openTunnel'],
  [8, 'pay'],
  [9, 'meet'],
  [10, 'other'],
])
const REASONS = new Set<number>(Object.values(REFUSAL))
