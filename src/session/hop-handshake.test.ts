import assert from 'node:assert/strict'
import { test } from 'node:test'
import { generateMlKem } from '#crypto/mlkem768.ts'
import { seededRandom } from '#crypto/random.ts'
import { generateX25519, x25519FromPrivate } from '#crypto/x25519.ts'
import { encodeInitiation, encodeInitiationPayload, encodeResponse } from '#wire/handshake.ts'
import { HOP_HANDSHAKE } from '#wire/packet-type.ts'
import { addMacs, CookieJar, checkMac1, mac1Key } from './cookie.ts'
import { discard, finish, type HopKeys, hopKeys, initiate, readCookieReply, respond } from './hop-handshake.ts'
import { NoiseHandshake, type NoisePattern } from './noise.ts'
import { ReplayFilter } from './replay-filter.ts'

const random = seededRandom('hop handshake')
const hop = hopKeys(x25519FromPrivate(random(32)).privateKey)
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
  for (let bit = 0; bit < (message.length - 32) * 8; bit += 97) {
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
  for (let length = 0; length < message.length; length++) {
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
  assert.equal(filter.admit(message, 400_000), true, 'forgotten')
  const other = Uint8Array.from(message)
  const mac1 = new DataView(other.buffer, other.length - 32, 16)
  for (let i = 0; i < 200_000; i++) {
    mac1.setUint32(0, i)
    filter.admit(other, 400_001)
    if (i % 10_000 === 0) assert.ok(filter.size <= 2 * 65_536)
  }
  assert.ok(filter.size > 65_536 && filter.size <= 2 * 65_536)
})

test('the filter refuses what is no initiation, and reads nothing past its end', () => {
  const filter = new ReplayFilter()
  const { message } = begin()
  assert.equal(filter.admit(new Uint8Array(0), 0), false)
  assert.equal(filter.admit(message.subarray(0, 40), 0), false)
  assert.equal(filter.size, 0)
})

test('an initiation that was spoiled on the way does not have the true one refused', () => {
  const filter = new ReplayFilter()
  const { message } = begin()
  const spoiled = flip(message, 800)
  addMacs(spoiled, hop.mac1Key)
  assert.equal(filter.admit(spoiled, 0), true)
  assert.deepEqual(respond({ keys: hop, message: spoiled, localIndex: 9 }), { error: 'forged' })
  assert.equal(filter.admit(message, 0), true)
})

test('an overheard initiation cannot be made into another one by a new sender index and a new mac1', () => {
  const { message } = begin()
  const changed = flip(message, 4 * 8)
  addMacs(changed, hop.mac1Key)
  assert.equal(checkMac1(changed, hop.mac1Key), true)
  assert.deepEqual(respond({ keys: hop, message: changed, localIndex: 9 }), { error: 'forged' })
})

test("a response whose header was changed on the way still gives the hop's own index", () => {
  const { message, state } = begin()
  const answer = respond({ keys: hop, message, localIndex: 9 })
  assert.ok('response' in answer)
  const changed = flip(answer.response, 4 * 8)
  addMacs(changed, mac1Key(message.subarray(8, 40)))
  assert.equal(finish(state, changed)?.remoteIndex, 9)
})

test('a handshake is finished once; one that was given up, never', () => {
  const [a, b] = [begin(), begin()]
  for (const { message, state } of [a, b]) {
    const answer = respond({ keys: hop, message, localIndex: 9 })
    assert.ok('response' in answer)
    if (state === b.state) discard(state)
    else assert.ok(finish(state, answer.response))
    assert.equal(finish(state, answer.response), undefined)
  }
})

test('nothing is left of the receive buffers: keys and tickets do not change when they are reused', () => {
  const ticket = random(32)
  const { message, state } = begin(hop, { ticket, sequence: 1 })
  const received = Buffer.from(message)
  const answer = respond({ keys: hop, message: received, localIndex: 9 })
  received.fill(0xff)
  assert.ok('response' in answer && answer.renews)
  assert.deepEqual(Uint8Array.from(answer.renews), Uint8Array.from(ticket))
  const returned = Buffer.from(answer.response)
  const keys = finish(state, returned)
  returned.fill(0xff)
  assert.deepEqual(keys?.ticket, answer.keys.ticket)
})

test('the same random bytes make the same initiation, and it begins as the table says', () => {
  const make = () => initiate({ staticPublic: hop.publicKey, localIndex: 0x01020304, random: seededRandom('same') })
  const message = Buffer.from(make().message)
  assert.deepEqual(message, Buffer.from(make().message))
  assert.equal(message.subarray(0, 8).toString('hex'), '0500000004030201')
  assert.equal(message.subarray(-16).toString('hex'), '00'.repeat(16), 'no cookie, no mac2')
})

test('a hop key of low order, and a ticket without its sequence, are refused before anything is sent', () => {
  assert.throws(() => initiate({ staticPublic: new Uint8Array(32), localIndex: 1, random }), /no usable key/)
  assert.throws(() => begin(hop, { ticket: random(32) }), /needs a sequence/)
  assert.throws(() => begin(hop, { sequence: 1 }), /needs a sequence/)
})

/** The handshake as the specification has it, for peers that keep to Noise and to nothing else. */
const pattern: NoisePattern = {
  name: 'Noise_NKhfs_25519+MLKEM768_ChaChaPoly_BLAKE2s',
  hash: 'blake2s256',
  pre: { initiator: [], responder: ['s'] },
  messages: [
    ['e', 'es', 'e1'],
    ['e', 'ee', 'ekem1'],
  ],
}
const prologue = Buffer.from('hoplite hop handshake v1')

test('a stranger whose sealed contents are wrong is refused: KEM key, payload, index, ticket without sequence', () => {
  const kem = generateMlKem()
  const good = encodeInitiationPayload({ senderIndex: 7 })
  const send = (payload: Uint8Array, kemPublic = kem.publicKey) => {
    const options = { pattern, prologue, isInitiator: true, rs: hop.publicKey }
    const noise = new NoiseHandshake({ ...options, kem: { ...kem, publicKey: kemPublic } })
    const message = encodeInitiation({ senderIndex: 7, noise: noise.write(payload) ?? new Uint8Array(1312) })
    addMacs(message, hop.mac1Key)
    return respond({ keys: hop, message, localIndex: 9 })
  }
  assert.ok('response' in send(good))
  assert.deepEqual(send(good, new Uint8Array(1184).fill(0xff)), { error: 'malformed' })
  assert.deepEqual(send(new Uint8Array(64).fill(1)), { error: 'malformed' })
  assert.deepEqual(send(Uint8Array.from(good).fill(1, 32, 33)), { error: 'malformed' })
  assert.deepEqual(send(encodeInitiationPayload({ senderIndex: 8 })), { error: 'forged' })
})

test('a hop that answers in a version we do not speak is refused', () => {
  const { message, state } = begin()
  const s = { publicKey: hop.publicKey, privateKey: hop.privateKey }
  const noise = new NoiseHandshake({ pattern, prologue, isInitiator: false, s })
  assert.ok(noise.read(message.subarray(8, -32)))
  const written = noise.write(new Uint8Array(32).fill(2, 0, 1))
  assert.ok(written)
  const response = encodeResponse({ senderIndex: 9, receiverIndex: 7, noise: written })
  addMacs(response, mac1Key(message.subarray(8, 40)))
  assert.equal(finish(state, response), undefined)
})
