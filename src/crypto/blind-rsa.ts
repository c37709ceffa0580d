// Blind signatures: RSABSSA-SHA384-PSS-Deterministic (RFC 9474), with RSA-2048 keys as RFC 9578 §6 encodes them.
//
// Blinding and finalizing are `@cloudflare/blindrsa-ts`. Signing and verifying, which issuers and relays do all day, are
// node:crypto: the raw RSA operation (1,000 times as fast as the library's) and RSASSA-PSS.

import {
  constants,
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
  verify,
  webcrypto,
} from 'node:crypto'
import { RSABSSA } from '@cloudflare/blindrsa-ts'
import { Secret } from '#bytes/secret.ts'

const MODULUS_BYTES = 256
const SALT_BYTES = 48
/** DER in front of an RSAPublicKey of 270 bytes: id-RSASSA-PSS with SHA-384, MGF1 with SHA-384, salt length 48. */
const PSS_PREFIX = Buffer.from(
  '30820152303d06092a864886f70d01010a3030a00d300b0609608648016503040202a11a301806092a864886f70d010108300b06096086480165' +
    '03040202a2030201300382010f00',
  'hex',
)
const PKCS1_BYTES = 270
/** In an RSAPublicKey: behind the sequence, the integer's length and its zero byte. */
const MODULUS_OFFSET = 9

/** The public key of an issuer's tokens. */
export interface TokenKey {
  /** As it is published: SubjectPublicKeyInfo in DER, 342 bytes. */
  readonly encoded: Uint8Array
  /** SHA-256 of `encoded`. */
  readonly id: Uint8Array
  readonly key: KeyObject
}

/** What a wallet keeps between blinding and finalizing. */
export interface Blinded {
  /** To be signed; 256 bytes. */
  readonly message: Uint8Array
  /** The inverse of the blinding factor, 256 bytes. Whoever knows it can link signature and message. */
  readonly inverse: Uint8Array
}

/** A new key pair of an issuer; the secret is the private key in PKCS #8. Takes about a tenth of a second. */
export function generateTokenKey(): { readonly publicKey: TokenKey; readonly secret: Secret } {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: MODULUS_BYTES * 8 })
  const secret = new Secret(privateKey.export({ format: 'der', type: 'pkcs8' }))
  return { publicKey: tokenKeyOf(publicKey), secret }
}

/** The private key of `generateTokenKey`'s secret. Throws for anything else: it is ours. */
export function importTokenSecret(pkcs8: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.from(pkcs8), format: 'der', type: 'pkcs8' })
}

/** The public half of a private key. */
export function publicTokenKey(privateKey: KeyObject): TokenKey {
  return tokenKeyOf(createPublicKey(privateKey))
}

/** Reads a published key; `undefined` unless it is RSA-2048 with exponent 65,537, encoded exactly as RFC 9578 says. */
export function importTokenKey(encoded: Uint8Array): TokenKey | undefined {
  const bytes = Buffer.from(encoded)
  if (bytes.length !== PSS_PREFIX.length + PKCS1_BYTES) return undefined
  if (!bytes.subarray(0, PSS_PREFIX.length).equals(PSS_PREFIX)) return undefined
  try {
    const key = createPublicKey({ key: bytes.subarray(PSS_PREFIX.length), format: 'der', type: 'pkcs1' })
    const { modulusLength, publicExponent } = key.asymmetricKeyDetails ?? {}
    if (modulusLength !== MODULUS_BYTES * 8 || publicExponent !== 65_537n) return undefined
    const again = tokenKeyOf(key)
    return bytes.equals(again.encoded) ? again : undefined
  } catch {
    return undefined
  }
}

/**
 * Blinds a message for a signature by `key`, with the system's randomness. Takes about 20 ms.
 * Source: RFC 9474 §4.2.
 */
export async function blind(key: TokenKey, message: Uint8Array): Promise<Blinded> {
  const { blindedMsg, inv } = await suite().blind(await webKey(key), owned(message))
  return { message: blindedMsg, inverse: inv }
}

/**
 * The signature of `message`, 256 bytes; `undefined` when the issuer did not sign what it was given.
 * Source: RFC 9474 §4.4.
 */
export async function finalize(
  key: TokenKey,
  message: Uint8Array,
  blindSignature: Uint8Array,
  inverse: Uint8Array,
): Promise<Uint8Array | undefined> {
  try {
    return await suite().finalize(await webKey(key), owned(message), owned(blindSignature), owned(inverse))
  } catch {
    return undefined
  }
}

/** Whether bytes are what `blindSign` takes: 256, and as a number below the key's modulus. */
export function isBelowModulus(key: TokenKey, bytes: Uint8Array): boolean {
  const at = PSS_PREFIX.length + MODULUS_OFFSET
  return bytes.length === MODULUS_BYTES && Buffer.compare(bytes, key.encoded.subarray(at, at + MODULUS_BYTES)) < 0
}

/** Signs a blinded message; `undefined` when it is no number below the modulus. Source: RFC 9474 §4.3. */
export function blindSign(privateKey: KeyObject, blinded: Uint8Array): Uint8Array | undefined {
  try {
    const signature = privateDecrypt({ key: privateKey, padding: constants.RSA_NO_PADDING }, blinded)
    // A fault in the private operation would give the key away: RFC 9474 has the result checked before it leaves.
    const again = publicEncrypt({ key: privateKey, padding: constants.RSA_NO_PADDING }, signature)
    return again.equals(blinded) ? signature : undefined
  } catch {
    return undefined
  }
}

/** Whether `signature` is one of `message`. Malformed input gives false. */
export function verifyBlindSignature(key: TokenKey, message: Uint8Array, signature: Uint8Array): boolean {
  const options = { key: key.key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: SALT_BYTES }
  return verify('sha384', message, options, signature)
}

function tokenKeyOf(key: KeyObject): TokenKey {
  const encoded = Buffer.concat([PSS_PREFIX, key.export({ format: 'der', type: 'pkcs1' })])
  return { encoded, id: createHash('sha256').update(encoded).digest(), key }
}

function suite(): ReturnType<typeof RSABSSA.SHA384.PSS.Deterministic> {
  return RSABSSA.SHA384.PSS.Deterministic()
}

const webKeys = new WeakMap<KeyObject, Promise<webcrypto.CryptoKey>>()

/** The same key for the library, which wants WebCrypto's form. */
function webKey({ key }: TokenKey): Promise<webcrypto.CryptoKey> {
  const known = webKeys.get(key)
  if (known !== undefined) return known
  const spki = key.export({ format: 'der', type: 'spki' })
  const made = webcrypto.subtle.importKey('spki', spki, { name: 'RSA-PSS', hash: 'SHA-384' }, true, ['verify'])
  webKeys.set(key, made)
  return made
}

/** The library reads whole array buffers. */
function owned(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes)
}
