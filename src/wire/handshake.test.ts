import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  decodeCookieReply,
  decodeInitiation,
  decodeInitiationPayload,
  decodeResponse,
  decodeResponsePayload,
  encodeCookieReply,
  encodeInitiation,
  encodeInitiationPayload,
  encodeResponse,
  encodeResponsePayload,
} from './handshake.ts'
import { HOP_HANDSHAKE, isHopHandshake } from './packet-type.ts'

const count = (length: number) => Uint8Array.from({ length }, (_, i) => i + 1)
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const ticket = count(32)
const messages = [
  {
    name: 'initiation',
    bytes: encodeInitiation({ senderIndex: 0xdeadbeef, noise: count(1312) }),
    size: HOP_HANDSHAKE.initiationBytes,
    start: '05000000efbeadde0102',
    decode: decodeInitiation,
    value: { senderIndex: 0xdeadbeef, noise: count(1312) },
  },
  {
    name: 'response',
    bytes: encodeResponse({ senderIndex: 1, receiverIndex: 0x80000000, noise: count(1184) }),
    size: HOP_HANDSHAKE.responseBytes,
    start: '0600000001000000000000800102',
    decode: decodeResponse,
    value: { senderIndex: 1, receiverIndex: 0x80000000, noise: count(1184) },
  },
  {
    name: 'cookie reply',
    bytes: encodeCookieReply({ receiverIndex: 0xffffffff, nonce: count(24), sealed: count(32) }),
    size: HOP_HANDSHAKE.cookieReplyBytes,
    start: '07000000ffffffff0102',
    decode: decodeCookieReply,
    value: { receiverIndex: 0xffffffff, nonce: count(24), sealed: count(32) },
  },
]

for (const { name, bytes, size, start, decode, value } of messages) {
  test(`the ${name} has the bytes of the table and survives encoding and decoding`, () => {
    assert.equal(bytes.length, size)
    assert.equal(hex(bytes).slice(0, start.length), start)
    assert.deepEqual(decode(bytes), value)
    assert.equal(isHopHandshake(bytes, 0, bytes.length), true)
  })

  test(`the ${name} is refused when it is cut, longer, of another type, or not zero where it must be`, () => {
    for (let length = 0; length < size; length++) assert.equal(decode(bytes.subarray(0, length)), undefined)
    assert.equal(decode(Buffer.concat([bytes, Uint8Array.of(0)])), undefined)
    for (const at of [0, 1, 2, 3]) {
      const changed = Uint8Array.from(bytes)
      changed[at] = 8
      assert.equal(decode(changed), undefined)
      assert.equal(isHopHandshake(changed, 0, size), false)
    }
  })
}

test('the macs of a fresh message are zero, and the smaller of two messages is always the answer', () => {
  const [initiation, response, cookieReply] = messages.map(({ bytes }) => bytes)
  for (const message of [initiation, response]) assert.equal(hex(message ?? ticket).slice(-64), '00'.repeat(32))
  assert.ok((response?.length ?? 0) < (initiation?.length ?? 0))
  assert.ok((cookieReply?.length ?? 0) < (initiation?.length ?? 0))
})

test("an initiation's payload says new or renewed, never something between", () => {
  const fresh = encodeInitiationPayload({ senderIndex: 7 })
  assert.equal(hex(fresh), `${'00'.repeat(40)}07000000${'00'.repeat(20)}`)
  assert.deepEqual(decodeInitiationPayload(fresh), { senderIndex: 7 })
  const renewal = encodeInitiationPayload({ renewal: { ticket, sequence: 258 }, senderIndex: 7 })
  assert.equal(hex(renewal), `${hex(ticket)}020100000000000007000000${'00'.repeat(20)}`)
  assert.deepEqual(decodeInitiationPayload(renewal), { renewal: { ticket, sequence: 258 }, senderIndex: 7 })
  const ticketAlone = Uint8Array.from(renewal).fill(0, 32, 40)
  const sequenceAlone = Uint8Array.from(renewal).fill(0, 0, 32)
  const tooLarge = Uint8Array.from(renewal).fill(0xff, 32, 40)
  for (const bytes of [ticketAlone, sequenceAlone, tooLarge]) assert.equal(decodeInitiationPayload(bytes), undefined)
  refuseAround(renewal, decodeInitiationPayload, 44)
})

test("a response's payload has one version, and repeats the index", () => {
  const payload = encodeResponsePayload(0x01020304)
  assert.equal(hex(payload), `0100000004030201${'00'.repeat(24)}`)
  assert.equal(decodeResponsePayload(payload), 0x01020304)
  for (const version of [0, 2, 255]) {
    assert.equal(decodeResponsePayload(Uint8Array.from(payload).fill(version, 0, 1)), undefined)
  }
  refuseAround(payload, decodeResponsePayload, 8)
})

/** Every truncation, a trailing byte, and every reserved byte from `reserved` on. */
function refuseAround(bytes: Uint8Array, decode: (bytes: Uint8Array) => unknown, reserved: number): void {
  for (let length = 0; length < bytes.length; length++) assert.equal(decode(bytes.subarray(0, length)), undefined)
  assert.equal(decode(Buffer.concat([bytes, Uint8Array.of(0)])), undefined)
  for (let at = reserved; at < bytes.length; at++) {
    assert.equal(decode(Uint8Array.from(bytes).fill(1, at, at + 1)), undefined, `byte ${at}`)
  }
}
