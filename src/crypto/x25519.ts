// X25519 (RFC 7748) over node:crypto, with keys as 32 bytes.

import { createPrivateKey, createPublicKey, diffieHellman, generateKeyPairSync, type KeyObject } from 'node:crypto'

export interface X25519KeyPair {
  readonly publicKey: Uint8Array
  readonly privateKey: Uint8Array
}

/** A private key that is used often: imported once. */
export interface X25519PrivateKey {
  readonly handle: KeyObject
}

/** A new key pair from the system's randomness. */
export function generateX25519(): X25519KeyPair {
  const { publicKey, privateKey } = generateKeyPairSync('x25519')
  return {
    publicKey: publicKey.export({ format: 'raw-public' }),
    privateKey: privateKey.export({ format: 'raw-private' }),
  }
}

/** The key pair of 32 private bytes. */
export function x25519FromPrivate(privateKey: Uint8Array): X25519KeyPair {
  const handle = importX25519(privateKey).handle
  return { privateKey, publicKey: createPublicKey(handle).export({ format: 'raw-public' }) }
}

/** Imports 32 private bytes, which are not kept. */
export function importX25519(privateKey: Uint8Array): X25519PrivateKey {
  return {
    handle: createPrivateKey({ key: privateKey, format: 'raw-private', asymmetricKeyType: 'x25519' }),
  }
}

/** Whether a public key from a stranger gives a secret at all: 32 bytes, and no point of low order. */
export function isUsableX25519(publicKey: Uint8Array): boolean {
  return x25519(PROBE, publicKey) !== undefined
}

/** The 32-byte shared secret; `undefined` for a public key that gives none (wrong length, or an all-zero result). */
export function x25519(privateKey: Uint8Array | X25519PrivateKey, publicKey: Uint8Array): Uint8Array | undefined {
  if (publicKey.length !== 32) return undefined
  const own = privateKey instanceof Uint8Array ? importX25519(privateKey) : privateKey
  try {
    const theirs = createPublicKey({ key: publicKey, format: 'raw-public', asymmetricKeyType: 'x25519' })
    const secret = diffieHellman({ privateKey: own.handle, publicKey: theirs })
    return secret.every(byte => byte === 0) ? undefined : secret
  } catch {
    return undefined
  }
}

/** Any private key tells low order from high: clamping makes every one a multiple of eight. */
const PROBE = importX25519(new Uint8Array(32).fill(8))
