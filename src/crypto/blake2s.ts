// BLAKE2s (RFC 7693), HMAC over it, and the KDF of Noise and WireGuard.

import { createHash, createHmac } from 'node:crypto'
import { blake2s as nobleBlake2s } from '@noble/hashes/blake2.js'

/** The 32-byte hash of the parts, one after the other. */
export function blake2s(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('blake2s256')
  for (const part of parts) hash.update(part)
  return hash.digest()
}

/** Keyed BLAKE2s of `data`: `length` bytes (1 to 32), key of up to 32 bytes. */
export function keyedBlake2s(key: Uint8Array, data: Uint8Array, length = 16): Uint8Array {
  return nobleBlake2s(data, { key, dkLen: length })
}

/** HKDF as Noise defines it (Noise §4.3) over HMAC-`hash`: `count` outputs of 32 bytes. */
export function noiseHkdf(
  hash: 'blake2s256' | 'sha256',
  chainingKey: Uint8Array,
  input: Uint8Array,
  count: 1 | 2 | 3,
): Uint8Array[] {
  const secret = createHmac(hash, chainingKey).update(input).digest()
  const outputs: Uint8Array[] = []
  let previous = Buffer.alloc(0)
  for (let i = 1; i <= count; i++) {
    previous = createHmac(hash, secret).update(previous).update(Uint8Array.of(i)).digest()
    outputs.push(previous)
  }
  secret.fill(0)
  return outputs
}
