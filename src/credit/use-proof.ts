// A client's proof that it used no more than a bound, which does not say how much: a commitment to the number of credits, and
// two range proofs, that it is not below zero and that the bound less it is not.
//
//   offset size  field (integers little-endian)
//   0      4     "HUP1"
//   4      4     first epoch (days since 1970)
//   8      4     last epoch
//   12     4     bound, in credits
//   16     32    commitment to the credits used in those epochs
//   48     608   proof that they are from 0 to 2^32 - 1
//   656    608   the same of the bound less them
//
// Length policy: exact, 1,264 bytes. The first 16 bytes are the label of both proofs. What the number is a count of is the
// client's word: the proof holds it to one number, without telling it.

import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import type { Random } from '#crypto/random.ts'
import { commit, complement, complementBlinding, proveRange, verifyRange } from '#crypto/range-proof.ts'

const MAGIC = Buffer.from('HUP1')
const HEAD_BYTES = 16
const BITS = 32
const RANGE_BYTES = 608
const USE_PROOF_BYTES = HEAD_BYTES + 32 + 2 * RANGE_BYTES

export interface UseClaim {
  readonly firstEpoch: number
  readonly lastEpoch: number
  /** Credits, below 2^32. */
  readonly bound: number
}

/** Proves that `used` credits are at most the bound. Throws RangeError when they are not. */
export function proveUse(claim: UseClaim, used: number, random: Random): Uint8Array {
  if (used < 0 || used > claim.bound) throw new RangeError('prove the use: it is above the bound')
  const head = new Writer(HEAD_BYTES)
    .bytes(MAGIC)
    .u32le(claim.firstEpoch)
    .u32le(claim.lastEpoch)
    .u32le(claim.bound)
    .done()
  const secret = commit(BigInt(used), random)
  const rest = {
    commitment: complement(BigInt(claim.bound), secret.commitment) ?? new Uint8Array(),
    blinding: complementBlinding(secret.blinding),
  }
  return Buffer.concat([
    ...[head, secret.commitment],
    proveRange(labelOf(head), BITS, BigInt(used), secret, random),
    proveRange(labelOf(head), BITS, BigInt(claim.bound - used), rest, random),
  ])
}

/** What a proof claims; `undefined` when it is malformed or does not hold. */
export function verifyUse(bytes: Uint8Array, random: Random): UseClaim | undefined {
  if (bytes.length !== USE_PROOF_BYTES) return undefined
  const reader = new Reader(bytes)
  if (!MAGIC.equals(reader.bytes(4))) return undefined
  const [firstEpoch, lastEpoch, bound] = [reader.u32le(), reader.u32le(), reader.u32le()]
  const commitment = reader.bytes(32)
  const rest = complement(BigInt(bound), commitment)
  const label = labelOf(bytes.subarray(0, HEAD_BYTES))
  const holds =
    rest !== undefined &&
    verifyRange(label, BITS, [commitment], reader.bytes(RANGE_BYTES), random) &&
    verifyRange(label, BITS, [rest], reader.bytes(RANGE_BYTES), random)
  return holds ? { firstEpoch, lastEpoch, bound } : undefined
}

function labelOf(head: Uint8Array): string {
  return `hoplite use ${Buffer.from(head).toString('hex')}`
}
