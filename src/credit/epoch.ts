// A relay's statement of what it earned: per epoch (a day, UTC), so many tokens of this issuer, under a Merkle root. Whoever
// doubts it asks for entries by number and checks each: it is a token that the issuer signed, it stands at that place, and
// its neighbour's nonce is greater, so that none is counted twice. Nothing in it says who paid.
//
//   offset size  field (integers little-endian)
//   0      4     "HES1"
//   4      32    the issuer's id
//   36     4     epoch: days since 1970
//   40     4     number of tokens
//   44     32    Merkle root over the tokens (354 bytes each), in the order of their nonces
//   76     1984  the relay's identity
//   2060   3373  signature over all before it, purpose "hoplite earnings v1"
//
// Length policy: exact, 5,433 bytes.

import { copyBytes } from '#bytes/copy.ts'
import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { verifyBlindSignature } from '#crypto/blind-rsa.ts'
import { IDENTITY_PUBLIC_BYTES, IDENTITY_SIGNATURE_BYTES, type Identity, verifySignature } from '#crypto/signature.ts'
import { decodeToken, encodeToken, type Token, tokenInput } from '#wire/token.ts'
import type { IssuerKeys } from './keys.ts'
import { merkleProof, merkleRoot, verifyMerkleProof } from './merkle.ts'

const MAGIC = Buffer.from('HES1')
const CONTEXT = 'hoplite earnings v1'
const SIGNED_BYTES = 76 + IDENTITY_PUBLIC_BYTES
const EPOCH_MS = 86_400_000

export interface EpochStatement {
  readonly issuerId: string
  readonly epoch: number
  readonly total: number
  readonly root: Uint8Array
  /** The relay's public identity. */
  readonly identity: Uint8Array
}

/** One entry with its proof, as a relay answers a question. */
export interface EpochEntry {
  readonly index: number
  readonly token: Uint8Array
  readonly proof: readonly Uint8Array[]
}

/** The epoch of a time. */
export function epochOf(now: number): number {
  return Math.floor(now / EPOCH_MS)
}

/** The signed statement about the tokens of an epoch, in any order. */
export function stateEpoch(issuerId: string, epoch: number, tokens: readonly Token[], identity: Identity): Uint8Array {
  const entries = entriesOf(tokens)
  const signed = new Writer(SIGNED_BYTES)
    .bytes(MAGIC)
    .bytes(Buffer.from(issuerId, 'hex'))
    .u32le(epoch)
    .u32le(entries.length)
    .bytes(merkleRoot(entries))
    .bytes(identity.publicKey)
    .done()
  return Buffer.concat([signed, identity.sign(signed, CONTEXT)])
}

/** Reads a statement; `undefined` when it is malformed or not signed by the relay that it names. */
export function readEpochStatement(bytes: Uint8Array): EpochStatement | undefined {
  if (bytes.length !== SIGNED_BYTES + IDENTITY_SIGNATURE_BYTES) return undefined
  const reader = new Reader(copyBytes(bytes))
  if (!MAGIC.equals(reader.bytes(4))) return undefined
  const issuerId = Buffer.from(reader.bytes(32)).toString('hex')
  const [epoch, total] = [reader.u32le(), reader.u32le()]
  const root = reader.bytes(32)
  const identity = reader.bytes(IDENTITY_PUBLIC_BYTES)
  const isSigned = verifySignature(identity, copyBytes(bytes, 0, SIGNED_BYTES), reader.rest(), CONTEXT)
  return isSigned ? { issuerId, epoch, total, root, identity } : undefined
}

/** Entry `index` of an epoch's tokens, with its proof. */
export function proveEntry(tokens: readonly Token[], index: number): EpochEntry {
  const entries = entriesOf(tokens)
  return { index, token: entries[index] ?? new Uint8Array(), proof: merkleProof(entries, index) }
}

/** What is wrong with entries that a relay gave; `undefined` when nothing is. `keys` are the issuer's of that time. */
export function doubtEntries(
  statement: EpochStatement,
  entries: readonly EpochEntry[],
  keys: IssuerKeys,
): 'otherIssuer' | 'notIncluded' | 'forged' | 'outOfOrder' | undefined {
  if (keys.issuerId !== statement.issuerId) return 'otherIssuer'
  const byIndex = new Map<number, Uint8Array>()
  for (const { index, token: bytes, proof } of entries) {
    if (!verifyMerkleProof(statement.root, statement.total, index, bytes, proof)) return 'notIncluded'
    const token = decodeToken(bytes)
    const key = token && keys.keys.get(Buffer.from(token.keyId).toString('hex'))
    if (key === undefined || !Buffer.from(keys.challengeDigest).equals(token?.challengeDigest ?? new Uint8Array()))
      return 'forged'
    if (token === undefined || !verifyBlindSignature(key, tokenInput(token), token.authenticator)) return 'forged'
    byIndex.set(index, token.nonce)
  }
  for (const [index, nonce] of byIndex) {
    const next = byIndex.get(index + 1)
    if (next !== undefined && Buffer.compare(nonce, next) >= 0) return 'outOfOrder'
  }
  return undefined
}

function entriesOf(tokens: readonly Token[]): Uint8Array[] {
  return tokens.toSorted((a, b) => Buffer.compare(a.nonce, b.nonce)).map(encodeToken)
}
