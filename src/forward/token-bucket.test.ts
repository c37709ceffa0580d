import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { TokenBucket } from './token-bucket.ts'

test('over any length of time no more passes than the rate and one burst', () => {
  const random = seededRandom('bucket')
  const rate = 1_000_000
  const bucket = new TokenBucket(rate, 0)
  let passed = 0
  let now = 0
  for (let i = 0; i < 200_000; i++) {
    const [size = 0, wait = 0] = random(2)
    now += wait / 500
    if (bucket.take(6 * size, now)) passed += 6 * size
    assert.ok(passed <= (rate / 1000) * (now + 100))
  }
  assert.ok(passed > (rate / 1000) * now * 0.97, 'and hardly less, when more is wanted')
})

test('silence saves up a burst and no more', () => {
  const bucket = new TokenBucket(10_000_000, 0)
  assert.ok(bucket.take(1_000_000, 3_600_000))
  assert.equal(bucket.take(1, 3_600_000), false)
  assert.equal(bucket.take(10_001, 3_600_001), false)
  assert.ok(bucket.take(10_000, 3_600_001))
})

test('a low rate still lets the largest datagram through, and a clock that stands lets nothing more', () => {
  const bucket = new TokenBucket(8_000, 0)
  let passed = 0
  while (bucket.take(1_500, 0)) passed++
  assert.equal(passed, Math.floor(65_536 / 1_500))
  assert.equal(bucket.take(1_500, 0), false)
})

test('without a limit everything passes', () => {
  const bucket = new TokenBucket(Number.POSITIVE_INFINITY, 0)
  for (let i = 0; i < 1_000; i++) assert.ok(bucket.take(1e12, 0))
})
