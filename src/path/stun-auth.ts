// Who made a STUN message: integrity by a shared key (RFC 8489 §9). Short-term keys are ICE passwords, long-term keys come from
// a name, a realm and a password.

import { hmacSha1, hmacSha256, isMac } from '#crypto/hmac.ts'
import { type DecodedStun, encodeStun, integrityInput, integrityValue, type StunMessage } from '#wire/stun.ts'

export interface StunKey {
  readonly kind: 'sha1' | 'sha256'
  readonly key: Uint8Array
}

/** The message as a datagram; with a key, protected by it. */
export function sealStun(message: StunMessage, key?: StunKey): Uint8Array {
  if (key === undefined) return encodeStun(message)
  const mac = key.kind === 'sha1' ? hmacSha1 : hmacSha256
  return encodeStun(message, { kind: key.kind, mac: input => mac(key.key, input) })
}

/**
 * Whether `bytes`, of which `message` was decoded, was made by a holder of `key`: the stronger attribute decides where both
 * stand (RFC 8489 §9.1.3).
 */
export function isAuthentic(bytes: Uint8Array, message: DecodedStun, key: Uint8Array): boolean {
  const { sha1At, sha256At } = message
  if (sha256At !== undefined) {
    return isMac(integrityValue(bytes, sha256At), hmacSha256(key, integrityInput(bytes, sha256At)))
  }
  return sha1At !== undefined && isMac(integrityValue(bytes, sha1At), hmacSha1(key, integrityInput(bytes, sha1At)))
}

/** The text that stands for random bytes of ICE credentials: base64 has exactly the characters of RFC 8445 §5.3. */
export function iceText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** The key of an ICE password (RFC 8445 §7.1; ICE has SHA-1). */
export function iceKey(password: Uint8Array): StunKey {
  return { kind: 'sha1', key: Buffer.from(iceText(password)) }
}
