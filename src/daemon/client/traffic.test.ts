import assert from 'node:assert/strict'
import test from 'node:test'
import { Traffic } from './traffic.ts'

test('each sample is what was added since the one before, and the first adds nothing', () => {
  const traffic = new Traffic()
  assert.deepEqual(traffic.sample(1_000, 500, 50), { inward: 0, outward: 0 })
  assert.deepEqual(traffic.sample(2_000, 800, 60), { inward: 300, outward: 10 })
  assert.deepEqual(traffic.history(), { at: 2_000, inward: [0, 300], outward: [0, 10] })
})

test('five minutes are kept', () => {
  const traffic = new Traffic()
  for (let i = 0; i <= 400; i++) traffic.sample(i * 1_000, i, 2 * i)
  const { inward, outward } = traffic.history()
  assert.deepEqual([inward.length, outward.length, inward.at(-1), outward.at(-1)], [300, 300, 1, 2])
})

test('counters that began anew take nothing away', () => {
  const traffic = new Traffic()
  traffic.sample(0, 1_000, 1_000)
  assert.deepEqual(traffic.sample(1_000, 10, 10), { inward: 0, outward: 0 })
})
