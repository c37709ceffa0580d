// X-Wing: a KEM of X25519 and ML-KEM-768, safe while either holds (draft-connolly-cfrg-xwing-kem).
//
//   public key  ML-KEM-768 1184 | X25519 32
//   ciphertext  ML-KEM-768 1088 | X25519 32
//   secret      SHA3-256 of both secrets, the X25519 ciphertext and public key, and a label; 32 bytes
//
// A private key is a seed of 32 bytes, which SHAKE-256 expands.

import { createHash, type KeyObject } from 'node:crypto'
import { copyBytes } from '#bytes/copy.ts'
import {
  decapsulateMlKem,
  encapsulateMlKem,
  MLKEM_CIPHERTEXT_BYTES,
  MLKEM_PUBLIC_BYTES,
  mlKemFromSeed,
} from './mlkem768.ts'
import { generateX25519, importX25519, type X25519PrivateKey, x25519, x25519FromPrivate } from './x25519.ts'

export const XWING_SEED_BYTES = 32
export const XWING_PUBLIC_BYTES = MLKEM_PUBLIC_BYTES + 32
export const XWING_CIPHERTEXT_BYTES = MLKEM_CIPHERTEXT_BYTES + 32
const LABEL = Buffer.from('\\.//^\\', 'latin1')

export interface XWingKeyPair {
  readonly publicKey: Uint8Array
  readonly lattice: KeyObject
  readonly classical: X25519PrivateKey
}

/** The key pair of a 32-byte seed, which is not kept. */
export function xwingFromSeed(seed: Uint8Array): XWingKeyPair {
  if (seed.length !== XWING_SEED_BYTES) throw new RangeError('read an X-Wing key: a seed is 32 bytes')
  const expanded = createHash('shake256', { outputLength: 96 }).update(seed).digest()
  const lattice = mlKemFromSeed(expanded.subarray(0, 64))
  const classical = x25519FromPrivate(copyBytes(expanded, 64, 96))
  const pair = {
    publicKey: copyBytes(Buffer.concat([lattice.publicKey, classical.publicKey])),
    lattice: lattice.privateKey,
    classical: importX25519(classical.privateKey),
  }
  expanded.fill(0)
  classical.privateKey.fill(0)
  return pair
}

/** A fresh 32-byte secret and its 1,120-byte ciphertext; `undefined` for an unusable public key. */
export function encapsulateXWing(
  publicKey: Uint8Array,
): { readonly secret: Uint8Array; readonly ciphertext: Uint8Array } | undefined {
  if (publicKey.length !== XWING_PUBLIC_BYTES) return undefined
  const theirs = publicKey.subarray(MLKEM_PUBLIC_BYTES)
  const lattice = encapsulateMlKem(publicKey.subarray(0, MLKEM_PUBLIC_BYTES))
  const ephemeral = generateX25519()
  const classical = x25519(ephemeral.privateKey, theirs)
  ephemeral.privateKey.fill(0)
  if (lattice === undefined || classical === undefined) return undefined
  return {
    secret: combine(lattice.secret, classical, ephemeral.publicKey, theirs),
    ciphertext: Buffer.concat([lattice.ciphertext, ephemeral.publicKey]),
  }
}

/** The secret of a ciphertext; `undefined` when it has the wrong length or an unusable X25519 part. */
export function decapsulateXWing(pair: XWingKeyPair, ciphertext: Uint8Array): Uint8Array | undefined {
  if (ciphertext.length !== XWING_CIPHERTEXT_BYTES) return undefined
  const ephemeral = ciphertext.subarray(MLKEM_CIPHERTEXT_BYTES)
  const classical = x25519(pair.classical, ephemeral)
  if (classical === undefined) return undefined
  const lattice = decapsulateMlKem(pair.lattice, ciphertext.subarray(0, MLKEM_CIPHERTEXT_BYTES))
  return lattice && combine(lattice, classical, ephemeral, pair.publicKey.subarray(MLKEM_PUBLIC_BYTES))
}

function combine(lattice: Uint8Array, classical: Uint8Array, ephemeral: Uint8Array, theirs: Uint8Array): Uint8Array {
  const hash = createHash('sha3-256').update(lattice).update(classical).update(ephemeral).update(theirs).update(LABEL)
  lattice.fill(0)
  classical.fill(0)
  return hash.digest()
}
