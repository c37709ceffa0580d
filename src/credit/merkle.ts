// Merkle trees as in RFC 6962 §2.1 and RFC 9162 §2.1: a root over a list, and short proofs that an entry stands at its place.

import { createHash } from 'node:crypto'

export const MAX_PROOF = 64

/** The root of a list of byte strings; of an empty one the hash of nothing. */
export function merkleRoot(entries: readonly Uint8Array[]): Uint8Array {
  if (entries.length === 0) return createHash('sha256').digest()
  let level = entries.map(leafHash)
  while (level.length > 1) level = parents(level)
  return level[0] as Uint8Array
}

/** The proof that entry `index` stands where it does: the hashes beside its way to the root, from below. */
export function merkleProof(entries: readonly Uint8Array[], index: number): Uint8Array[] {
  if (index < 0 || index >= entries.length) throw new RangeError('prove an entry: there is none of this number')
  const proof: Uint8Array[] = []
  let level = entries.map(leafHash)
  for (let at = index; level.length > 1; at >>>= 1) {
    const beside = level[at ^ 1]
    if (beside !== undefined) proof.push(beside)
    level = parents(level)
  }
  return proof
}

/** Whether `entry` is number `index` of the `total` under `root`. Source: RFC 9162 §2.1.3.2. */
export function verifyMerkleProof(
  root: Uint8Array,
  total: number,
  index: number,
  entry: Uint8Array,
  proof: readonly Uint8Array[],
): boolean {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(total) || index < 0 || index >= total) return false
  if (proof.length > MAX_PROOF || proof.some(hash => hash.length !== 32)) return false
  let at = index
  let last = total - 1
  let hash = leafHash(entry)
  for (const beside of proof) {
    if (last === 0) return false
    if (at % 2 === 1 || at === last) {
      hash = nodeHash(beside, hash)
      while (at % 2 === 0 && at !== 0) [at, last] = [Math.floor(at / 2), Math.floor(last / 2)]
    } else {
      hash = nodeHash(hash, beside)
    }
    ;[at, last] = [Math.floor(at / 2), Math.floor(last / 2)]
  }
  return last === 0 && Buffer.from(hash).equals(root)
}

/** One level up; a last one without a partner goes up as it is. */
function parents(level: readonly Uint8Array[]): Uint8Array[] {
  const up: Uint8Array[] = []
  for (let i = 0; i < level.length; i += 2) {
    const [left, right] = [level[i] as Uint8Array, level[i + 1]]
    up.push(right === undefined ? left : nodeHash(left, right))
  }
  return up
}

function leafHash(entry: Uint8Array): Uint8Array {
  return createHash('sha256').update(Uint8Array.of(0)).update(entry).digest()
}

function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return createHash('sha256').update(Uint8Array.of(1)).update(left).update(right).digest()
}
