import assert from 'node:assert/strict'
import test from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { Backoff, jittered } from './backoff.ts'

test('waits double up to a bound, and begin anew after a success', () => {
  const backoff = new Backoff({ firstMs: 100, mostMs: 700, random: length => new Uint8Array(length).fill(0) })
  assert.deepEqual(
    [1, 2, 3, 4, 5].map(() => backoff.fail()),
    [50, 100, 200, 350, 350],
  )
  backoff.succeed()
  assert.equal(backoff.fail(), 50)
})

test('two nodes that fail together do not come back together', () => {
  const waits = Array.from({ length: 200 }, (_, i) => jittered(1_000, seededRandom(`node ${i}`)))
  assert.ok(waits.every(wait => wait >= 500 && wait <= 1_500))
  assert.ok(new Set(waits).size > 80)
})
