import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { Reader } from './reader.ts'
import { Secret } from './secret.ts'
import { Writer } from './writer.ts'

test('what a writer writes, a reader reads', () => {
  const bytes = new Writer(64)
    .u8(7)
    .u16le(0xbeef)
    .u24le(0xabcdef)
    .u32le(0xdeadbeef)
    .u64le(2 ** 53 - 1)
    .bytes(Uint8Array.of(1, 2))
    .zeros(2)
    .done()
  const reader = new Reader(bytes)
  assert.equal(reader.u8(), 7)
  assert.equal(reader.u16le(), 0xbeef)
  assert.equal(reader.u24le(), 0xabcdef)
  assert.equal(reader.u32le(), 0xdeadbeef)
  assert.equal(reader.u64le(), 2 ** 53 - 1)
  assert.deepEqual(reader.bytes(2), Uint8Array.of(1, 2))
  reader.zeros(2)
  assert.equal(reader.done, true)
})

test('a read past the end yields zero, marks the reader and stays inside the view', () => {
  const backing = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
  const reader = new Reader(backing.subarray(2, 5))
  assert.equal(reader.u32le(), 0)
  assert.equal(reader.failed, true)
  assert.equal(reader.u8(), 0, 'a failed reader reads nothing more')
  assert.equal(reader.done, false)
})

test('a 64-bit integer above 2^53 - 1 is refused rather than rounded', () => {
  const reader = new Reader(Uint8Array.of(0, 0, 0, 0, 0, 0, 0x20, 0))
  assert.equal(reader.u64le(), 0)
  assert.equal(reader.failed, true)
})

test('text must be valid UTF-8, and bytes that must be zero are checked', () => {
  const text = new Reader(Uint8Array.of(0xc3, 0x28))
  assert.equal(text.text(2), '')
  assert.equal(text.failed, true)
  const zeros = new Reader(Uint8Array.of(0, 1))
  zeros.zeros(2)
  assert.equal(zeros.done, false)
})

test('a writer that is full throws, because that is a bug of ours', () => {
  assert.throws(() => new Writer(3).u32le(1), /write 4 bytes: only 3 of 3 left/)
})

test('a secret never shows its bytes', () => {
  const secret = new Secret(Uint8Array.of(222, 173))
  const texts = [`${secret}`, JSON.stringify({ secret }), inspect({ secret }, { depth: 5 })]
  for (const text of texts) assert.match(text, /\[secret\]/)
  for (const text of texts) assert.doesNotMatch(text, /222|173/)
  secret.wipe()
  assert.deepEqual(secret.bytes, Uint8Array.of(0, 0))
})
