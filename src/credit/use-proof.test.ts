import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { proveUse, verifyUse } from './use-proof.ts'

const random = seededRandom('use proofs')
const claim = { firstEpoch: 20_000, lastEpoch: 20_006, bound: 100 }

test('a use within its bound is proved without being told, and another bound or time is another proof', () => {
  const proof = proveUse(claim, 37, random)
  assert.deepEqual(verifyUse(proof, random), claim)
  for (const at of [0, 5, 9, 12, 20, 60, 300, 700, 1_263])
    assert.equal(verifyUse(proof.with(at, (proof[at] ?? 0) ^ 1), random), undefined, `byte ${at}`)
  assert.equal(verifyUse(proof.subarray(1), random), undefined)
  assert.equal(verifyUse(Buffer.concat([proof, proof]), random), undefined)
})

test('both ends of the range can be proved, and nothing beyond', () => {
  for (const used of [0, 100]) assert.deepEqual(verifyUse(proveUse(claim, used, random), random), claim)
  for (const used of [-1, 101]) assert.throws(() => proveUse(claim, used, random), RangeError)
})
