import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CapacityMeter, MIN_KBIT } from './capacity.ts'

test('the highest rate over ten seconds counts, up to the limit of the operator', () => {
  const meter = new CapacityMeter()
  assert.equal(meter.kbit(100_000), MIN_KBIT, 'nothing was shown yet')
  assert.equal(meter.kbit(500), 500, 'a small limit is a limit')
  meter.sample(0, 0)
  meter.sample(50_000_000, 10_000)
  meter.sample(50_000_001, 20_000)
  assert.equal(meter.kbit(100_000), 40_000)
  assert.equal(meter.kbit(30_000), 30_000)
})

test('samples that come too soon do not make a peak of a burst', () => {
  const meter = new CapacityMeter()
  meter.sample(0, 0)
  meter.sample(50_000_000, 100)
  meter.sample(50_000_000, 10_000)
  assert.equal(meter.kbit(1_000_000), 40_000)
})

test('a peak is forgotten after a day, and never more than 24 are kept', () => {
  const meter = new CapacityMeter()
  meter.sample(0, 0)
  meter.sample(50_000_000, 10_000)
  let bytes = 50_000_000
  for (let hour = 1; hour < 24; hour++) meter.sample((bytes += 1_000), hour * 3_600_000)
  assert.equal(meter.kbit(1_000_000), 40_000)
  for (let hour = 24; hour < 60; hour++) meter.sample((bytes += 1_000), hour * 3_600_000)
  assert.equal(meter.kbit(1_000_000), MIN_KBIT)
})
