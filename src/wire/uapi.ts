// WireGuard's cross-platform configuration protocol, by which `wg` reads and sets an implementation in userspace.
//
//   request   `get=1` or `set=1`, then lines `key=value` (set), then an empty line; every line ends with LF
//   answer    lines `key=value` (get), then `errno=N`, then an empty line
//
// Keys are hexadecimal there, and an all-zero private or preshared key means none. What follows a `public_key` is that
// peer's. Length policy: a request has at most 1 MiB; anything malformed refuses the whole request, so that half a change is
// never made. Source: https://www.wireguard.com/xplatform/. Where it is silent this does as wg(8) and wireguard-go: the errno
// of `set` is negative and that of `get` positive.

import { Secret } from '#bytes/secret.ts'
import { type Address, formatAddress, parseAddress } from './address.ts'
import { formatPrefix, type IpPrefix, maskPrefix, parsePrefix } from './ip-prefix.ts'
import { isZeroKey } from './wireguard-key.ts'

/** What an answer says of a request, by the numbers of Linux. */
export const ERRNO = { done: 0, io: 5, invalid: 22, protocol: 71, addressInUse: 98 } as const

/** What `get` tells of an interface. */
export interface DeviceSnapshot {
  readonly privateKey?: Secret
  readonly listenPort: number
  /** 0: none. */
  readonly fwmark: number
  readonly peers: readonly PeerSnapshot[]
}

export interface PeerSnapshot {
  readonly publicKey: Uint8Array
  readonly presharedKey?: Secret
  readonly endpoint?: Address
  /** 0: never. */
  readonly lastHandshakeUnixMs: number
  readonly rxBytes: number
  readonly txBytes: number
  /** 0: off. */
  readonly persistentKeepaliveSeconds: number
  readonly allowedIps: readonly IpPrefix[]
  readonly protocolVersion: number
}

/** One change; they are made in their order. */
export type UapiOperation =
  | { readonly kind: 'privateKey'; readonly key: Secret | 'none' }
  | { readonly kind: 'listenPort'; readonly port: number }
  | { readonly kind: 'fwmark'; readonly mark: number }
  | { readonly kind: 'replacePeers' }
  | { readonly kind: 'removePeer'; readonly publicKey: Uint8Array }
  | PeerChange

/** A peer that is made or changed: what is absent stays as it is. */
export interface PeerChange {
  readonly kind: 'peer'
  readonly publicKey: Uint8Array
  /** Whether a peer that is not there is left alone instead of made. */
  readonly isUpdateOnly: boolean
  readonly presharedKey?: Secret | 'none'
  readonly endpoint?: Address
  readonly persistentKeepaliveSeconds?: number
  /** Whether all allowed IPs go before those below come. */
  readonly replacesAllowedIps: boolean
  /** Bits behind the prefix are zero. */
  readonly allowedIps: readonly (IpPrefix & { readonly isRemoved: boolean })[]
}

export type UapiRequest =
  | { readonly kind: 'get' }
  | { readonly kind: 'set'; readonly operations: readonly UapiOperation[] }
  | { readonly kind: 'refused'; readonly errno: number }

/** Reads one request, from its first line to the empty one. */
export function decodeUapiRequest(bytes: Uint8Array): UapiRequest {
  const lines = splitLines(bytes)
  const verb = lines === undefined ? '' : text(lines[0] ?? bytes.subarray(0, 0))
  if (lines === undefined || (verb !== 'get=1' && verb !== 'set=1')) return { kind: 'refused', errno: ERRNO.protocol }
  if (verb === 'get=1') return lines.length === 1 ? { kind: 'get' } : { kind: 'refused', errno: ERRNO.invalid }
  const operations: UapiOperation[] = []
  let peer: OpenPeer | undefined
  for (const line of lines.slice(1)) {
    const equals = line.indexOf(EQUALS)
    if (equals < 0) return { kind: 'refused', errno: ERRNO.protocol }
    const key = text(line.subarray(0, equals))
    const value = line.subarray(equals + 1)
    if (key === 'public_key') {
      const publicKey = readHexKey(value)
      if (publicKey === undefined) return { kind: 'refused', errno: ERRNO.invalid }
      if (peer !== undefined) operations.push(closePeer(peer))
      peer = {
        ...{ kind: 'peer', publicKey, isUpdateOnly: false, replacesAllowedIps: false, allowedIps: [] },
        isRemoved: false,
      }
    } else if (peer !== undefined) {
      if (!changePeer(peer, key, value)) return { kind: 'refused', errno: ERRNO.invalid }
    } else {
      const operation = readDeviceLine(key, value)
      if (operation === undefined) return { kind: 'refused', errno: ERRNO.invalid }
      operations.push(operation)
    }
  }
  if (peer !== undefined) operations.push(closePeer(peer))
  return { kind: 'set', operations }
}

/** The whole answer to `get`, keys included. */
export function encodeUapiDevice(device: DeviceSnapshot): Uint8Array {
  const lines: string[] = []
  if (device.privateKey !== undefined) lines.push(`private_key=${hex(device.privateKey.bytes)}`)
  if (device.listenPort !== 0) lines.push(`listen_port=${device.listenPort}`)
  if (device.fwmark !== 0) lines.push(`fwmark=${device.fwmark}`)
  for (const peer of device.peers) {
    lines.push(`public_key=${hex(peer.publicKey)}`)
    if (peer.presharedKey !== undefined) lines.push(`preshared_key=${hex(peer.presharedKey.bytes)}`)
    lines.push(`protocol_version=${peer.protocolVersion}`)
    if (peer.endpoint !== undefined) lines.push(`endpoint=${formatAddress(peer.endpoint)}`)
    const ms = Math.floor(peer.lastHandshakeUnixMs)
    lines.push(`last_handshake_time_sec=${Math.floor(ms / 1000)}`)
    lines.push(`last_handshake_time_nsec=${(ms % 1000) * 1_000_000}`)
    lines.push(`tx_bytes=${peer.txBytes}`, `rx_bytes=${peer.rxBytes}`)
    lines.push(`persistent_keepalive_interval=${peer.persistentKeepaliveSeconds}`)
    for (const prefix of peer.allowedIps) lines.push(`allowed_ip=${formatPrefix(prefix)}`)
  }
  lines.push('errno=0', '', '')
  return Buffer.from(lines.join('\n'))
}

/** The answer that has no more than an errno, as `set` and failures have it. */
export function encodeUapiErrno(verb: 'get' | 'set', errno: number): Uint8Array {
  return Buffer.from(`errno=${verb === 'set' && errno !== 0 ? -errno : errno}\n\n`)
}

type OpenPeer = { -readonly [K in keyof PeerChange]: PeerChange[K] } & {
  readonly allowedIps: (IpPrefix & { readonly isRemoved: boolean })[]
  isRemoved: boolean
}

function closePeer({ isRemoved, ...change }: OpenPeer): UapiOperation {
  return isRemoved ? { kind: 'removePeer', publicKey: change.publicKey } : change
}

function readDeviceLine(key: string, value: Uint8Array): UapiOperation | undefined {
  switch (key) {
    case 'private_key': {
      const secret = readSecret(value)
      return secret && { kind: 'privateKey', key: secret }
    }
    case 'listen_port': {
      const port = readNumber(value, 0xffff)
      return port === undefined ? undefined : { kind: 'listenPort', port }
    }
    case 'fwmark': {
      const mark = readNumber(value, 0xffff_ffff)
      return mark === undefined ? undefined : { kind: 'fwmark', mark }
    }
    case 'replace_peers':
      return isTrue(value) ? { kind: 'replacePeers' } : undefined
    default:
      return undefined
  }
}

/** Puts one line into the peer; false when it is malformed. */
function changePeer(peer: OpenPeer, key: string, value: Uint8Array): boolean {
  switch (key) {
    case 'remove':
      peer.isRemoved = true
      return isTrue(value)
    case 'update_only':
      peer.isUpdateOnly = true
      return isTrue(value)
    case 'preshared_key': {
      const secret = readSecret(value)
      if (secret !== undefined) peer.presharedKey = secret
      return secret !== undefined
    }
    case 'endpoint': {
      const address = parseAddress(text(value))
      if (address !== undefined) peer.endpoint = address
      return address !== undefined
    }
    case 'persistent_keepalive_interval': {
      const seconds = readNumber(value, 0xffff)
      if (seconds !== undefined) peer.persistentKeepaliveSeconds = seconds
      return seconds !== undefined
    }
    case 'replace_allowed_ips':
      peer.replacesAllowedIps = true
      return isTrue(value)
    case 'allowed_ip': {
      const written = text(value)
      const isRemoved = written.startsWith('-')
      const prefix = parsePrefix(isRemoved ? written.slice(1) : written)
      if (prefix !== undefined) peer.allowedIps.push({ ...maskPrefix(prefix), isRemoved })
      return prefix !== undefined
    }
    case 'protocol_version':
      return readNumber(value, 0xffff) === 1
    default:
      return false
  }
}

const LF = 0x0a
const EQUALS = 0x3d

/** The lines before the empty one, which must end the bytes. */
function splitLines(bytes: Uint8Array): Uint8Array[] | undefined {
  const lines: Uint8Array[] = []
  for (let from = 0; ; ) {
    const end = bytes.indexOf(LF, from)
    if (end < 0) return undefined
    if (end === from) return end + 1 === bytes.length ? lines : undefined
    lines.push(bytes.subarray(from, end))
    from = end + 1
  }
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}

function isTrue(value: Uint8Array): boolean {
  return text(value) === 'true'
}

function readNumber(value: Uint8Array, most: number): number | undefined {
  const number = /^[0-9]{1,10}$/.test(text(value)) ? Number(text(value)) : -1
  return number >= 0 && number <= most ? number : undefined
}

function readSecret(value: Uint8Array): Secret | 'none' | undefined {
  const key = readHexKey(value)
  return key === undefined ? undefined : isZeroKey(key) ? 'none' : new Secret(key)
}

/** 64 hexadecimal digits, read without a string of them that would stay in memory. */
function readHexKey(value: Uint8Array): Uint8Array | undefined {
  if (value.length !== 64) return undefined
  const key = new Uint8Array(32)
  for (let i = 0; i < 64; i++) {
    const digit = hexDigit(value[i] ?? 0)
    if (digit === undefined) return undefined
    key[i >> 1] = ((key[i >> 1] ?? 0) << 4) | digit
  }
  return key
}

function hexDigit(byte: number): number | undefined {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const letter = byte | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : undefined
}
