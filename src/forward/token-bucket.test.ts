import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { SharedTokenBucket, TokenBucket } from './token-bucket.ts'

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

test('several threads have one rate together, and one burst', () => {
  const random = seededRandom('shared bucket')
  const rate = 1_234_567
  const cells = new Int32Array(new SharedArrayBuffer(SharedTokenBucket.cells * 4))
  const buckets = Array.from({ length: 4 }, () => new SharedTokenBucket(cells, rate, 0))
  let passed = 0
  let now = 0
  for (let i = 0; i < 200_000; i++) {
    const [size = 0, wait = 0, which = 0] = random(3)
    now += wait / 500
    // Their clocks are a little apart.
    if (buckets[which % 4]?.take(6 * size, now - (which % 4)) === true) passed += 6 * size
    assert.ok(passed <= (rate / 1000) * (now + 101))
  }
  assert.ok(passed > (rate / 1000) * now * 0.97, 'and hardly less, when more is wanted')
})

test('a shared rate of a few bytes a millisecond, after weeks of nothing, and none at all', () => {
  const cells = new Int32Array(SharedTokenBucket.cells)
  const slow = new SharedTokenBucket(cells, 300, 0)
  assert.ok(slow.take(65_536, 0))
  assert.equal(slow.take(1, 1), false)
  for (let ms = 1; ms <= 1_000; ms++) slow.take(1e6, ms)
  assert.ok(slow.take(298, 1_000))
  assert.equal(slow.take(3, 1_000), false)
  assert.ok(slow.take(60_000, 30 * 86_400_000))
  assert.equal(slow.take(60_000, 30 * 86_400_000), false)
  const free = new SharedTokenBucket(cells, Number.POSITIVE_INFINITY, 0)
  assert.ok(free.take(2 ** 40, 0))
})
