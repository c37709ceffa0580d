import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { seededRandom } from '#crypto/random.ts'
import {
  decodeStun,
  encodeStun,
  isStun,
  readU32Value,
  STUN_ATTRIBUTE,
  STUN_METHOD,
  type StunMessage,
  stunAttribute,
  u32Value,
  unknownRequired,
} from './stun.ts'
import {
  channelOf,
  channelPayload,
  errorValue,
  isChannelData,
  readErrorCode,
  readPlainAddress,
  readXorAddress,
  writeChannelHeader,
  xorAddressValue,
} from './stun-value.ts'

const VECTORS = fileURLToPath(new URL('../../../shared/vectors/stun-turn', import.meta.url))
const random = seededRandom('stun')
const transaction = random(12)

const message: StunMessage = {
  class: 'request',
  method: STUN_METHOD.binding,
  transaction,
  attributes: [
    { type: STUN_ATTRIBUTE.username, value: Buffer.from('abcd:efgh1') },
    { type: STUN_ATTRIBUTE.priority, value: u32Value(0x7e00_01ff) },
    { type: STUN_ATTRIBUTE.useCandidate, value: new Uint8Array(0) },
  ],
}

test('every class and method comes back as it was written', () => {
  for (const kind of ['request', 'indication', 'success', 'error'] as const) {
    for (const method of [0, 1, 0x0f, 0x10, 0x7f, 0x80, 0xff]) {
      const bytes = encodeStun({ ...message, class: kind, method })
      const back = decodeStun(bytes)
      assert.equal(back?.class, kind)
      assert.equal(back?.method, method)
      assert.deepEqual(new Uint8Array(back?.transaction ?? []), transaction)
      assert.ok(isStun(bytes, 0, bytes.length))
    }
  }
})

test('attributes keep their order, values and lengths that are no multiple of four', () => {
  const back = decodeStun(encodeStun(message))
  assert.deepEqual(
    back?.attributes.map(({ type, value }) => [type, Buffer.from(value).toString('hex')]),
    message.attributes.map(({ type, value }) => [type, Buffer.from(value).toString('hex')]),
  )
})

test('every truncation, trailing byte and flipped bit of a message with a fingerprint is refused', () => {
  const bytes = encodeStun(message)
  for (let length = 0; length < bytes.length; length++) assert.equal(decodeStun(bytes.subarray(0, length)), undefined)
  for (const more of [1, 4]) assert.equal(decodeStun(Buffer.concat([bytes, new Uint8Array(more)])), undefined)
  // With another type or length before it, the fingerprint is a part of something else: that is what integrity is for.
  const headers = [20, 36, 44, 48].flatMap(at => [at, at + 1, at + 2, at + 3])
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    if (headers.includes(bit >> 3)) continue
    const bent = new Uint8Array(bytes)
    bent[bit >> 3] = (bent[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    assert.equal(decodeStun(bent), undefined, `bit ${bit}`)
  }
})

test('what stands behind the integrity is not read', () => {
  const integrity = { kind: 'sha1', mac: () => new Uint8Array(20) } as const
  const bytes = encodeStun(message, integrity, false)
  const more = Buffer.concat([bytes, Uint8Array.of(0, 0x25, 0, 0)])
  more.writeUInt16BE(more.length - 20, 2)
  const back = decodeStun(more)
  assert.equal(back?.sha1At, bytes.length - 24)
  assert.equal(back?.attributes.length, message.attributes.length)
})

test('our own packets, and STUN without the cookie, are not taken for STUN', () => {
  for (let type = 1; type <= 7; type++) assert.ok(!isStun(Uint8Array.of(type, ...new Uint8Array(40)), 0, 41))
  const bytes = encodeStun(message)
  bytes[4] = 0
  assert.equal(decodeStun(bytes), undefined)
})

test('a message has at most 64 attributes', () => {
  const attributes = Array.from({ length: 65 }, () => ({ type: 0x8022, value: new Uint8Array(0) }))
  assert.ok(decodeStun(encodeStun({ ...message, attributes: attributes.slice(1) }, undefined, false)))
  assert.equal(decodeStun(encodeStun({ ...message, attributes }, undefined, false)), undefined)
})

test('attributes that must be understood and are not are named', () => {
  const attributes = [0x7fff, 0x8fff, STUN_ATTRIBUTE.priority].map(type => ({ type, value: u32Value(1) }))
  assert.deepEqual(unknownRequired({ ...message, attributes }), [0x7fff])
})

test('addresses of both families go through the mask and back', () => {
  for (const address of [
    { host: '192.0.2.1', port: 32_853 },
    { host: '2001:db8::1', port: 1 },
  ]) {
    assert.deepEqual(readXorAddress(xorAddressValue(address, transaction), transaction), address)
  }
  const mapped = xorAddressValue({ host: '192.0.2.1', port: 9 }, transaction)
  for (let length = 0; length < mapped.length; length++) {
    assert.equal(readXorAddress(mapped.subarray(0, length), transaction), undefined)
  }
  assert.equal(readPlainAddress(Uint8Array.of(0, 1, 0, 0, 1, 2, 3, 4)), undefined, 'port 0')
  assert.deepEqual(readPlainAddress(Uint8Array.of(0, 1, 0, 80, 1, 2, 3, 4)), { host: '1.2.3.4', port: 80 })
})

test('error codes and integers of the wrong form are undefined', () => {
  assert.equal(readErrorCode(errorValue(487, 'Role Conflict')), 487)
  for (const value of [undefined, Uint8Array.of(0, 0, 4), Uint8Array.of(0, 0, 2, 0), Uint8Array.of(0, 0, 4, 100)]) {
    assert.equal(readErrorCode(value), undefined)
  }
  assert.equal(readU32Value(Uint8Array.of(1, 2, 3)), undefined)
})

test('channel data is recognised by its number and length', () => {
  const bytes = new Uint8Array(10)
  writeChannelHeader(bytes, 0, 0x4001, 5)
  assert.ok(isChannelData(bytes, 0, 10))
  assert.equal(channelOf(bytes, 0), 0x4001)
  assert.equal(channelPayload(bytes).length, 5)
  assert.ok(!isChannelData(bytes, 0, 8), 'the length field says more than there is')
})

test('random bytes behind a good header never throw, and are stable once accepted', () => {
  for (let i = 0; i < 5_000; i++) {
    const body = random((i % 30) * 4)
    const bytes = Buffer.concat(
      [Uint8Array.of(i % 4, i & 0xff, 0, body.length), [0x21, 0x12, 0xa4, 0x42], transaction, body].map(part =>
        Uint8Array.from(part),
      ),
    )
    const first = decodeStun(bytes)
    if (first === undefined) continue
    const second = decodeStun(encodeStun(first, undefined, false))
    assert.deepEqual(
      second?.attributes,
      first.attributes.map(({ type, value }) => ({ type, value: new Uint8Array(value) })),
    )
  }
})

test('captured and hostile datagrams of other implementations are read or refused', t => {
  const corpus = path.join(VECTORS, 'corpus')
  if (!existsSync(corpus)) return t.skip('the vectors are not there')
  let accepted = 0
  for (const name of readdirSync(corpus, { recursive: true, encoding: 'utf8' })) {
    if (!/\.(raw|bin)$/.test(name)) continue
    const back = decodeStun(readFileSync(path.join(corpus, name)))
    if (back !== undefined) accepted++
    for (const { value } of back?.attributes ?? []) {
      readXorAddress(value, transaction)
      readErrorCode(value)
    }
    isChannelData(readFileSync(path.join(corpus, name)), 0, 16)
  }
  assert.ok(accepted > 0)
})

test('messages of browsers are read', t => {
  if (!existsSync(VECTORS)) return t.skip('the vectors are not there')
  const rows = readFileSync(path.join(VECTORS, 'frombrowsers.csv'), 'utf8').trim().split('\n')
  for (const row of rows) {
    const [, packet = '', , browser = ''] = row.split(',')
    if (row.startsWith('#') || packet === 'message') continue
    assert.ok(decodeStun(Buffer.from(packet, 'base64')), browser)
  }
  const chrome = decodeStun(readFileSync(path.join(VECTORS, 'ex1_chrome.stun')))
  assert.equal(chrome?.method, STUN_METHOD.binding)
  assert.ok(chrome && stunAttribute(chrome, STUN_ATTRIBUTE.useCandidate) === undefined)
})
