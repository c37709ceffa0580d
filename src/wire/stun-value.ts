// Values of STUN and TURN attributes that have a form of their own (RFC 8489 §14.1, §14.2, §14.8; RFC 8656 §12, §18).
//
//   address        0 (1), family 1 or 2 (1), port (2), IP (4 or 16); in the XOR forms the port is mixed with the cookie's first
//                  half, the IP with the cookie and the transaction id
//   error code     zero (2), hundreds 3 to 6 (1), rest 0 to 99 (1), reason in UTF-8
//   channel data   channel 0x4000 to 0x4fff (2), length (2), datagram; over UDP what follows may be padding
//
// Length policy: exact for addresses; channel data may be followed by padding.

import { type Address, formatIPv6, parseIp } from './address.ts'

export const CHANNEL_HEADER_BYTES = 4
export const MIN_CHANNEL = 0x4000
export const MAX_CHANNEL = 0x4fff

const COOKIE = Uint8Array.of(0x21, 0x12, 0xa4, 0x42)
const NO_MASK = new Uint8Array(16)

/** The value of XOR-MAPPED-ADDRESS, XOR-PEER-ADDRESS or XOR-RELAYED-ADDRESS. */
export function xorAddressValue(address: Address, transaction: Uint8Array): Uint8Array {
  return writeAddressValue(address, maskOf(transaction))
}

/** The address in a XOR value; `undefined` when it is absent, malformed, IPv4-mapped or of port 0. */
export function readXorAddress(value: Uint8Array | undefined, transaction: Uint8Array): Address | undefined {
  return value && readAddressValue(value, maskOf(transaction))
}

/** The address in a plain MAPPED-ADDRESS. */
export function readPlainAddress(value: Uint8Array | undefined): Address | undefined {
  return value && readAddressValue(value, NO_MASK)
}

/** The value of ERROR-CODE. */
export function errorValue(code: number, reason: string): Uint8Array {
  return Uint8Array.of(0, 0, Math.floor(code / 100), code % 100, ...new TextEncoder().encode(reason))
}

/** The number of an ERROR-CODE, 300 to 699. */
export function readErrorCode(value: Uint8Array | undefined): number | undefined {
  if (value === undefined || value.length < 4) return undefined
  const hundreds = (value[2] ?? 0) & 7
  const rest = value[3] ?? 0
  return hundreds < 3 || hundreds > 6 || rest > 99 ? undefined : hundreds * 100 + rest
}

/** The value of UNKNOWN-ATTRIBUTES. */
export function unknownAttributesValue(types: readonly number[]): Uint8Array {
  return Uint8Array.from(types.flatMap(type => [type >>> 8, type & 0xff]))
}

/** Whether `length` bytes at `offset` can be channel data; only what a TURN server sends is to be asked. */
export function isChannelData(buffer: Uint8Array, offset: number, length: number): boolean {
  return (
    length >= CHANNEL_HEADER_BYTES &&
    ((buffer[offset] ?? 0) & 0xf0) === 0x40 &&
    ((buffer[offset + 2] ?? 0) << 8) + (buffer[offset + 3] ?? 0) <= length - CHANNEL_HEADER_BYTES
  )
}

/** The channel of the channel data at `offset`. */
export function channelOf(buffer: Uint8Array, offset: number): number {
  return ((buffer[offset] ?? 0) << 8) | (buffer[offset + 1] ?? 0)
}

/** The datagram inside channel data, a view. */
export function channelPayload(bytes: Uint8Array): Uint8Array {
  const length = ((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0)
  return bytes.subarray(CHANNEL_HEADER_BYTES, CHANNEL_HEADER_BYTES + length)
}

/** Writes the four bytes before a datagram of `length` bytes, so that it can be sent from where it lies. */
export function writeChannelHeader(buffer: Uint8Array, offset: number, channel: number, length: number): void {
  buffer[offset] = channel >>> 8
  buffer[offset + 1] = channel & 0xff
  buffer[offset + 2] = length >>> 8
  buffer[offset + 3] = length & 0xff
}

function maskOf(transaction: Uint8Array): Uint8Array {
  const mask = new Uint8Array(16)
  mask.set(COOKIE)
  mask.set(transaction.subarray(0, 12), 4)
  return mask
}

function writeAddressValue(address: Address, mask: Uint8Array): Uint8Array {
  const ip = parseIp(address.host)
  if (ip === undefined) throw new TypeError('write a STUN address: the host is not an IP address')
  const value = new Uint8Array(4 + ip.length)
  value[1] = ip.length === 4 ? 1 : 2
  value[2] = (address.port >>> 8) ^ (mask[0] ?? 0)
  value[3] = (address.port & 0xff) ^ (mask[1] ?? 0)
  for (const [i, byte] of ip.entries()) value[4 + i] = byte ^ (mask[i] ?? 0)
  return value
}

function readAddressValue(value: Uint8Array, mask: Uint8Array): Address | undefined {
  const size = value[1] === 1 ? 4 : value[1] === 2 ? 16 : 0
  if (size === 0 || value.length !== 4 + size) return undefined
  const ip = Uint8Array.from(value.subarray(4), (byte, i) => byte ^ (mask[i] ?? 0))
  const port = (((value[2] ?? 0) ^ (mask[0] ?? 0)) << 8) | ((value[3] ?? 0) ^ (mask[1] ?? 0))
  const host = size === 4 ? ip.join('.') : formatIPv6(ip)
  return host === undefined || port === 0 ? undefined : { host, port }
}
