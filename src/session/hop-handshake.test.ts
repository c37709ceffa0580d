import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { generateX25519 } from '#crypto/x25519.ts'
import { HOP_HANDSHAKE } from '#wire/packet-type.ts'
import { CookieJar, checkMac1 } from './cookie.ts'
import { finish, type HopKeys, hopKeys, initiate, readCookieReply, respond } from './hop-handshake.ts'
import { ReplayFilter } from './replay-filter.ts'

const random = seededRandom('hop handshake')
const hop = hopKeys(generateX25519().privateKey)
const begin = (keys: HopKeys = hop, extra = {}) =>
  initiate({ staticPublic: keys.publicKey, localIndex: 7, random, ...extra })
const flip = (bytes: Uint8Array, bit: number): Uint8Array => {
  const flipped = Uint8Array.from(bytes)
  flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
  return flipped
}

test('both ends get the same keys, crossed, and the same ticket', () => {
  const { message, state } = begin()
  const answer = respond({ keys: hop, message, localIndex: 9 })
  assert.ok('response' in answer)
  const keys = finish(state, answer.response)
  assert.ok(keys)
  assert.deepEqual(keys.send, answer.keys.receive)
  assert.deepEqual(keys.receive, answer.keys.send)
  assert.deepEqual(keys.ticket, answer.keys.ticket)
  assert.notDeepEqual(keys.send, keys.receive)
  assert.deepEqual([keys.localIndex, keys.remoteIndex], [7, 9])
  assert.deepEqual([answer.keys.localIndex, answer.keys.remoteIndex], [9, 7])
  assert.equal(answer.renews, undefined)
})

test('messages have the sizes of the table, and the response is the shorter: nothing is amplified', () => {
  const { message } = begin()
  const answer = respond({ keys: hop, message, localIndex: 9 })
  assert.ok('response' in answer)
  assert.equal(message.length, HOP_HANDSHAKE.initiationBytes)
  assert.equal(answer.response.length, HOP_HANDSHAKE.responseBytes)
  assert.ok(answer.response.length < message.length)
  assert.ok(HOP_HANDSHAKE.cookieReplyBytes < message.length)
})

test('a renewal carries the ticket and its sequence, sealed', () => {
  const ticket = random(32)
  const { message } = begin(hop, { ticket, sequence: 3 })
  assert.equal(Buffer.from(message).includes(Buffer.from(ticket)), false)
  const answer = respond({ keys: hop, message, localIndex: 9 })
  assert.ok('response' in answer)
  assert.deepEqual(answer.renews && Uint8Array.from(answer.renews), Uint8Array.from(ticket))
  assert.equal(answer.sequence, 3)
})

test('two handshakes share nothing: keys, tickets and bytes on the wire differ', () => {
  const [a, b] = [begin(), begin()]
  assert.notDeepEqual(a.message.subarray(8, 40), b.message.subarray(8, 40))
  const [x, y] = [a, b].map(({ message }) => respond({ keys: hop, message, localIndex: 9 }))
  assert.ok(x && y && 'keys' in x && 'keys' in y)
  assert.notDeepEqual(x.keys.send, y.keys.send)
  assert.notDeepEqual(x.keys.ticket, y.keys.ticket)
})

test('another hop can neither check nor answer an initiation', () => {
  const other = hopKeys(generateX25519().privateKey)
  const { message } = begin()
  assert.equal(checkMac1(message, hop.mac1Key), true)
  assert.equal(checkMac1(message, other.mac1Key), false)
  assert.deepEqual(respond({ keys: other, message, localIndex: 1 }), { error: 'forged' })
})

test('a flipped bit anywhere is noticed: by mac1 first, and by the handshake where mac1 does not reach', () => {
  const { message, state } = begin()
  for (let bit = 0; bit < (message.length - 16) * 8; bit += 5) {
    assert.equal(checkMac1(flip(message, bit), hop.mac1Key), false, `initiation, bit ${bit}`)
  }
  for (let bit = 64; bit < (message.length - 32) * 8; bit += 97) {
    assert.ok('error' in respond({ keys: hop, message: flip(message, bit), localIndex: 9 }), `initiation, bit ${bit}`)
  }
  const answer = respond({ keys: hop, message, localIndex: 9 })
  assert.ok('response' in answer)
  for (let bit = 0; bit < (answer.response.length - 16) * 8; bit += 61) {
    assert.equal(finish(state, flip(answer.response, bit)), undefined, `response, bit ${bit}`)
  }
  assert.ok(finish(state, answer.response), 'forged answers do not spoil the true one')
})

test('every truncation and a trailing byte are refused', () => {
  const { message, state } = begin()
  const answer = respond({ keys: hop, message, localIndex: 9 })
  assert.ok('response' in answer)
  for (let length = 0; length < message.length; length += 13) {
    assert.ok('error' in respond({ keys: hop, message: message.subarray(0, length), localIndex: 9 }))
    if (length < answer.response.length) assert.equal(finish(state, answer.response.subarray(0, length)), undefined)
  }
  assert.ok('error' in respond({ keys: hop, message: Buffer.concat([message, Uint8Array.of(0)]), localIndex: 9 }))
  assert.equal(finish(state, Buffer.concat([answer.response, Uint8Array.of(0)])), undefined)
})

test('a response to one initiation is of no use to another', () => {
  const [a, b] = [begin(), begin()]
  const answer = respond({ keys: hop, message: a.message, localIndex: 9 })
  assert.ok('response' in answer)
  assert.equal(finish(b.state, answer.response), undefined)
})

test('a cookie proves the address it was sent to, for two minutes, and no other', () => {
  const jar = new CookieJar(hop.publicKey, random, 0)
  const here = Buffer.from('192.0.2.1:1000')
  const there = Buffer.from('192.0.2.2:1000')
  const { message, state } = begin()
  assert.equal(jar.checkMac2(message, here, 0), false, 'without a cookie')
  const cookie = readCookieReply(state, jar.cookieReply(message, here, 0))
  assert.ok(cookie)
  const again = begin(hop, { cookie }).message
  assert.equal(checkMac1(again, hop.mac1Key), true)
  assert.equal(jar.checkMac2(again, here, 119_000), true)
  assert.equal(jar.checkMac2(again, there, 1_000), false)
  assert.equal(jar.checkMac2(again, here, 120_000), false)
  assert.ok('response' in respond({ keys: hop, message: again, localIndex: 9 }))
})

test('a cookie reply that was not made for this initiation is refused', () => {
  const jar = new CookieJar(hop.publicKey, random, 0)
  const [a, b] = [begin(), begin()]
  const reply = jar.cookieReply(a.message, Buffer.from('x'), 0)
  assert.equal(readCookieReply(b.state, reply), undefined)
  for (let bit = 64; bit < reply.length * 8; bit += 7)
    assert.equal(readCookieReply(a.state, flip(reply, bit)), undefined)
})

test('an initiation is admitted once; the filter forgets after two minutes and stays bounded', () => {
  const filter = new ReplayFilter()
  const { message } = begin()
  assert.equal(filter.admit(message, 100_000), true)
  assert.equal(filter.admit(message, 100_001), false)
  assert.equal(filter.admit(begin().message, 161_000), true)
  assert.equal(filter.admit(message, 161_001), false, 'still remembered in the epoch before')
  for (let i = 0; i < 200_000; i++) {
    const other = new Uint8Array(48)
    new DataView(other.buffer).setUint32(8, i)
    filter.admit(other, 170_000)
  }
  assert.ok(filter.size <= 2 * 65_536)
})
