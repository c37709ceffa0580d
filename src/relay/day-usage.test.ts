import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeUsage, encodeUsage, MAX_USAGE_BYTES } from './day-usage.ts'

test('what was written is read, and fits', () => {
  for (const bytes of [0, 1, 2 ** 40, Number.MAX_SAFE_INTEGER]) {
    const usage = { day: '2027-01-31', bytes }
    assert.deepEqual(decodeUsage(encodeUsage(usage)), usage)
    assert.ok(encodeUsage(usage).length <= MAX_USAGE_BYTES)
  }
})

test('a damaged or forged file is none', () => {
  const sound = encodeUsage({ day: '2027-01-31', bytes: 5 })
  for (let length = 0; length < sound.length - 1; length++)
    assert.equal(decodeUsage(sound.slice(0, length)), undefined, `${length} characters`)
  for (const text of [
    `${sound}x`,
    'null',
    '[]',
    '5',
    '"2027-01-31"',
    '{"version":2,"day":"2027-01-31","bytes":5}',
    '{"version":1,"day":"2027-01-31"}',
    '{"version":1,"day":"2027-01-31","bytes":-1}',
    '{"version":1,"day":"2027-01-31","bytes":1.5}',
    '{"version":1,"day":"2027-01-31","bytes":1e300}',
    '{"version":1,"day":"2027-01-31","bytes":"5"}',
    '{"version":1,"day":"2027-01-31","bytes":null}',
    '{"version":1,"day":"2027-1-31","bytes":5}',
    '{"version":1,"day":"2027-01-31\\n","bytes":5}',
    '{"version":1,"day":20270131,"bytes":5}',
  ])
    assert.equal(decodeUsage(text), undefined, text)
})

test('nothing makes reading it throw', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.json()), text => {
      const usage = decodeUsage(text)
      assert.ok(usage === undefined || usage.bytes >= 0)
    }),
    { numRuns: 1_000, seed: 1 },
  )
})
