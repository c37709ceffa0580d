// SOCKS5 as a proxy's client speaks it (RFC 1928; user and password by RFC 1929).
//
//   greeting   5, count u8, methods                      reply  5, method (0 none, 2 password, 255 refused)
//   password   1, length u8, user, length u8, password   reply  1, 0
//   request    5, command (1 connect, 3 associate), 0, address type, address, port (big-endian)
//   reply      5, code, 0, address type, address, port
//
// Parsers take what has come so far: `undefined` means more is needed, `'malformed'` that no more will help. Each message
// is at most 515 bytes, so nobody can make a parser hold more.

import { copyBytes } from '#bytes/copy.ts'
import { formatIPv6, parseIp } from './address.ts'
import { isTargetHost, type Target } from './control.ts'

export const SOCKS_VERSION = 5

export const SOCKS_REPLY = {
  done: 0,
  generalFailure: 1,
  notAllowed: 2,
  networkUnreachable: 3,
  hostUnreachable: 4,
  connectionRefused: 5,
  ttlExpired: 6,
  commandUnknown: 7,
  addressUnknown: 8,
} as const

/** The only answer to SOCKS4, which cannot carry names: request rejected. */
export const SOCKS4_REFUSED = Uint8Array.of(0, 0x5b, 0, 0, 0, 0, 0, 0)

type Parsed<T> = (T & { readonly length: number }) | 'malformed' | undefined

/** A greeting: which way to authenticate. */
export function parseGreeting(bytes: Uint8Array): Parsed<{ readonly method: 'none' | 'password' | 'unacceptable' }> {
  if (bytes.length >= 1 && bytes[0] !== SOCKS_VERSION) return 'malformed'
  const count = bytes[1]
  if (count === undefined || bytes.length < 2 + count) return undefined
  if (count === 0) return 'malformed'
  const methods = bytes.subarray(2, 2 + count)
  // A password is asked for when it is offered, because it chooses the route (stream isolation).
  const method = methods.includes(2) ? 'password' : methods.includes(0) ? 'none' : 'unacceptable'
  return { method, length: 2 + count }
}

/** User and password. */
export function parsePassword(bytes: Uint8Array): Parsed<{ readonly user: Uint8Array; readonly password: Uint8Array }> {
  if (bytes.length >= 1 && bytes[0] !== 1) return 'malformed'
  const userLength = bytes[1]
  if (userLength === undefined) return undefined
  const passwordLength = bytes[2 + userLength]
  if (passwordLength === undefined) return undefined
  const length = 3 + userLength + passwordLength
  if (bytes.length < length) return undefined
  return { user: copyBytes(bytes, 2, 2 + userLength), password: copyBytes(bytes, 3 + userLength, length), length }
}

export type SocksCommand = 'connect' | 'associate' | 'unknown'

/**
 * A request; `target` is undefined when the address cannot be asked for, or is of an unknown type, whose length nobody knows
 * (port 0 and 0.0.0.0 are usual in ASSOCIATE).
 */
export function parseRequest(
  bytes: Uint8Array,
): Parsed<{ readonly command: SocksCommand; readonly target: Target | undefined }> {
  if (bytes.length >= 1 && bytes[0] !== SOCKS_VERSION) return 'malformed'
  if (bytes.length >= 3 && bytes[2] !== 0) return 'malformed'
  const type = bytes[3]
  if (type === undefined) return undefined
  const nameLength = type === 3 ? bytes[4] : 0
  if (nameLength === undefined) return undefined
  const addressLength = type === 1 ? 4 : type === 4 ? 16 : type === 3 ? 1 + nameLength : -1
  const command = bytes[1] === 1 ? 'connect' : bytes[1] === 3 ? 'associate' : 'unknown'
  if (addressLength < 0) return { command, target: undefined, length: bytes.length }
  const end = 4 + addressLength
  if (bytes.length < end + 2) return undefined
  const port = ((bytes[end] ?? 0) << 8) | (bytes[end + 1] ?? 0)
  const host = hostOf(type, bytes.subarray(4, end))
  return { command, target: host === undefined || port === 0 ? undefined : { host, port }, length: end + 2 }
}

/** A reply that names the address bound, which must be an IP address. */
export function encodeReply(code: number, bound: Target = { host: '0.0.0.0', port: 0 }): Uint8Array {
  const ip = parseIp(bound.host) ?? new Uint8Array(4)
  return Uint8Array.of(SOCKS_VERSION, code, 0, ip.length === 4 ? 1 : 4, ...ip, bound.port >> 8, bound.port & 0xff)
}

function hostOf(type: number, bytes: Uint8Array): string | undefined {
  if (type === 1) return bytes.join('.')
  // Programs with sockets of both families write IPv4 addresses as IPv4-mapped ones, which formatIPv6 refuses.
  if (type === 4) return formatIPv6(bytes) ?? bytes.subarray(12).join('.')
  const name = Buffer.from(bytes.subarray(1)).toString('latin1').toLowerCase()
  return isTargetHost(name) ? name : undefined
}
