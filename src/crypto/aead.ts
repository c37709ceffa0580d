// ChaCha20-Poly1305 over packets, in place (RFC 8439), by the faster of two ways. The nonce is four zero bytes and the packet
// counter, 64 bits little-endian, as in WireGuard and Noise.
//
// OpenSSL's primitives take little more than half the time of libsodium (docs/decisions/012-aead.md), where they can be called
// and the packet lies in memory that does not move. Both give the same bytes.

import { bindOpensslCipher, OPENSSL_BUFFER_BYTES } from './openssl-cipher.ts'
import type { PacketCipher } from './packet-cipher.ts'
import { sodiumCipher } from './sodium-cipher.ts'

export { TAG_BYTES } from './packet-cipher.ts'

/** Bound by the first packet that can use it: most commands never see one. */
let forLargeBuffers: PacketCipher | undefined

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
  cipherFor(buffer).seal(key, counter, buffer, offset, length)
}

/** Opens `length` bytes (tag included) at `offset` in place; false, and the bytes are garbage, when they are forged. */
export function openInPlace(
  key: Uint8Array,
  counter: number,
  buffer: Uint8Array,
  offset: number,
  length: number,
): boolean {
  return cipherFor(buffer).open(key, counter, buffer, offset, length)
}

function cipherFor(buffer: Uint8Array): PacketCipher {
  if (buffer.length < OPENSSL_BUFFER_BYTES) return sodiumCipher
  forLargeBuffers ??= bindOpensslCipher() ?? sodiumCipher
  return forLargeBuffers
}
