// The packet cipher by libsodium, through sodium-native: on every platform, for packets wherever they lie.

import { createRequire } from 'node:module'
import { type PacketCipher, TAG_BYTES } from './packet-cipher.ts'

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

const nonce = new Uint8Array(12)
const nonceView = new DataView(nonce.buffer)

export const sodiumCipher: PacketCipher = {
  seal(key, counter, buffer, offset, length) {
    setNonce(counter)
    sodium.crypto_aead_chacha20poly1305_ietf_encrypt(
      buffer.subarray(offset, offset + length + TAG_BYTES),
      buffer.subarray(offset, offset + length),
      null,
      null,
      nonce,
      key,
    )
  },
  open(key, counter, buffer, offset, length) {
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
  },
}

function setNonce(counter: number): void {
  nonceView.setUint32(4, counter % 0x1_0000_0000, true)
  nonceView.setUint32(8, Math.floor(counter / 0x1_0000_0000), true)
}
