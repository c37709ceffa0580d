import assert from 'node:assert/strict'
import { test } from 'node:test'
import { place, type WorkerLoad } from './placement.ts'

function worker(sessions: number, busy = 0, isUp = true): WorkerLoad {
  return { sessions, busy, isUp }
}

test('the first worker takes the first sessions, and then the next is started', () => {
  assert.equal(place([worker(0)], 4), 0)
  assert.equal(place([worker(1)], 4), 0)
  assert.equal(place([worker(2)], 4), 1)
  assert.equal(place([worker(2), worker(2)], 4), 2)
})

test('where as many run as there may be, the one with the fewest sessions takes the next', () => {
  assert.equal(place([worker(7), worker(5), worker(6)], 3), 1)
  assert.equal(place([worker(7)], 1), 0)
})

test('a worker that has much to do is left alone, whatever others have', () => {
  assert.equal(place([worker(1, 0.9), worker(50)], 2), 1)
  assert.equal(place([worker(1, 0.3)], 2), 1)
  // Little differences say nothing.
  assert.equal(place([worker(5, 0.11), worker(9, 0.08)], 2), 0)
})

test('a worker that is started again gets nothing, and when none is left the first does', () => {
  assert.equal(place([worker(0, 0, false), worker(1)], 2), 1)
  assert.equal(place([worker(0, 0, false), worker(0, 0, false)], 2), 0)
  assert.equal(place([worker(0, 0, false)], 2), 1)
})

test('more than four run only where there is work', () => {
  const four = [worker(9), worker(9), worker(9), worker(8)]
  assert.equal(place(four, 8), 3)
  assert.equal(
    place(
      four.map(({ sessions }) => worker(sessions, 0.5)),
      8,
    ),
    4,
  )
})
