// A credit on the wire: a publicly verifiable token (RFC 9577 §2.2 Token, RFC 9578 §6 token type 2, blind RSA 2048).
//
//   offset size  field
//   0      2     token type, big-endian, 2
//   2      32    nonce, chosen by the wallet; what is remembered as spent
//   34     32    challenge digest: SHA-256 of the TokenChallenge below
//   66     32    token key id: SHA-256 of the issuer's public key as RFC 9578 encodes it
//   98     256   authenticator: RSASSA-PSS signature (SHA-384, salt 48) of the 98 bytes before it
//
// Length policy: exact, 354 bytes.
//
//   TokenChallenge (RFC 9577 §2.1.1), all integers big-endian
//   0      2     token type, 2
//   2      2     length of the issuer's name, then the name
//   …      1     length of the redemption context, 0: a token is good at any relay and at any time
//   …      2     length of the origin information, 0
//
// Every token of an issuer has the same digest, so that it tells two wallets as little apart as the key does.

import { createHash } from 'node:crypto'
import { copyBytes } from '#bytes/copy.ts'
import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'

const TOKEN_TYPE = 2
export const TOKEN_BYTES = 354
export const TOKEN_INPUT_BYTES = 98
export const NONCE_BYTES = 32
/** Of an RSA-2048 number: a blinded message, a blind signature, an authenticator. */
export const RSA_BYTES = 256

export interface Token {
  readonly nonce: Uint8Array
  readonly challengeDigest: Uint8Array
  readonly keyId: Uint8Array
  readonly authenticator: Uint8Array
}

/** The 354 bytes of a token. */
export function encodeToken(token: Token): Uint8Array {
  return new Writer(TOKEN_BYTES).bytes(tokenInput(token)).bytes(token.authenticator).done()
}

/** A token with fields of its own; `undefined` when the bytes are no token of type 2. */
export function decodeToken(bytes: Uint8Array): Token | undefined {
  if (bytes.length !== TOKEN_BYTES) return undefined
  const reader = new Reader(copyBytes(bytes))
  const type = (reader.u8() << 8) | reader.u8()
  const token = {
    nonce: reader.bytes(32),
    challengeDigest: reader.bytes(32),
    keyId: reader.bytes(32),
    authenticator: reader.bytes(RSA_BYTES),
  }
  return type === TOKEN_TYPE && reader.done ? token : undefined
}

/** The 98 bytes that the authenticator signs. */
export function tokenInput(token: Omit<Token, 'authenticator'>): Uint8Array {
  return new Writer(TOKEN_INPUT_BYTES)
    .u8(0)
    .u8(TOKEN_TYPE)
    .bytes(token.nonce)
    .bytes(token.challengeDigest)
    .bytes(token.keyId)
    .done()
}

/** The challenge digest of all tokens of the issuer of this name (1 to 255 ASCII characters). */
export function challengeDigest(issuerName: string): Uint8Array {
  const name = Buffer.from(issuerName, 'latin1')
  const challenge = new Writer(name.length + 7).u8(0).u8(TOKEN_TYPE).u8(0).u8(name.length).bytes(name).zeros(3).done()
  return createHash('sha256').update(challenge).digest()
}
