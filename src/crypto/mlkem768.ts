// ML-KEM-768 (FIPS 203) over node:crypto.

import {
  createPrivateKey,
  createPublicKey,
  decapsulate,
  encapsulate,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto'

export const MLKEM_PUBLIC_BYTES = 1184
export const MLKEM_CIPHERTEXT_BYTES = 1088

export interface MlKemKeyPair {
  readonly publicKey: Uint8Array
  readonly privateKey: KeyObject
}

/** A new key pair from the system's randomness. */
export function generateMlKem(): MlKemKeyPair {
  const { publicKey, privateKey } = generateKeyPairSync('ml-kem-768')
  return { publicKey: publicKey.export({ format: 'raw-public' }), privateKey }
}

/** The key pair of a 64-byte seed (d, then z). */
export function mlKemFromSeed(seed: Uint8Array): MlKemKeyPair {
  const privateKey = createPrivateKey({ key: seed, format: 'raw-seed', asymmetricKeyType: 'ml-kem-768' })
  return { publicKey: createPublicKey(privateKey).export({ format: 'raw-public' }), privateKey }
}

/** A fresh 32-byte secret and its 1,088-byte ciphertext; `undefined` for an invalid public key. */
export function encapsulateMlKem(
  publicKey: Uint8Array,
): { readonly secret: Uint8Array; readonly ciphertext: Uint8Array } | undefined {
  if (publicKey.length !== MLKEM_PUBLIC_BYTES) return undefined
  try {
    const key = createPublicKey({ key: publicKey, format: 'raw-public', asymmetricKeyType: 'ml-kem-768' })
    const { sharedKey, ciphertext } = encapsulate(key)
    return { secret: sharedKey, ciphertext }
  } catch {
    return undefined
  }
}

/**
 * The 32-byte secret of a ciphertext; `undefined` for one of the wrong length. A forged ciphertext gives a secret that
 * nobody else knows (implicit rejection).
 */
export function decapsulateMlKem(privateKey: KeyObject, ciphertext: Uint8Array): Uint8Array | undefined {
  if (ciphertext.length !== MLKEM_CIPHERTEXT_BYTES) return undefined
  try {
    return decapsulate(privateKey, ciphertext)
  } catch {
    return undefined
  }
}
