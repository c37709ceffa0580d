// A relay's descriptor: who it is, where it is reached, what it does; signed by itself (docs/spec/descriptor.md).
//
//   size     field                       size     field
//   1        version = 1 or 2            1        operator: length, 1 to 64; then UTF-8
//   1984     identity key                1        family: count, 0 to 16; then 32-byte node ids, ascending
//   32       hop key (X25519)            1        exit ports: count, 0 to 32; then from u16, to u16, ascending, apart
//   8        sequence                    4        capacity, kbit/s
//   8        published, Unix ms          1        software: length, 0 to 32; then ASCII
//   8        expires, Unix ms            4        price, thousandths of a credit for a GiB; 0 is free; else then
//   1        roles: 1 guard, 2 middle,   4        free allowance of a session, KiB
//            4 exit, 8 peer; 16: the     32       id of the issuer whose credits are taken
//            exit has a tunnel           3373     signature over all before it
//   1        addresses: count, 1 to 4; then addresses (address.ts), ascending
//   1        control: count, 0 to 4; then length u8 and multiaddr in ASCII
//   version 2 alone, a peer that is asked by letter: no addresses, no control, and before the signature
//   1216     letter key (X-Wing)
//
// Length policy: exact, at most 8,192 bytes, one encoding per descriptor. Little-endian. Signature: signature.ts, context
// "hoplite descriptor v1". The node id is SHA-256 of a label and the identity key.

import { copyBytes } from '#bytes/copy.ts'
import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { type Address, formatAddress, readAddress, writeAddress } from './address.ts'
import { SEALING_KEY_BYTES } from './content.ts'

export const MAX_DESCRIPTOR_BYTES = 8192
export const DESCRIPTOR_CONTEXT = 'hoplite descriptor v1'
const KEY_BYTES = 1984
const SIGNATURE_BYTES = 3373
const ROLES = { guard: 1, middle: 2, exit: 4, peer: 8 } as const
const TUNNEL = 16
const ALL_ROLES = 31
export type Role = keyof typeof ROLES

export interface PortRange {
  readonly from: number
  readonly to: number
}

export interface DescriptorFields {
  readonly identityKey: Uint8Array
  readonly hopKey: Uint8Array
  readonly sequence: number
  readonly publishedMs: number
  readonly expiresMs: number
  readonly roles: readonly Role[]
  /** Whether this exit carries IP packets too (control.ts, openTunnel). */
  readonly hasTunnel: boolean
  readonly addresses: readonly Address[]
  /** Where the relay's control plane is reached, as multiaddrs. */
  readonly control: readonly string[]
  readonly operator: string
  /** Node ids (hex) of the operator's other relays. */
  readonly family: readonly string[]
  /** Ports that streams and datagrams may go to; none for a relay that is no exit. */
  readonly exitPorts: readonly PortRange[]
  readonly capacityKbit: number
  readonly software: string
  /** What carrying costs; undefined for a relay that asks for nothing. */
  readonly price?: Price
  /** Of a peer without addresses: the key that letters to it are sealed for. */
  readonly letterKey?: Uint8Array
}

export interface Price {
  /** Thousandths of a credit for a GiB, above 0. */
  readonly milliCreditsPerGib: number
  /** Of each session, before the first credit. */
  readonly freeKib: number
  /** 64 hex digits. */
  readonly issuerId: string
}

/** The bytes that are signed. Throws for fields that do not fit: they are our own. */
export function encodeUnsigned(fields: DescriptorFields): Uint8Array {
  const writer = new Writer(MAX_DESCRIPTOR_BYTES - SIGNATURE_BYTES)
  writer
    .u8(fields.letterKey === undefined ? 1 : 2)
    .bytes(fields.identityKey)
    .bytes(fields.hopKey)
  writer.u64le(fields.sequence).u64le(fields.publishedMs).u64le(fields.expiresMs)
  writer.u8(fields.roles.reduce((bits, role) => bits | ROLES[role], fields.hasTunnel ? TUNNEL : 0))
  writer.u8(fields.addresses.length)
  for (const address of [...fields.addresses].sort(byAddress)) writeAddress(writer, address)
  writer.u8(fields.control.length)
  for (const address of fields.control) writeText(writer, address)
  writeText(writer, fields.operator)
  writer.u8(fields.family.length)
  for (const id of [...fields.family].sort()) writer.bytes(Buffer.from(id, 'hex'))
  writer.u8(fields.exitPorts.length)
  for (const { from, to } of fields.exitPorts) writer.u16le(from).u16le(to)
  writer.u32le(fields.capacityKbit)
  writeText(writer, fields.software)
  writePrice(writer, fields.price)
  if (fields.letterKey !== undefined) writer.bytes(fields.letterKey)
  const bytes = writer.done()
  if (readFields(new Reader(bytes)) === undefined)
    throw new RangeError('make a descriptor: a field is out of its range')
  return bytes
}

/** Splits a descriptor into fields, signed part and signature; `undefined` when it is malformed. Checks no signature. */
export function decodeDescriptor(
  bytes: Uint8Array,
): { readonly fields: DescriptorFields; readonly signed: Uint8Array; readonly signature: Uint8Array } | undefined {
  if (bytes.length > MAX_DESCRIPTOR_BYTES || bytes.length <= SIGNATURE_BYTES) return undefined
  const signed = bytes.subarray(0, bytes.length - SIGNATURE_BYTES)
  const reader = new Reader(signed)
  const fields = readFields(reader)
  return fields && reader.done ? { fields, signed, signature: bytes.subarray(signed.length) } : undefined
}

function readFields(reader: Reader): DescriptorFields | undefined {
  const version = reader.u8()
  if (version !== 1 && version !== 2) return undefined
  const identityKey = copyBytes(reader.bytes(KEY_BYTES))
  const hopKey = copyBytes(reader.bytes(32))
  const [sequence, publishedMs, expiresMs] = [reader.u64le(), reader.u64le(), reader.u64le()]
  const bits = reader.u8()
  const roles = (Object.keys(ROLES) as Role[]).filter(role => bits & ROLES[role])
  const hasTunnel = (bits & TUNNEL) !== 0
  const addresses = list(reader, 4, () => readAddress(reader))
  const control = list(reader, 4, () => text(reader, 128, /^[\x21-\x7e]+$/))
  const operator = text(reader, 64, /^[^\p{C}]+$/u)
  const family = list(reader, 16, () => Buffer.from(reader.bytes(32)).toString('hex'))
  const exitPorts = list(reader, 32, () => ({ from: reader.u16le(), to: reader.u16le() }))
  const capacityKbit = reader.u32le()
  const software = text(reader, 32, /^[\x20-\x7e]*$/)
  const price = readPrice(reader)
  const letterKey = version === 2 ? copyBytes(reader.bytes(SEALING_KEY_BYTES)) : undefined
  const isSound =
    !reader.failed &&
    bits > 0 &&
    bits <= ALL_ROLES &&
    addresses !== undefined &&
    control !== undefined &&
    operator !== undefined &&
    family !== undefined &&
    exitPorts !== undefined &&
    software !== undefined
  if (!isSound) return undefined
  const isReached = letterKey === undefined ? addresses.length > 0 : addresses.length + control.length === 0
  if (!isReached || (letterKey !== undefined && bits !== ROLES.peer)) return undefined
  if (!isAscending(addresses.map(sortKey)) || !isAscending(family)) return undefined
  if (hasTunnel && !roles.includes('exit')) return undefined
  if (exitPorts.length > 0 !== roles.includes('exit')) return undefined
  let last = -1
  for (const { from, to } of exitPorts) {
    if (from === 0 || from <= last || to < from) return undefined
    last = to
  }
  if (expiresMs <= publishedMs) return undefined
  return {
    identityKey,
    hopKey,
    sequence,
    publishedMs,
    expiresMs,
    roles,
    hasTunnel,
    addresses,
    control,
    operator,
    family,
    exitPorts,
    capacityKbit,
    software,
    ...(price && { price }),
    ...(letterKey && { letterKey }),
  }
}

function writePrice(writer: Writer, price: Price | undefined): void {
  writer.u32le(price?.milliCreditsPerGib ?? 0)
  if (price !== undefined) writer.u32le(price.freeKib).bytes(Buffer.from(price.issuerId, 'hex'))
}

function readPrice(reader: Reader): Price | undefined {
  const milliCreditsPerGib = reader.u32le()
  if (milliCreditsPerGib === 0) return undefined
  const freeKib = reader.u32le()
  return { milliCreditsPerGib, freeKib, issuerId: Buffer.from(reader.bytes(32)).toString('hex') }
}

function list<T>(reader: Reader, most: number, read: () => T | undefined): T[] | undefined {
  const count = reader.u8()
  if (count > most) return undefined
  const items: T[] = []
  for (let i = 0; i < count; i++) {
    const item = read()
    if (item === undefined || reader.failed) return undefined
    items.push(item)
  }
  return items
}

function text(reader: Reader, most: number, form: RegExp): string | undefined {
  const length = reader.u8()
  const value = length > most ? undefined : reader.text(length)
  return value !== undefined && !reader.failed && form.test(value) ? value : undefined
}

function writeText(writer: Writer, value: string): void {
  const bytes = Buffer.from(value, 'utf8')
  writer.u8(bytes.length).bytes(bytes)
}

function sortKey(address: Address): string {
  return formatAddress(address)
}

function byAddress(a: Address, b: Address): number {
  return sortKey(a) < sortKey(b) ? -1 : 1
}

function isAscending(keys: readonly string[]): boolean {
  return keys.every((key, i) => i === 0 || (keys[i - 1] ?? '') < key)
}
