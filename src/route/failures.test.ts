import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failures } from './failures.ts'

test('a relay that fails is left alone for 20 s, then 40 s, and never for longer than 10 minutes', () => {
  const failures = new Failures()
  let now = 0
  for (const seconds of [20, 40, 80, 160, 320, 600, 600]) {
    failures.handleFailure('a', false, now)
    assert.ok(failures.avoided(now + seconds * 1_000 - 1).has('a'))
    now += seconds * 1_000
    assert.equal(failures.avoided(now).has('a'), false)
    assert.ok(failures.doubted(now).has('a'))
  }
  assert.equal(failures.askAgain(now), false)
  failures.handleSuccess(['a'])
  assert.equal(failures.doubted(now).has('a'), false)
})

test('three failures in a row, and a relay counts as gone', () => {
  const failures = new Failures()
  for (const expected of [false, false, true]) {
    failures.handleFailure('a', false, 0)
    assert.equal(failures.gone(1).has('a'), expected)
  }
})

test('failures while nobody is heard are doubtful: who failed is asked again after the others, and forgiven by any answer', () => {
  const failures = new Failures()
  for (let now = 0; now < 90_000; now += 2_000) {
    for (const id of ['a', 'b', 'c']) {
      assert.equal(failures.avoided(now).has(id), false)
      failures.handleFailure(id, true, now)
      assert.ok(failures.avoided(now).has(id))
    }
    assert.equal(failures.gone(now).size, 0)
    assert.ok(failures.askAgain(now))
  }
  failures.handleFailure('a', true, 90_000)
  assert.equal(failures.askAgain(90_000), false, 'after a minute and a half others may be asked')
  failures.handleSuccess(['d'])
  assert.deepEqual([...failures.avoided(90_000), ...failures.doubted(90_000)], [])
  failures.handleFailure('a', true, 200_000)
  assert.ok(failures.askAgain(200_000), 'another silence has its own time')
})

test('of too many relays the oldest is forgotten', () => {
  const failures = new Failures()
  for (let i = 0; i < 3_000; i++) for (const isDoubtful of [true, false]) failures.handleFailure(`${i}`, isDoubtful, 0)
  assert.ok(failures.avoided(1).size <= 2 * 1_024)
  assert.ok(failures.avoided(1).has('2999'))
})
