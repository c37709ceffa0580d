// ChaCha20-Poly1305 (RFC 8439) and XChaCha20-Poly1305 for handshake messages: small, rare, results in new arrays.

import { createCipheriv, createDecipheriv } from 'node:crypto'
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js'

/** Seals `plain` under a 12-byte nonce; the 16-byte tag stands at the end. */
export function chachaSeal(key: Uint8Array, nonce: Uint8Array, plain: Uint8Array, ad: Uint8Array): Uint8Array {
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: 16 })
  cipher.setAAD(ad, { plaintextLength: plain.length })
  const sealed = new Uint8Array(plain.length + 16)
  sealed.set(cipher.update(plain))
  cipher.final()
  sealed.set(cipher.getAuthTag(), plain.length)
  return sealed
}

/** Opens what `chachaSeal` sealed; `undefined` when it is forged. */
export function chachaOpen(
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  ad: Uint8Array,
): Uint8Array | undefined {
  if (sealed.length < 16 || nonce.length !== 12) return undefined
  const decipher = createDecipheriv('chacha20-poly1305', key, nonce, { authTagLength: 16 })
  decipher.setAAD(ad, { plaintextLength: sealed.length - 16 })
  decipher.setAuthTag(sealed.subarray(sealed.length - 16))
  const plain = decipher.update(sealed.subarray(0, sealed.length - 16))
  try {
    decipher.final()
    return plain
  } catch {
    plain.fill(0)
    return undefined
  }
}

/** The nonce of Noise and WireGuard: four zero bytes and a counter of 64 bits, little-endian. */
export function counterNonce(counter: number): Uint8Array {
  const nonce = new Uint8Array(12)
  const view = new DataView(nonce.buffer)
  view.setUint32(4, counter % 0x1_0000_0000, true)
  view.setUint32(8, Math.floor(counter / 0x1_0000_0000), true)
  return nonce
}

/** XChaCha20-Poly1305 with a 24-byte nonce. */
export function xchachaSeal(key: Uint8Array, nonce: Uint8Array, plain: Uint8Array, ad: Uint8Array): Uint8Array {
  return xchacha20poly1305(key, nonce, ad).encrypt(plain)
}

/** Opens what `xchachaSeal` sealed; `undefined` when it is forged. */
export function xchachaOpen(
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  ad: Uint8Array,
): Uint8Array | undefined {
  if (sealed.length < 16 || nonce.length !== 24) return undefined
  try {
    return xchacha20poly1305(key, nonce, ad).decrypt(sealed)
  } catch {
    return undefined
  }
}
