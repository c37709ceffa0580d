// HPKE (RFC 9180), base mode, one message: X-Wing, HKDF-SHA256, ChaCha20-Poly1305. Synchronous, and 20 times as fast as the
// published library, which the tests compare it with: letters are found by opening many that are not for us
// (docs/decisions/010-letters.md).

import { chachaOpen, chachaSeal } from './chacha20poly1305.ts'
import { hkdfExpand, hkdfExtract } from './hkdf.ts'
import { decapsulateXWing, encapsulateXWing, XWING_CIPHERTEXT_BYTES, type XWingKeyPair } from './xwing.ts'

/** What sealing adds: the encapsulated key in front, the tag behind. */
export const HPKE_OVERHEAD = XWING_CIPHERTEXT_BYTES + 16
const VERSION = Buffer.from('HPKE-v1')
/** KEM 0x647a (X-Wing), KDF 0x0001 (HKDF-SHA256), AEAD 0x0003 (ChaCha20-Poly1305). */
const SUITE = Buffer.concat([Buffer.from('HPKE'), Uint8Array.of(0x64, 0x7a, 0, 1, 0, 3)])
const EMPTY = new Uint8Array(0)
const PSK_ID_HASH = labeledExtract(EMPTY, 'psk_id_hash', EMPTY)

/** Seals for the holder of an X-Wing key: encapsulated key, ciphertext, tag. `undefined` for an unusable key. */
export function hpkeSeal(
  publicKey: Uint8Array,
  info: Uint8Array,
  ad: Uint8Array,
  plain: Uint8Array,
): Uint8Array | undefined {
  const made = encapsulateXWing(publicKey)
  if (made === undefined) return undefined
  const { key, nonce } = keySchedule(made.secret, info)
  const sealed = Buffer.concat([made.ciphertext, chachaSeal(key, nonce, plain, ad)])
  key.fill(0)
  return sealed
}

/** Opens what `hpkeSeal` sealed; `undefined` when it is for another key, or forged. */
export function hpkeOpen(
  pair: XWingKeyPair,
  info: Uint8Array,
  ad: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  if (sealed.length < HPKE_OVERHEAD) return undefined
  const secret = decapsulateXWing(pair, sealed.subarray(0, XWING_CIPHERTEXT_BYTES))
  if (secret === undefined) return undefined
  const { key, nonce } = keySchedule(secret, info)
  const plain = chachaOpen(key, nonce, sealed.subarray(XWING_CIPHERTEXT_BYTES), ad)
  key.fill(0)
  return plain
}

/** RFC 9180 §5.1, mode_base. */
function keySchedule(shared: Uint8Array, info: Uint8Array): { key: Uint8Array; nonce: Uint8Array } {
  const context = Buffer.concat([Uint8Array.of(0), PSK_ID_HASH, labeledExtract(EMPTY, 'info_hash', info)])
  const secret = labeledExtract(shared, 'secret', EMPTY)
  const key = labeledExpand(secret, 'key', context, 32)
  const nonce = labeledExpand(secret, 'base_nonce', context, 12)
  secret.fill(0)
  shared.fill(0)
  return { key, nonce }
}

/** RFC 9180 §4. */
function labeledExtract(salt: Uint8Array, label: string, input: Uint8Array): Uint8Array {
  return hkdfExtract(salt, VERSION, SUITE, Buffer.from(label), input)
}

function labeledExpand(key: Uint8Array, label: string, info: Uint8Array, length: number): Uint8Array {
  const labeled = Buffer.concat([Uint8Array.of(0, length), VERSION, SUITE, Buffer.from(label), info])
  return hkdfExpand(key, labeled, length)
}
