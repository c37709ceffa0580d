import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  decodeWireGuardCookieReply,
  decodeWireGuardInitiation,
  decodeWireGuardResponse,
  encodeTimestamp,
  encodeWireGuardCookieReply,
  encodeWireGuardInitiation,
  encodeWireGuardResponse,
} from './wireguard.ts'

const bytes = (length: number, first: number) => Uint8Array.from({ length }, (_, i) => (first + i) & 0xff)
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex')

const initiation = { senderIndex: 0x01020304, noise: bytes(108, 1) }
const response = { senderIndex: 0x01020304, receiverIndex: 0xfffefdfc, noise: bytes(48, 1) }
const reply = { receiverIndex: 0xfffefdfc, nonce: bytes(24, 1), sealed: bytes(32, 101) }

test('messages stand as the tables say', () => {
  assert.equal(hex(encodeWireGuardInitiation(initiation)), `0100000004030201${hex(initiation.noise)}${'00'.repeat(32)}`)
  assert.equal(
    hex(encodeWireGuardResponse(response)),
    `0200000004030201fcfdfeff${hex(response.noise)}${'00'.repeat(32)}`,
  )
  assert.equal(hex(encodeWireGuardCookieReply(reply)), `03000000fcfdfeff${hex(reply.nonce)}${hex(reply.sealed)}`)
})

test('what is encoded is decoded; every truncation, a trailing byte, another type and reserved bytes are refused', () => {
  const messages = [
    [encodeWireGuardInitiation(initiation), decodeWireGuardInitiation, initiation],
    [encodeWireGuardResponse(response), decodeWireGuardResponse, response],
    [encodeWireGuardCookieReply(reply), decodeWireGuardCookieReply, reply],
  ] as const
  for (const [encoded, decode, value] of messages) {
    assert.deepEqual(decode(encoded), value)
    for (let length = 0; length < encoded.length; length++) assert.equal(decode(encoded.subarray(0, length)), undefined)
    assert.equal(decode(Buffer.concat([encoded, Uint8Array.of(0)])), undefined)
    for (let i = 0; i < 4; i++) {
      const changed = Uint8Array.from(encoded)
      changed[i] = (changed[i] ?? 0) ^ 8
      assert.equal(decode(changed), undefined, `byte ${i}`)
    }
  }
})

test('a timestamp is TAI64N: 2^62 and ten seconds ahead, in steps of 2^24 nanoseconds', () => {
  assert.equal(hex(encodeTimestamp(0).bytes.subarray(0, 8)), '400000000000000a')
  assert.equal(hex(encodeTimestamp(1_532_126_321_356.5).bytes), `400000005b52647b${(0x15000000).toString(16)}`)
  assert.equal(hex(encodeTimestamp(999.999_999).bytes), '400000000000000a3b000000')
})

test('timestamps grow strictly, however little time has passed, even when the clock goes back', () => {
  let after = 0
  let last = Buffer.alloc(12)
  for (let i = 0; i < 500; i++) {
    const { bytes: stamp, unixMs } = encodeTimestamp(1_700_000_000_000 + (i < 400 ? i : -i), after)
    assert.ok(Buffer.compare(stamp, last) > 0, `step ${i}`)
    assert.ok(unixMs > after)
    assert.ok(Buffer.from(stamp).readUInt32BE(8) < 1e9)
    last = Buffer.from(stamp)
    after = unixMs
  }
})
