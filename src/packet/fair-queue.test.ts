import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FairQueue } from './fair-queue.ts'

const SLOTS = 64

test('packets of one flow leave in the order in which they came', () => {
  const queue = new FairQueue(SLOTS)
  for (const slot of [7, 3, 9, 0]) queue.add(slot, 1, 60_000, 0)
  assert.deepEqual(
    Array.from({ length: 5 }, () => queue.take(0)),
    [7, 3, 9, 0, -1],
  )
})

test('a flow that sends little does not wait behind one that sends much', () => {
  const queue = new FairQueue(SLOTS)
  for (let slot = 0; slot < 40; slot++) queue.add(slot, 1, 65_000, 0)
  assert.equal(queue.take(0), 0)
  queue.add(50, 2, 100, 0)
  assert.equal(queue.take(0), 50, 'at once')
  assert.equal(queue.take(0), 1)
  queue.add(51, 2, 100, 0)
  queue.add(52, 3, 100, 0)
  const order = Array.from({ length: 3 }, () => queue.take(0))
  assert.deepEqual(order.toSorted(), [2, 51, 52], 'and each time again within a turn')
})

test('flows share by bytes, not by packets', () => {
  const queue = new FairQueue(1_024)
  for (let slot = 0; slot < 20; slot++) queue.add(slot, 1, 60_000, 0)
  for (let slot = 20; slot < 1_000; slot++) queue.add(slot, 2, 1_200, 0)
  const bytes = [0, 0]
  for (let taken = 0; taken < 400; taken++) {
    const slot = queue.take(0)
    if (slot < 20) bytes[0] += 60_000
    else bytes[1] += 1_200
  }
  assert.ok(Math.abs(bytes[0] - bytes[1]) <= 2 * 60_000, `${bytes}`)
})

test('a flow whose packets wait too long is told so, and no other', () => {
  const queue = new FairQueue(1_024)
  let slot = 0
  let shed = 0
  for (let ms = 0; ms < 500; ms++) {
    // Two packets come and one leaves; of the other flow there is one now and then.
    for (let i = 0; i < 2; i++) queue.add(slot++, 1, 1_000, ms)
    if (ms % 50 === 49) {
      queue.add(slot++, 2, 100, ms)
      assert.equal(queue.take(ms), slot - 1)
      assert.equal(queue.isShed, false)
    }
    queue.take(ms)
    if (queue.isShed) shed++
  }
  assert.ok(shed >= 4 && shed < 20, `${shed}`)
})

test('when there is no room the fattest flow loses its oldest packet', () => {
  const queue = new FairQueue(SLOTS)
  queue.add(0, 1, 1_000, 0)
  queue.add(1, 2, 900, 0)
  queue.add(2, 2, 900, 0)
  assert.equal(queue.takeFattest(), 1)
  assert.equal(queue.takeFattest(), 0)
  assert.equal(queue.takeFattest(), 2)
  assert.equal(queue.takeFattest(), -1)
  assert.equal(queue.take(0), -1)
  queue.add(2, 2, 900, 0)
  assert.equal(queue.take(0), 2)
})

test('flows whose hashes differ in few bits, whichever, are told apart', () => {
  for (const shift of [0, 8, 16, 24]) {
    const queue = new FairQueue(SLOTS)
    for (let slot = 0; slot < 30; slot++) queue.add(slot, 443, 60_000, 0)
    queue.take(0)
    let first = 0
    for (let flow = 1; flow <= 10; flow++) {
      queue.add(30 + flow, 443 + (flow << shift), 100, 0)
      if (queue.take(0) === 30 + flow) first++
    }
    assert.ok(first >= 8, `${first} of 10 at bit ${shift}`)
  }
})

test('whatever comes and goes, every packet leaves once, in order within its flow', () => {
  const step = fc.record({ hash: fc.nat(6), bytes: fc.integer({ min: 20, max: 65_552 }), does: fc.nat(3) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), steps => {
      const queue = new FairQueue(SLOTS)
      const free = Array.from({ length: SLOTS }, (_, slot) => slot)
      const waiting = new Map<number, number[]>()
      const flowOf = new Map<number, number>()
      const leave = (slot: number) => {
        assert.equal(waiting.get(flowOf.get(slot) ?? -1)?.shift(), slot)
        free.push(slot)
      }
      const count = () => [...waiting.values()].reduce((sum, slots) => sum + slots.length, 0)
      for (const [ms, { hash, bytes, does }] of steps.entries()) {
        const slot = does < 2 ? free.pop() : undefined
        if (slot !== undefined) {
          queue.add(slot, hash, bytes, ms)
          flowOf.set(slot, hash)
          waiting.set(hash, [...(waiting.get(hash) ?? []), slot])
        } else if (count() > 0) {
          leave(does === 3 ? queue.takeFattest() : queue.take(ms))
        }
        assert.equal(queue.length, count())
      }
      while (count() > 0) leave(queue.take(1_000))
      assert.equal(queue.take(1_000), -1)
    }),
  )
})
