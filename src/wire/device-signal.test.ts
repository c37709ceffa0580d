import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeDeviceSignal, encodeDeviceSignal } from './device-signal.ts'

const SIGNAL = { begunMs: 1_700_000_000_000, heardMs: 0, offer: Uint8Array.of(1, 2, 3) }

test('a signal is what the table says', () => {
  const bytes = encodeDeviceSignal(SIGNAL)
  assert.equal(Buffer.from(bytes).toString('hex'), '010068e5cf8b0100000000000000000000010203')
  assert.deepEqual(decodeDeviceSignal(bytes), SIGNAL)
})

test('a place to meet is told along with the offer', () => {
  const meeting = { relay: 'ab'.repeat(32), token: new Uint8Array(32).fill(7) }
  const bytes = encodeDeviceSignal({ ...SIGNAL, meeting })
  assert.deepEqual(decodeDeviceSignal(bytes), { ...SIGNAL, meeting })
  for (let length = 0; length <= 81; length++) assert.equal(decodeDeviceSignal(bytes.subarray(0, length)), undefined)
})

test('what is cut off, of another kind, of no time or too long is no signal', () => {
  const bytes = encodeDeviceSignal(SIGNAL)
  for (let length = 0; length <= 17; length++) assert.equal(decodeDeviceSignal(bytes.subarray(0, length)), undefined)
  assert.equal(decodeDeviceSignal(Uint8Array.from(bytes).fill(2, 0, 1)), undefined)
  assert.equal(decodeDeviceSignal(encodeDeviceSignal({ ...SIGNAL, begunMs: 0 })), undefined)
  assert.equal(decodeDeviceSignal(encodeDeviceSignal({ ...SIGNAL, offer: new Uint8Array(616) })), undefined)
})
