import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeUdxDestroy, readUdxHeader } from './udx-packet.ts'

// Recorded from udx-native 1.21.3: nine bytes of data for stream 98, and a destroy for stream 52.
const DATA = Buffer.from('ff01010062000000000040000000000000000000746f206e6f626f6479', 'hex')
const DESTROY = Buffer.from('ff01100034000000000000000100000000000000', 'hex')

test('the header of a recorded packet is read', () => {
  assert.deepEqual(readUdxHeader(DATA), { wantsAnswer: true, stream: 98, sequence: 0, expected: 0 })
})

test('a destroy and an acknowledgement want no answer, so two links never answer each other forever', () => {
  assert.equal(readUdxHeader(DESTROY)?.wantsAnswer, false)
  const acknowledgement = Buffer.from(DESTROY)
  acknowledgement[2] = 0
  assert.equal(readUdxHeader(acknowledgement)?.wantsAnswer, false)
})

test('an answer goes to the other id and continues the numbers of the packet', () => {
  const answer = encodeUdxDestroy(52, { wantsAnswer: true, stream: 98, sequence: 0, expected: 1 })
  assert.equal(Buffer.from(answer).toString('hex'), DESTROY.toString('hex'))
})

test('what is shorter than a header, or of another protocol, is none', () => {
  for (let length = 0; length < 20; length++) assert.equal(readUdxHeader(DATA.subarray(0, length)), undefined)
  for (const at of [0, 1]) {
    const other = Buffer.from(DATA)
    other[at] = 7
    assert.equal(readUdxHeader(other), undefined)
  }
})
