import assert from 'node:assert/strict'
import test from 'node:test'
import { percentile } from './percentile.ts'

test('a percentile is the value of the nearest rank, in whatever order the values come', () => {
  const values = [15, 20, 35, 40, 50].toReversed()
  assert.deepEqual(
    [5, 30, 40, 50, 99, 100].map(percent => percentile(values, percent)),
    [15, 20, 20, 35, 50, 50],
  )
})

test('one value is every percentile, and no values have none', () => {
  assert.equal(percentile([7], 1), 7)
  assert.equal(percentile([7], 100), 7)
  assert.equal(percentile([], 50), undefined)
})

test('lost messages move the upper percentiles to infinity', () => {
  const values = Array.from({ length: 98 }, () => 1)
  assert.equal(percentile([...values, Infinity, Infinity], 98), 1)
  assert.equal(percentile([...values, Infinity, Infinity], 99), Infinity)
})
