import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom, systemRandom } from './random.ts'

test('a seed gives the same bytes every time, however they are asked for; another seed gives others', () => {
  const whole = Buffer.from(seededRandom('a')(300))
  const random = seededRandom('a')
  const parts = [0, 1, 63, 64, 65, 107].map(length => random(length))
  assert.equal(Buffer.concat(parts).toString('hex'), whole.toString('hex'))
  assert.notEqual(Buffer.from(seededRandom('b')(300)).toString('hex'), whole.toString('hex'))
})

test('every array is its own: changing one changes no other', () => {
  for (const random of [seededRandom('c'), systemRandom]) {
    const [first, second] = [random(16), random(16)]
    const copy = Uint8Array.from(second)
    first.fill(0)
    assert.deepEqual(Uint8Array.from(second), copy)
    assert.equal(first.length, 16)
  }
})
