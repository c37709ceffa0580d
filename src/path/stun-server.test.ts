import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import {
  decodeStun,
  encodeStun,
  STUN_ATTRIBUTE,
  STUN_METHOD,
  type StunAttribute,
  stunAttribute,
  u32Value,
} from '#wire/stun.ts'
import { readErrorCode, readXorAddress } from '#wire/stun-value.ts'
import { MIN_ECHO_REQUEST_BYTES } from './answer-binding.ts'
import { iceKey, sealStun } from './stun-auth.ts'
import { StunServer } from './stun-server.ts'

const random = seededRandom('stun server')
const FROM = { host: '192.0.2.9', port: 5_000 }

function question(attributes: readonly StunAttribute[] = [], method: number = STUN_METHOD.binding): Uint8Array {
  return encodeStun({ class: 'request', method, transaction: random(12), attributes })
}

function echoQuestion(seconds: number, padding = MIN_ECHO_REQUEST_BYTES): Uint8Array {
  return question([
    { type: STUN_ATTRIBUTE.echoAfter, value: u32Value(seconds) },
    { type: STUN_ATTRIBUTE.software, value: new Uint8Array(Math.max(0, padding - 40)) },
  ])
}

test('whoever asks is told where the question came from, of both families', () => {
  const server = new StunServer()
  for (const from of [FROM, { host: '2001:db8::5', port: 65_535 }]) {
    server.handlePacket(question(), from, 0)
    const [reply] = server.take()
    assert.deepEqual(reply?.to, from)
    const message = decodeStun(reply?.bytes ?? new Uint8Array(0))
    assert.ok(message?.class === 'success')
    const mapped = readXorAddress(stunAttribute(message, STUN_ATTRIBUTE.xorMappedAddress), message.transaction)
    assert.deepEqual(mapped, from)
    assert.ok((reply?.bytes.length ?? 0) <= 60)
  }
})

test('checks between peers, other methods, answers and garbage get nothing; unknown demands get a refusal', () => {
  const server = new StunServer()
  const check = { class: 'request' as const, method: STUN_METHOD.binding, transaction: random(12), attributes: [] }
  server.handlePacket(sealStun(check, iceKey(random(18))), FROM, 0)
  server.handlePacket(question([], STUN_METHOD.allocate), FROM, 0)
  server.handlePacket(encodeStun({ ...check, class: 'success' }), FROM, 0)
  server.handlePacket(encodeStun({ ...check, class: 'indication' }), FROM, 0)
  const whole = question()
  for (let length = 0; length < whole.length; length++) server.handlePacket(whole.subarray(0, length), FROM, 0)
  assert.deepEqual(server.take(), [])
  server.handlePacket(question([{ type: 0x7000, value: u32Value(1) }]), FROM, 0)
  const refusal = decodeStun(server.take()[0]?.bytes ?? new Uint8Array(0))
  assert.equal(refusal && readErrorCode(stunAttribute(refusal, STUN_ATTRIBUTE.errorCode)), 420)
})

test('a flood from one network gets 200 answers and 50 a second, and others are answered as before', () => {
  const server = new StunServer()
  for (let i = 0; i < 20_000; i++) {
    server.handlePacket(question(), { host: `192.0.2.${i % 256}`, port: 1_000 + (i % 5_000) }, i / 20)
  }
  assert.ok(server.take().length <= 200 + 50)
  server.handlePacket(question(), { host: '198.51.100.1', port: 1 }, 1_000)
  assert.equal(server.take().length, 1)
})

test('a second answer comes after the silence that was asked for, for a question that pays for both', () => {
  const server = new StunServer()
  server.handlePacket(echoQuestion(25), FROM, 0)
  const [first] = server.take()
  assert.equal(server.deadline(), 25_000)
  server.handleDeadline(25_000)
  assert.deepEqual(server.take(), [first])
  assert.equal(server.deadline(), Number.POSITIVE_INFINITY)
  server.handlePacket(echoQuestion(25, 60), FROM, 0)
  server.handlePacket(echoQuestion(100_000), FROM, 0)
  assert.equal(server.take().length, 2)
  assert.equal(server.deadline(), Number.POSITIVE_INFINITY, 'too small, and too long')
})

test('no more than 1,024 second answers wait, and the rest are not promised', () => {
  const server = new StunServer()
  for (let i = 0; i < 3_000; i++)
    server.handlePacket(echoQuestion(60), { host: `10.${i >> 8}.${i & 255}.1`, port: 1 }, 0)
  const promised = server.take().filter(({ bytes }) => {
    const message = decodeStun(bytes)
    return message !== undefined && stunAttribute(message, STUN_ATTRIBUTE.echoAfter) !== undefined
  })
  assert.equal(promised.length, 1_024)
  server.handleDeadline(60_000)
  assert.equal(server.take().length, 1_024)
})
