// The keys of one issuer: the signed directory, and whether a token is one of theirs. Relays verify offline with it.

import { blake2s } from '#crypto/blake2s.ts'
import { importTokenKey, type TokenKey, verifyBlindSignature } from '#crypto/blind-rsa.ts'
import { IDENTITY_PUBLIC_BYTES, type Identity, verifySignature } from '#crypto/signature.ts'
import {
  type DirectoryKey,
  decodeKeyDirectory,
  encodeKeyDirectory,
  KEY_DIRECTORY_CONTEXT,
  type KeyDirectory,
} from '#wire/key-directory.ts'
import { challengeDigest, type Token, tokenInput } from '#wire/token.ts'

/** Between a relay's last acceptance of a token and the issuer's last redemption of it, at the least. */
export const REDEEM_GRACE_MS = 24 * 3_600_000
/** Clocks may be this far apart. */
export const CLOCK_SKEW_MS = 600_000

/** A key with its times. */
export type IssuerKey = TokenKey & DirectoryKey

export interface IssuerKeys {
  readonly issuer: string
  /** What names the issuer in a configuration: 64 hex digits, the hash of its identity. */
  readonly issuerId: string
  readonly publishedMs: number
  readonly challengeDigest: Uint8Array
  /** By hex id. */
  readonly keys: ReadonlyMap<string, IssuerKey>
}

export type TokenRefusal = 'unknownKey' | 'otherIssuer' | 'notYet' | 'expired' | 'forged'

/** The id of an issuer's identity: 64 hex digits. */
export function issuerIdOf(identity: Uint8Array): string {
  if (identity.length !== IDENTITY_PUBLIC_BYTES) throw new RangeError('name an issuer: an identity has 1984 bytes')
  return Buffer.from(blake2s(identity)).toString('hex')
}

/** The directory of these keys, signed. */
export function signKeyDirectory(directory: Omit<KeyDirectory, 'identity'>, identity: Identity): Uint8Array {
  const bytes = encodeKeyDirectory({ ...directory, identity: identity.publicKey })
  return Buffer.concat([bytes, identity.sign(bytes, KEY_DIRECTORY_CONTEXT)])
}

/** Reads a directory; `undefined` unless it is well formed and signed by the issuer of this id. */
export function openKeyDirectory(bytes: Uint8Array, issuerId: string): IssuerKeys | undefined {
  const opened = decodeKeyDirectory(bytes)
  if (opened === undefined) return undefined
  const { directory, signed, signature } = opened
  if (issuerIdOf(directory.identity) !== issuerId) return undefined
  if (!verifySignature(directory.identity, signed, signature, KEY_DIRECTORY_CONTEXT)) return undefined
  const keys = new Map<string, IssuerKey>()
  for (const entry of directory.keys) {
    const key = importTokenKey(entry.encoded)
    if (key === undefined) return undefined
    keys.set(Buffer.from(key.id).toString('hex'), { ...entry, ...key })
  }
  const { issuer, publishedMs } = directory
  return { issuer, issuerId, publishedMs, challengeDigest: challengeDigest(issuer), keys }
}

/** Why a relay does not take the token now; `undefined` when it does. Whether it was spent is asked elsewhere. */
export function refuseToken(token: Token, keys: IssuerKeys, now: number): TokenRefusal | undefined {
  const key = keys.keys.get(Buffer.from(token.keyId).toString('hex'))
  if (key === undefined) return 'unknownKey'
  if (now > key.acceptedUntilMs) return 'expired'
  return refuseSignature(token, keys, key, now)
}

/** Why the issuer does not redeem the token now. It waits longer than relays do, so that theirs are never too late. */
export function refuseRedemption(token: Token, keys: IssuerKeys, now: number): TokenRefusal | undefined {
  const key = keys.keys.get(Buffer.from(token.keyId).toString('hex'))
  if (key === undefined) return 'unknownKey'
  if (now > key.redeemedUntilMs) return 'expired'
  return refuseSignature(token, keys, key, now)
}

/** The key to withdraw under: of those that sign now, the one that is good for longest. */
export function signingKey(keys: IssuerKeys, now: number): IssuerKey | undefined {
  let best: IssuerKey | undefined
  for (const key of keys.keys.values()) {
    if (key.signsFromMs > now || key.signsUntilMs <= now) continue
    if (best === undefined || key.acceptedUntilMs > best.acceptedUntilMs) best = key
  }
  return best
}

function refuseSignature(token: Token, keys: IssuerKeys, key: IssuerKey, now: number): TokenRefusal | undefined {
  if (now < key.signsFromMs - CLOCK_SKEW_MS) return 'notYet'
  if (!Buffer.from(keys.challengeDigest).equals(token.challengeDigest)) return 'otherIssuer'
  return verifyBlindSignature(key, tokenInput(token), token.authenticator) ? undefined : 'forged'
}
