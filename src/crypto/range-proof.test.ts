import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Transcript } from './merlin.ts'
import { seededRandom } from './random.ts'
import { commit, complement, complementBlinding, proveRange, type RangeBits, verifyRange } from './range-proof.ts'

const VECTORS = new URL('../../../shared/vectors/ratchet-and-proofs/bulletproofs-range.json', import.meta.url)
const random = seededRandom('range proofs')

interface Vector {
  readonly n: RangeBits
  readonly m: number
  readonly proof: string
  readonly commitments: readonly string[]
  readonly transcript_label: string
}

test('the proofs of another implementation hold, for as many bits and commitments as they say', t => {
  if (!existsSync(VECTORS)) return t.skip('the third-party vectors are not beside the repository')
  const { vectors } = JSON.parse(readFileSync(VECTORS, 'utf8')) as { vectors: Vector[] }
  assert.ok(vectors.length > 5)
  for (const { n, m, proof, commitments, transcript_label: label } of vectors) {
    const points = commitments.slice(0, m).map(fromHex)
    const holds = (bits: RangeBits, values: Uint8Array[], bytes: Uint8Array, name = label) =>
      verifyRange(name, bits, values, bytes, random)
    assert.equal(holds(n, points, fromHex(proof)), true, `${n} bits, ${m} values`)
    if (n > 16) continue
    assert.equal(holds(n, points, fromHex(proof), 'another label'), false)
    assert.equal(holds(n === 8 ? 16 : 8, points, fromHex(proof)), false)
    if (m > 1) assert.equal(holds(n, points.toReversed(), fromHex(proof)), false)
    for (const at of [0, 33, 70, 130, 170, 210, 230, proof.length / 2 - 40])
      assert.equal(holds(n, points, flip(fromHex(proof), at)), false, `byte ${at}`)
  }
})

test('a transcript gives the challenge of the Merlin crate for the same messages', () => {
  const transcript = new Transcript('test protocol')
  transcript.append('some label', Buffer.from('some data'))
  assert.equal(
    Buffer.from(transcript.challenge('challenge', 32)).toString('hex'),
    'd5a21972d0d5fe320c0d263fac7fffb8145aa640af6e9bca177c03c7efcf0615',
  )
})

test('what is in the range is proved, and what is not cannot be', () => {
  for (const [bits, value] of [
    [8, 0n],
    [8, 255n],
    [16, 40_000n],
    [32, 2n ** 32n - 1n],
  ] as const) {
    const secret = commit(value, random)
    const proof = proveRange('test', bits, value, secret, random)
    assert.equal(verifyRange('test', bits, [secret.commitment], proof, random), true)
    assert.equal(verifyRange('test', bits, [commit(value, random).commitment], proof, random), false)
    assert.throws(() => proveRange('test', bits, 2n ** BigInt(bits), secret, random), RangeError)
  }
  const secret = commit(300n, random)
  const forged = proveRange('test', 8, 44n, secret, random)
  assert.equal(verifyRange('test', 8, [secret.commitment], forged, random), false, '300 passed off as its last 8 bits')
})

test('every truncation, trailing byte and other length of a proof is refused, and no bytes make it throw', () => {
  const secret = commit(7n, random)
  const proof = proveRange('test', 8, 7n, secret, random)
  for (let length = 0; length < proof.length; length += 31)
    assert.equal(verifyRange('test', 8, [secret.commitment], proof.subarray(0, length), random), false)
  assert.equal(verifyRange('test', 8, [secret.commitment], Buffer.concat([proof, Buffer.alloc(1)]), random), false)
  assert.equal(verifyRange('test', 8, [], proof, random), false)
  assert.equal(verifyRange('test', 8, [new Uint8Array(32).fill(255)], proof, random), false)
  for (let i = 0; i < 20; i++)
    assert.equal(verifyRange('test', 8, [secret.commitment], random(proof.length), random), false)
})

test('who knows a total and a commitment knows the commitment to the difference', () => {
  const { commitment, blinding } = commit(30n, random)
  const rest = complement(100n, commitment) ?? assert.fail()
  const proof = proveRange('rest', 8, 70n, { commitment: rest, blinding: complementBlinding(blinding) }, random)
  assert.equal(verifyRange('rest', 8, [rest], proof, random), true)
  assert.equal(complement(1n, new Uint8Array(32).fill(255)), undefined)
})

function fromHex(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'hex'))
}

function flip(bytes: Uint8Array, at: number): Uint8Array {
  return bytes.with(at, (bytes[at] ?? 0) ^ 1)
}
