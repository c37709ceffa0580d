import assert from 'node:assert/strict'
import test from 'node:test'
import { formatKey, isZeroKey, parseKey } from './wireguard-key.ts'

test('a key has one text, and every other text is refused', () => {
  const bytes = Uint8Array.from({ length: 32 }, (_, i) => i * 7)
  const text = formatKey(bytes)
  assert.deepEqual(parseKey(text), bytes)
  for (const other of ['', text.slice(1), `${text}=`, ` ${text}`, text.replace('=', ''), text.slice(0, 42), `A${text}`])
    assert.equal(parseKey(other), undefined, other)
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
  const last = [...alphabet].filter(letter => parseKey(`${text.slice(0, 42)}${letter}=`) !== undefined)
  assert.equal(last.length, 16)
  assert.throws(() => formatKey(new Uint8Array(31)), TypeError)
})

test('only a key of zeros is none', () => {
  assert.equal(isZeroKey(new Uint8Array(32)), true)
  assert.equal(isZeroKey(Uint8Array.of(0, 0, 1)), false)
})
