import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  decodeLetterHead,
  encodeLetter,
  encodeLetterHead,
  LETTER_BYTES,
  LETTER_SEALED_AT,
  MAX_CONTENT_BYTES,
  padContent,
  unpadContent,
  workBytes,
  writeWork,
} from './letter.ts'

const HEAD = { bucket: { bits: 4, number: 9 }, expiresMs: 1_700_000_040_000 }
const letter = () => encodeLetter(encodeLetterHead(HEAD), new Uint8Array(LETTER_BYTES - LETTER_SEALED_AT))

test('a head is what the table says, with its time rounded up to a minute', () => {
  assert.equal(Buffer.from(encodeLetterHead(HEAD)).toString('hex'), '010409001655b001')
  assert.deepEqual(encodeLetterHead({ ...HEAD, expiresMs: HEAD.expiresMs - 59_999 }), encodeLetterHead(HEAD))
  assert.deepEqual(decodeLetterHead(letter()), HEAD)
})

test('only 4,096 bytes of version 1 with a bucket inside its bits are a letter', () => {
  for (const length of [0, 1, 8, LETTER_BYTES - 1])
    assert.equal(decodeLetterHead(letter().subarray(0, length)), undefined)
  assert.equal(decodeLetterHead(new Uint8Array(LETTER_BYTES + 1)), undefined)
  const spoil = (at: number, value: number) => {
    const spoiled = letter()
    spoiled[at] = value
    return decodeLetterHead(spoiled)
  }
  assert.equal(spoil(0, 2), undefined)
  assert.equal(spoil(1, 3), undefined)
  assert.equal(spoil(1, 17), undefined)
  assert.equal(spoil(2, 16), undefined)
})

test('work stands in its own field', () => {
  const made = letter()
  writeWork(made, 0x0102_0304_0506)
  assert.equal(Buffer.from(workBytes(made)).toString('hex'), '0605040302010000')
  assert.deepEqual(decodeLetterHead(made), HEAD)
})

test('every content comes out of its padding as it went in, and padding is nothing but zeros', () => {
  for (const length of [0, 1, 1_000, MAX_CONTENT_BYTES]) {
    const content = new Uint8Array(length).fill(7)
    const inside = padContent(content)
    assert.deepEqual(unpadContent(inside), content)
    assert.equal(unpadContent(inside.subarray(1)), undefined)
    if (length === MAX_CONTENT_BYTES) continue
    inside[inside.length - 1] = 1
    assert.equal(unpadContent(inside), undefined)
  }
  assert.throws(() => padContent(new Uint8Array(MAX_CONTENT_BYTES + 1)), RangeError)
  assert.equal(unpadContent(new Uint8Array(2944).fill(255)), undefined)
})
