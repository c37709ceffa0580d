import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeWindow, encodeWindow } from './stream-window.ts'

test('window messages have the bytes of their table', () => {
  assert.equal(Buffer.from(encodeWindow({ kind: 'ask' })).toString('hex'), '02')
  assert.equal(
    Buffer.from(encodeWindow({ kind: 'window', limit: 0x0102_0304_0506 })).toString('hex'),
    '010605040302010000',
  )
})

test('what was encoded is decoded, and nothing shorter or longer is', () => {
  for (const message of [{ kind: 'ask' }, { kind: 'window', limit: 2 ** 40 }] as const) {
    const bytes = encodeWindow(message)
    assert.deepEqual(decodeWindow(bytes), message)
    for (let length = 0; length < bytes.length; length++)
      assert.equal(decodeWindow(bytes.subarray(0, length)), undefined)
    assert.equal(decodeWindow(Uint8Array.of(...bytes, 0)), undefined)
  }
})

test('other kinds and limits that no stream reaches are refused', () => {
  assert.equal(decodeWindow(Uint8Array.of(0)), undefined)
  assert.equal(decodeWindow(Uint8Array.of(3)), undefined)
  assert.equal(decodeWindow(new Uint8Array(9).fill(0xff).fill(1, 0, 1)), undefined)
})
