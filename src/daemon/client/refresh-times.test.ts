import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RefreshTimes } from './refresh-times.ts'

test('a directory that fills is asked for often, one that nobody adds to less and less, a full one once an hour', () => {
  const times = new RefreshTimes()
  assert.equal(times.waitMs(0, false, 5_000), 0, 'at the start')
  times.handleRefreshed(true, 0, 1)
  assert.equal(times.waitMs(3, false, 100), 600)
  const waits = Array.from({ length: 9 }, () => {
    times.handleRefreshed(false, 0, 1)
    return times.waitMs(3, false, 0)
  })
  assert.deepEqual([waits[0], waits[1], waits.at(-1)], [1_400, 2_800, 60_000])
  times.handleRefreshed(false, 0, 1.2)
  assert.equal(times.waitMs(12, false, 0), 4_320_000)
})

test('who finds no way through many relays asks soon, also long before the hour is over', () => {
  const times = new RefreshTimes()
  times.handleRefreshed(false, 0, 1)
  assert.equal(times.waitMs(40, false, 600_000), 3_000_000)
  assert.equal(times.waitMs(40, true, 600_000), 0)
  times.handleRefreshed(true, 600_000, 1)
  assert.equal(times.waitMs(40, true, 600_000), 700, 'there was something new: perhaps there is more')
  assert.equal(times.waitMs(40, false, 600_700), 3_599_300)
})
