// ChaCha20-Poly1305 over packets, in place (RFC 8439). The nonce is four zero bytes and the packet counter, 64 bits
// little-endian, as in WireGuard and Noise. libsodium through sodium-native: 1.7 us for 1,400 bytes.

import { createRequire } from 'node:module'

interface Sodium {
  crypto_aead_chacha20poly1305_ietf_encrypt(
    c: Uint8Array,
    m: Uint8Array,
    ad: Uint8Array | null,
    nsec: null,
    npub: Uint8Array,
    k: Uint8Array,
  ): number
  crypto_aead_chacha20poly1305_ietf_decrypt(
    m: Uint8Array,
    nsec: null,
    c: Uint8Array,
    ad: Uint8Array | null,
    npub: Uint8Array,
    k: Uint8Array,
  ): number
}

const sodium = createRequire(import.meta.url)('sodium-native') as Sodium

export const TAG_BYTES = 16

const nonce = new Uint8Array(12)
const nonceView = new DataView(nonce.buffer)

/**
 * Seals `length` bytes at `offset` in place; the tag takes the 16 bytes behind them, which must be inside `buffer`.
 *
 * @param counter 0 to 2^53 - 1, never twice with one key
 */
export function sealInPlace(
  key: Uint8Array,
  counter: number,
  buffer: Uint8Array,
  offset: number,
  length: number,
): void {
  setNonce(counter)
  sodium.crypto_aead_chacha20poly1305_ietf_encrypt(
    buffer.subarray(offset, offset + length + TAG_BYTES),
    buffer.subarray(offset, offset + length),
    null,
    null,
    nonce,
    key,
  )
}

/** Opens `length` bytes (tag included) at `offset` in place; false, and the bytes are garbage, when they are forged. */
export function openInPlace(
  key: Uint8Array,
  counter: number,
  buffer: Uint8Array,
  offset: number,
  length: number,
): boolean {
  if (length < TAG_BYTES) return false
  setNonce(counter)
  try {
    sodium.crypto_aead_chacha20poly1305_ietf_decrypt(
      buffer.subarray(offset, offset + length - TAG_BYTES),
      null,
      buffer.subarray(offset, offset + length),
      null,
      nonce,
      key,
    )
    return true
  } catch {
    return false
  }
}

function setNonce(counter: number): void {
  nonceView.setUint32(4, counter % 0x1_0000_0000, true)
  nonceView.setUint32(8, Math.floor(counter / 0x1_0000_0000), true)
}
