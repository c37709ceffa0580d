import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ThreadTimes } from './thread-times.ts'

const skip = process.platform === 'linux' ? false : 'it is Linux that tells'

test('a thread that worked is told from one that did not, once a second at most', { skip }, () => {
  // The main thread's id is the process's.
  const times = new ThreadTimes(worker => (worker === 0 ? process.pid : 0))
  assert.deepEqual(times.busy(2, 0), [0, 0])
  for (const untilMs = performance.now() + 100; performance.now() < untilMs; );
  assert.deepEqual(times.busy(2, 999), [0, 0])
  const [worked = 0, other] = times.busy(2, 1_000)
  assert.ok(worked > 0.005 && worked <= 1, `${worked}`)
  assert.equal(other, 0)
  assert.deepEqual(times.busy(2, 1_500), [worked, 0])
})
