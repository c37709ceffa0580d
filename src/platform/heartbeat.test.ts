import assert from 'node:assert/strict'
import test from 'node:test'
import { BEAT_MS, giveSigns, Heartbeat, watchFor } from './heartbeat.ts'

function turns(heartbeat: Heartbeat, count: number): boolean[] {
  return Array.from({ length: count }, () => heartbeat.handleTurn())
}

test('who gives signs is left alone, and who falls silent is found out after half a minute', () => {
  const heartbeat = new Heartbeat()
  heartbeat.handleBeat()
  for (let n = 0; n < 100; n++) {
    assert.deepEqual(turns(heartbeat, 6), Array(6).fill(false))
    heartbeat.handleBeat()
  }
  assert.deepEqual(turns(heartbeat, 7), [...Array(6).fill(false), true])
})

test('who has not begun is not waited for, and neither is one that was found out, until it begins again', () => {
  const heartbeat = new Heartbeat()
  assert.ok(!turns(heartbeat, 100).includes(true))
  heartbeat.handleBeat()
  assert.equal(turns(heartbeat, 100).filter(Boolean).length, 1)
  heartbeat.handleBeat()
  assert.equal(turns(heartbeat, 100).filter(Boolean).length, 1)
})

test('a night in which nobody counted is one turn', t => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const heartbeat = new Heartbeat()
  let silent = 0
  using _ = watchFor(heartbeat, () => silent++)
  heartbeat.handleBeat()
  // Timers that were due many times fire once: so the mocked clock is turned by one period after the sleep.
  t.mock.timers.tick(BEAT_MS)
  heartbeat.handleBeat()
  assert.equal(silent, 0)
  t.mock.timers.tick(7 * BEAT_MS)
  assert.equal(silent, 1)
})

test('while the watcher is busy nothing is missed', t => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const heartbeat = new Heartbeat()
  let [silent, isBusy] = [0, true]
  using _ = watchFor(heartbeat, () => silent++, { isBusy: () => isBusy })
  heartbeat.handleBeat()
  t.mock.timers.tick(100 * BEAT_MS)
  assert.equal(silent, 0)
  isBusy = false
  t.mock.timers.tick(7 * BEAT_MS)
  assert.equal(silent, 1)
})

test('signs do not pile up before somebody who does not read', t => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const waiting: (() => void)[] = []
  using signs = giveSigns(done => waiting.push(done))
  t.mock.timers.tick(100 * BEAT_MS)
  assert.equal(waiting.length, 1)
  waiting[0]?.()
  t.mock.timers.tick(BEAT_MS)
  assert.equal(waiting.length, 2)
  waiting[1]?.()
  signs[Symbol.dispose]()
  t.mock.timers.tick(100 * BEAT_MS)
  assert.equal(waiting.length, 2)
})
