import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { decodeSharing, encodeSharing, type SharingMessage } from './device-sharing.ts'

const MESSAGE: SharingMessage = {
  version: 1_700_000_000_000,
  heard: 1,
  asks: true,
  name: 'tower',
  networks: [
    { address: '192.168.1.0', prefix: 24 },
    { address: 'fd00:1::', prefix: 64 },
  ],
  internet4: true,
  internet6: false,
}
const HEX =
  '03' +
  '0068e5cf8b010000' +
  '0100000000000000' +
  '81' +
  '05746f776572' +
  '02' +
  '18c0a80100' +
  'c0fd000001' +
  '00'.repeat(12)

test('what a device offers is what the table says, both ways', () => {
  assert.equal(Buffer.from(encodeSharing(MESSAGE)).toString('hex'), HEX)
  assert.deepEqual(decodeSharing(Buffer.from(HEX, 'hex')), MESSAGE)
  const none = { ...MESSAGE, networks: [], internet4: false, asks: false }
  assert.deepEqual(decodeSharing(encodeSharing(none)), none)
})

test('what is cut off, has more behind it, or is of another kind is refused', () => {
  const bytes = encodeSharing(MESSAGE)
  for (let length = 0; length < bytes.length; length++)
    assert.equal(decodeSharing(bytes.subarray(0, length)), undefined)
  assert.equal(decodeSharing(Uint8Array.from([...bytes, 0])), undefined)
  assert.equal(decodeSharing(bytes.with(0, 1)), undefined)
})

test('no version, unknown flags, bad names, bits behind a prefix, the same network twice and too many are refused', () => {
  const bytes = encodeSharing(MESSAGE)
  assert.equal(decodeSharing(Uint8Array.from(bytes).fill(0, 1, 9)), undefined)
  assert.equal(decodeSharing(bytes.with(17, 4)), undefined)
  assert.equal(decodeSharing(bytes.with(19, 0x20)), undefined)
  assert.equal(decodeSharing(bytes.with(29, 1)), undefined)
  assert.equal(decodeSharing(bytes.with(25, 33)), undefined)
  const [network] = MESSAGE.networks
  assert.ok(network)
  assert.equal(decodeSharing(encodeSharing({ ...MESSAGE, networks: [network, network] })), undefined)
  const many = Array.from({ length: 17 }, (_, i) => ({ address: `10.${i}.0.0`, prefix: 16 }))
  assert.throws(() => encodeSharing({ ...MESSAGE, networks: many }), RangeError)
  const counted = encodeSharing({ ...MESSAGE, networks: many.slice(0, 16) })
  assert.equal(decodeSharing(Uint8Array.from([...counted.with(24, 17), 16, 10, 99, 0, 0])), undefined)
})

test('random bytes never throw, and what they make is written back as it was', () => {
  const random = seededRandom('sharing')
  for (let i = 0; i < 20_000; i++) {
    const bytes = random(1 + (i % 80))
    const head = encodeSharing(MESSAGE).subarray(0, i % 30)
    bytes.set(head.subarray(0, bytes.length))
    const message = decodeSharing(bytes)
    if (message !== undefined) assert.deepEqual(encodeSharing(message), Uint8Array.from(bytes))
  }
})
