// What STUN's message integrity is made of: HMAC-SHA1, HMAC-SHA256 (RFC 2104), and MD5 and SHA-256 for the key of a long-term
// credential (RFC 8489 §14.5, §14.6, §9.2.2).

import { createHash, createHmac, timingSafeEqual } from 'node:crypto'

/** 20 bytes. */
export function hmacSha1(key: Uint8Array, input: Uint8Array): Uint8Array {
  return createHmac('sha1', key).update(input).digest()
}

/** 32 bytes. */
export function hmacSha256(key: Uint8Array, input: Uint8Array): Uint8Array {
  return createHmac('sha256', key).update(input).digest()
}

/** The key of a long-term credential: a digest of `username:realm:password`. */
export function longTermKey(digest: 'md5' | 'sha256', username: string, realm: string, password: string): Uint8Array {
  return createHash(digest).update(`${username}:${realm}:${password}`).digest()
}

/** Whether `mac` is the beginning of `expected`, in time that does not tell where they differ. */
export function isMac(mac: Uint8Array, expected: Uint8Array): boolean {
  return mac.length <= expected.length && timingSafeEqual(mac, expected.subarray(0, mac.length))
}
