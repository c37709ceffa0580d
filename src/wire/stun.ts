// STUN messages (RFC 8489 §5, §14) as they travel in one UDP datagram. Network byte order throughout.
//
//   offset size  field
//   0      2     class and method: the two highest bits are zero, so the first byte is 0 to 3
//   2      2     length of what follows the header, a multiple of 4
//   4      4     magic cookie 0x2112a442; our own packets have zeros in bytes 1 to 3 and a type from 1 to 7 (packet-type.ts)
//   8      12    transaction id
//   20     …     attributes: type (2), length (2), value, padding to a multiple of 4
//
// Length policy: exact; the datagram ends where the length field says. At most 64 attributes. What stands behind a
// MESSAGE-INTEGRITY is ignored, except the other integrity attribute and FINGERPRINT (§14.5), because nothing vouches for
// it. A FINGERPRINT that is wrong refuses the message. Messages without the cookie (RFC 3489) are refused.

import { crc32 } from 'node:zlib'

const MAGIC_COOKIE = 0x2112_a442
const HEADER_BYTES = 20
const MAX_ATTRIBUTES = 64
const FINGERPRINT_XOR = 0x5354_554e
/** The longest message that we make; every attribute of ours fits. */
const MAX_ENCODED_BYTES = 2_048

export const STUN_METHOD = {
  binding: 0x001,
  allocate: 0x003,
  refresh: 0x004,
  send: 0x006,
  data: 0x007,
  createPermission: 0x008,
  channelBind: 0x009,
} as const

export const STUN_ATTRIBUTE = {
  mappedAddress: 0x0001,
  username: 0x0006,
  messageIntegrity: 0x0008,
  errorCode: 0x0009,
  unknownAttributes: 0x000a,
  channelNumber: 0x000c,
  lifetime: 0x000d,
  xorPeerAddress: 0x0012,
  data: 0x0013,
  realm: 0x0014,
  nonce: 0x0015,
  xorRelayedAddress: 0x0016,
  requestedAddressFamily: 0x0017,
  requestedTransport: 0x0019,
  messageIntegritySha256: 0x001c,
  passwordAlgorithm: 0x001d,
  xorMappedAddress: 0x0020,
  priority: 0x0024,
  useCandidate: 0x0025,
  passwordAlgorithms: 0x8002,
  software: 0x8022,
  fingerprint: 0x8028,
  iceControlled: 0x8029,
  iceControlling: 0x802a,
  /** Which nomination is the newest, as in draft-thatcher-ice-renomination: a 32-bit integer that only grows. */
  nomination: 0xc001,
  /** Our own: answer this request once more, so many seconds later; how a mapping's lifetime is learned. */
  echoAfter: 0xc0f1,
} as const

const CLASSES = ['request', 'indication', 'success', 'error'] as const
export type StunClass = (typeof CLASSES)[number]

export interface StunAttribute {
  readonly type: number
  readonly value: Uint8Array
}

export interface StunMessage {
  readonly class: StunClass
  readonly method: number
  /** 12 bytes. */
  readonly transaction: Uint8Array
  readonly attributes: readonly StunAttribute[]
}

export interface DecodedStun extends StunMessage {
  /** Where the integrity attributes begin in the message; undefined where there is none. */
  readonly sha1At: number | undefined
  readonly sha256At: number | undefined
}

/** Computes the value of an integrity attribute over the bytes before it. */
export interface Integrity {
  readonly kind: 'sha1' | 'sha256'
  readonly mac: (input: Uint8Array) => Uint8Array
}

/** Whether `length` bytes at `offset` begin like a STUN message: no other datagram of ours does. */
export function isStun(buffer: Uint8Array, offset: number, length: number): boolean {
  return (
    length >= HEADER_BYTES &&
    (buffer[offset] ?? 255) < 4 &&
    buffer[offset + 4] === 0x21 &&
    buffer[offset + 5] === 0x12 &&
    buffer[offset + 6] === 0xa4 &&
    buffer[offset + 7] === 0x42
  )
}

/** Reads a datagram; values are views of `bytes`. `undefined` when it is not one well-formed STUN message. */
export function decodeStun(bytes: Uint8Array): DecodedStun | undefined {
  if (!isStun(bytes, 0, bytes.length)) return undefined
  const view = viewOf(bytes)
  if (view.getUint16(2) !== bytes.length - HEADER_BYTES || bytes.length % 4 !== 0) return undefined
  const attributes: StunAttribute[] = []
  let sha1At: number | undefined
  let sha256At: number | undefined
  let at = HEADER_BYTES
  for (let count = 0; at < bytes.length; count++) {
    if (count === MAX_ATTRIBUTES || at + 4 > bytes.length) return undefined
    const type = view.getUint16(at)
    const length = view.getUint16(at + 2)
    const next = at + 4 + ((length + 3) & ~3)
    if (next > bytes.length) return undefined
    const value = bytes.subarray(at + 4, at + 4 + length)
    if (type === STUN_ATTRIBUTE.fingerprint) {
      if (length !== 4 || next !== bytes.length || view.getUint32(at + 4) !== fingerprint(bytes, at)) return undefined
    } else if (type === STUN_ATTRIBUTE.messageIntegritySha256 && sha256At === undefined) {
      if (length < 16 || length > 32 || length % 4 !== 0) return undefined
      sha256At = at
    } else if (type === STUN_ATTRIBUTE.messageIntegrity && sha1At === undefined && sha256At === undefined) {
      if (length !== 20) return undefined
      sha1At = at
    } else if (sha1At === undefined && sha256At === undefined) {
      attributes.push({ type, value })
    }
    at = next
  }
  const word = view.getUint16(0)
  const method = (word & 0x000f) | ((word >>> 1) & 0x0070) | ((word >>> 2) & 0x0f80)
  const kind = CLASSES[((word >>> 4) & 1) | ((word >>> 7) & 2)] as StunClass
  return { class: kind, method, transaction: bytes.subarray(8, 20), attributes, sha1At, sha256At }
}

/** The message as one datagram, with the integrity attribute and FINGERPRINT behind the others. */
export function encodeStun(message: StunMessage, integrity?: Integrity, hasFingerprint = true): Uint8Array {
  const bytes = new Uint8Array(MAX_ENCODED_BYTES)
  const view = viewOf(bytes)
  const kind = CLASSES.indexOf(message.class)
  const { method } = message
  view.setUint16(
    0,
    (method & 0x000f) | ((method & 0x0070) << 1) | ((method & 0x0f80) << 2) | ((kind & 1) << 4) | ((kind & 2) << 7),
  )
  view.setUint32(4, MAGIC_COOKIE)
  bytes.set(message.transaction.subarray(0, 12), 8)
  let at = HEADER_BYTES
  const put = (type: number, value: Uint8Array) => {
    view.setUint16(at, type)
    view.setUint16(at + 2, value.length)
    bytes.set(value, at + 4)
    at += 4 + ((value.length + 3) & ~3)
    view.setUint16(2, at - HEADER_BYTES)
  }
  for (const { type, value } of message.attributes) put(type, value)
  if (integrity !== undefined) {
    const isSha1 = integrity.kind === 'sha1'
    const size = isSha1 ? 20 : 32
    view.setUint16(2, at + 4 + size - HEADER_BYTES)
    const mac = integrity.mac(bytes.subarray(0, at))
    put(isSha1 ? STUN_ATTRIBUTE.messageIntegrity : STUN_ATTRIBUTE.messageIntegritySha256, mac.subarray(0, size))
  }
  if (hasFingerprint) {
    view.setUint16(2, at + 8 - HEADER_BYTES)
    put(STUN_ATTRIBUTE.fingerprint, u32Value(fingerprint(bytes, at)))
  }
  return bytes.subarray(0, at)
}

/** What an integrity attribute at `at` is computed over: the bytes before it, the length field ending behind it (§14.5). */
export function integrityInput(bytes: Uint8Array, at: number): Uint8Array {
  const input = new Uint8Array(bytes.subarray(0, at))
  viewOf(input).setUint16(2, at + 4 + integrityValue(bytes, at).length - HEADER_BYTES)
  return input
}

/** The value of the attribute that begins at `at`. */
export function integrityValue(bytes: Uint8Array, at: number): Uint8Array {
  return bytes.subarray(at + 4, at + 4 + viewOf(bytes).getUint16(at + 2))
}

/** The value of the first attribute of that type. */
export function stunAttribute(message: StunMessage, type: number): Uint8Array | undefined {
  return message.attributes.find(attribute => attribute.type === type)?.value
}

/** Types that must be understood (below 0x8000) and are none of ours. */
export function unknownRequired(message: StunMessage): number[] {
  return message.attributes.map(({ type }) => type).filter(type => type < 0x8000 && !KNOWN.has(type))
}

/** Four bytes. */
export function u32Value(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  viewOf(bytes).setUint32(0, value)
  return bytes
}

/** The integer of a four-byte value; `undefined` when it is absent or of another length. */
export function readU32Value(value: Uint8Array | undefined): number | undefined {
  return value?.length === 4 ? viewOf(value).getUint32(0) : undefined
}

const KNOWN: ReadonlySet<number> = new Set(Object.values(STUN_ATTRIBUTE))

function fingerprint(bytes: Uint8Array, at: number): number {
  return (crc32(bytes.subarray(0, at)) ^ FINGERPRINT_XOR) >>> 0
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
