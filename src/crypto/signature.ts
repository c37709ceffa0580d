// Hybrid signatures: Ed25519 (RFC 8032) and ML-DSA-65 (FIPS 204) over the same message, and both must hold.
//
//   public key  Ed25519 32 | ML-DSA-65 1952
//   signature   Ed25519 64 | ML-DSA-65 3309
//   secret      Ed25519 seed 32 | ML-DSA-65 seed 32
//
// Both sign the same string: the length of the context in one byte, the context, the message. What is signed for one
// purpose is of no use for another.

import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto'
import { Secret } from '#bytes/secret.ts'

const ED25519_PUBLIC = 32
const ED25519_SIGNATURE = 64
export const IDENTITY_PUBLIC_BYTES = ED25519_PUBLIC + 1952
export const IDENTITY_SIGNATURE_BYTES = ED25519_SIGNATURE + 3309
export const IDENTITY_SEED_BYTES = 64

/** A node's long-term signing key. */
export interface Identity {
  readonly publicKey: Uint8Array
  /** The 64 bytes that `identityFromSeed` takes. */
  readonly seed: Secret
  /** Signs for the purpose named by `context` (1 to 255 ASCII characters). */
  sign(message: Uint8Array, context: string): Uint8Array
}

/** A new identity from the system's randomness. */
export function generateIdentity(): Identity {
  const classical = generateKeyPairSync('ed25519').privateKey.export({ format: 'raw-private' })
  const lattice = generateKeyPairSync('ml-dsa-65').privateKey.export({ format: 'raw-seed' })
  const seed = new Uint8Array(IDENTITY_SEED_BYTES)
  for (const [part, at] of [
    [classical, 0],
    [lattice, 32],
  ] as const) {
    seed.set(part, at)
    part.fill(0)
  }
  const identity = identityFromSeed(seed)
  seed.fill(0)
  return identity
}

/** The identity of 64 secret bytes, of which it keeps a copy. */
export function identityFromSeed(seed: Uint8Array): Identity {
  if (seed.length !== IDENTITY_SEED_BYTES) throw new RangeError('read an identity: a seed is 64 bytes')
  const bytes = Uint8Array.from(seed)
  const classical = createPrivateKey({
    key: bytes.subarray(0, 32),
    format: 'raw-private',
    asymmetricKeyType: 'ed25519',
  })
  const lattice = createPrivateKey({ key: bytes.subarray(32), format: 'raw-seed', asymmetricKeyType: 'ml-dsa-65' })
  const publicKey = Buffer.concat([
    createPublicKey(classical).export({ format: 'raw-public' }),
    createPublicKey(lattice).export({ format: 'raw-public' }),
  ])
  return {
    publicKey,
    seed: new Secret(bytes),
    sign(message, context) {
      const bound = bind(message, context)
      return Buffer.concat([sign(null, bound, classical), sign(null, bound, lattice)])
    },
  }
}

/** Whether both signatures of `message` hold for the purpose named by `context`. Malformed input gives false. */
export function verifySignature(
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
  context: string,
): boolean {
  if (publicKey.length !== IDENTITY_PUBLIC_BYTES || signature.length !== IDENTITY_SIGNATURE_BYTES) return false
  const bound = bind(message, context)
  try {
    return (
      verify(
        null,
        bound,
        publicPart(publicKey, 0, ED25519_PUBLIC, 'ed25519'),
        signature.subarray(0, ED25519_SIGNATURE),
      ) &&
      verify(
        null,
        bound,
        publicPart(publicKey, ED25519_PUBLIC, publicKey.length, 'ml-dsa-65'),
        signature.subarray(ED25519_SIGNATURE),
      )
    )
  } catch {
    return false
  }
}

function publicPart(key: Uint8Array, from: number, to: number, type: 'ed25519' | 'ml-dsa-65'): KeyObject {
  return createPublicKey({ key: key.subarray(from, to), format: 'raw-public', asymmetricKeyType: type })
}

function bind(message: Uint8Array, context: string): Uint8Array {
  const label = Buffer.from(context, 'latin1')
  if (label.length < 1 || label.length > 255) throw new RangeError('sign: a context is 1 to 255 characters')
  return Buffer.concat([Uint8Array.of(label.length), label, message])
}
