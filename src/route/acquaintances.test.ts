import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Acquaintances, REMEMBERED_MS } from './acquaintances.ts'

const id = (n: number) => n.toString(16).padStart(64, '0')

test('whom a client met is remembered for hours, from the last time on', () => {
  const met = new Acquaintances()
  assert.equal(met.meet(id(1), 1_000), true)
  assert.equal(met.meet(id(1), 2_000), false, 'nothing new')
  assert.equal(met.meet(id(2), 3_000_000), true)
  assert.equal(met.meet(id(1), 3_600_000), true)
  assert.deepEqual([...met.all(3_600_000)].sort(), [id(1), id(2)])
  assert.deepEqual([...met.all(3_000_000 + REMEMBERED_MS)], [id(1)])
  assert.deepEqual([...met.all(3_600_000 + REMEMBERED_MS)], [])
})

test('a thousand are kept, and who was met longest ago goes first', () => {
  const met = new Acquaintances()
  for (let n = 0; n < 1_100; n++) met.meet(id(n), n)
  const all = met.all(2_000)
  assert.equal(all.size, 1_024)
  assert.equal(all.has(id(75)), false)
  assert.equal(all.has(id(1_099)), true)
})

test('what was written is read again, and nothing else is', () => {
  const met = new Acquaintances()
  met.meet(id(7), 5)
  const text = met.encode()
  assert.deepEqual([...(Acquaintances.decode(text)?.all(6) ?? [])], [id(7)])
  for (let length = 0; length < text.length - 1; length++)
    assert.equal(Acquaintances.decode(text.slice(0, length)), undefined)
  for (const wrong of [
    'null',
    '[]',
    '{"version":2,"met":[]}',
    '{"version":1,"met":[["x",1]]}',
    '{"version":1,"met":[1]}',
  ])
    assert.equal(Acquaintances.decode(wrong), undefined)
})
