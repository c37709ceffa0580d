import assert from 'node:assert/strict'
import test from 'node:test'
import { isSpent, type Leg, Legs } from './legs.ts'

const INITIATION = message(1, 148)
const RESPONSE = message(2, 92)
const COOKIE = message(3, 64)
const DATA = message(4, 96)
const KEEPALIVE = message(4, 32)

function message(type: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  bytes[0] = type
  return bytes
}

/** Legs over sessions 1 to `count`, of which the first is in use. */
function legsOf(count: number): { readonly legs: Legs; readonly all: readonly Leg[] } {
  const legs = new Legs()
  const all = Array.from({ length: count }, (_, i) => legs.add(i + 1, 10 + i))
  legs.use(1)
  return { legs, all }
}

/** The session whose leg a datagram to the server takes. */
const take = (legs: Legs, bytes: Uint8Array, now: number) => legs.outward(bytes, 0, bytes.length, now)?.session

function prove(legs: Legs, ...all: (Leg | undefined)[]): void {
  for (const leg of all) if (leg !== undefined) legs.inward(leg, RESPONSE[0])
}

test('without a leg in use nothing takes any, be it proven or not', () => {
  const legs = new Legs()
  prove(legs, legs.add(1, 1))
  for (const bytes of [INITIATION, RESPONSE, COOKIE, DATA]) assert.equal(take(legs, bytes, 0), undefined)
  legs.use(1)
  assert.equal(take(legs, DATA, 0), 1)
  legs.use(undefined)
  for (const bytes of [INITIATION, RESPONSE, COOKIE, DATA]) assert.equal(take(legs, bytes, 0), undefined)
  assert.equal(legs.use(77), undefined)
  assert.equal(take(legs, DATA, 0), undefined)
})

test('until a leg is proven it takes initiations alone, and three at most', () => {
  const { legs, all } = legsOf(1)
  for (const bytes of [RESPONSE, COOKIE, DATA, KEEPALIVE]) assert.equal(take(legs, bytes, 0), undefined)
  assert.deepEqual(
    [0, 5_000, 10_000, 15_000, 90_000].map(now => take(legs, INITIATION, now)),
    [1, 1, 1, undefined, undefined],
  )
  assert.ok(all[0] !== undefined && isSpent(all[0]))
})

test('a leg is proven by a response or a cookie reply, once, and by nothing else', () => {
  for (const answer of [RESPONSE, COOKIE]) {
    const { legs, all } = legsOf(1)
    const [leg] = all
    assert.ok(leg !== undefined)
    for (const bytes of [INITIATION, DATA, KEEPALIVE, message(0, 92)]) assert.equal(legs.inward(leg, bytes[0]), false)
    assert.equal(legs.inward(leg, answer[0]), true)
    assert.equal(legs.inward(leg, answer[0]), false)
    assert.equal(take(legs, DATA, 0), 1)
    assert.ok(!isSpent(leg))
  }
})

test('a proven leg takes any number of initiations', () => {
  const { legs, all } = legsOf(1)
  prove(legs, all[0])
  for (let now = 0; now < 100_000; now += 1_000) assert.equal(take(legs, INITIATION, now), 1)
})

test('while the leg in use is not proven, data takes one that is', () => {
  const { legs, all } = legsOf(3)
  prove(legs, all[2])
  assert.equal(take(legs, DATA, 0), 3)
  assert.equal(take(legs, INITIATION, 0), 1)
})

test('the first initiation of a handshake proves a spare in passing; its repetition takes the leg in use', () => {
  const { legs, all } = legsOf(3)
  prove(legs, all[0])
  assert.equal(take(legs, INITIATION, 0), 2)
  assert.equal(take(legs, INITIATION, 5_000), 1)
  assert.equal(take(legs, INITIATION, 10_000), 1)
  prove(legs, all[0])
  assert.equal(take(legs, INITIATION, 11_000), 3, 'after an answer the next is a new beginning')
  assert.equal(take(legs, INITIATION, 23_000), 2, 'and so is one that comes 12 s later')
  assert.deepEqual(
    all.map(({ initiations }) => initiations),
    [0, 2, 1],
  )
})

test('a cookie reply is no end of a handshake: the client repeats its initiation by the leg in use', () => {
  const { legs, all } = legsOf(2)
  prove(legs, all[0])
  assert.equal(take(legs, INITIATION, 0), 2)
  assert.ok(all[1] !== undefined && legs.inward(all[1], COOKIE[0]))
  assert.equal(take(legs, INITIATION, 5_000), 1)
})

test('spares that were asked three times for nothing are left alone', () => {
  const { legs, all } = legsOf(2)
  prove(legs, all[0])
  for (let i = 0; i < 3; i++) assert.equal(take(legs, INITIATION, i * 20_000), 2)
  assert.equal(take(legs, INITIATION, 60_000), 1)
})

test('when the leg in use is spent, initiations take the next unproven one, and then a proven one', () => {
  const { legs, all } = legsOf(3)
  for (let i = 0; i < 3; i++) take(legs, INITIATION, i * 5_000)
  assert.equal(take(legs, INITIATION, 15_000), 2)
  prove(legs, all[1])
  assert.equal(take(legs, INITIATION, 40_000), 3)
  prove(legs, all[2])
  assert.equal(take(legs, INITIATION, 80_000), 2)
})

test('each initiation takes one leg and no more', () => {
  const { legs, all } = legsOf(3)
  for (let i = 0; i < 12; i++) {
    const before = all.reduce((sum, { initiations }) => sum + initiations, 0)
    take(legs, INITIATION, i * 20_000)
    const after = all.reduce((sum, { initiations }) => sum + initiations, 0)
    assert.equal(after - before, i < 9 ? 1 : 0)
  }
})

test('a copy of a packet takes each proven spare once a minute', () => {
  const { legs, all } = legsOf(4)
  prove(legs, all[0], all[1], all[3])
  const sessions = (now: number) => legs.refreshed(now).map(({ session }) => session)
  assert.deepEqual(sessions(0), [2, 4])
  assert.deepEqual(sessions(59_999), [])
  legs.use(2)
  assert.deepEqual(sessions(60_000), [1, 4])
})

test('the leg in use is silent since the first data that nothing answered; keepalives and handshakes are none', () => {
  const { legs, all } = legsOf(2)
  prove(legs, all[0], all[1])
  for (const bytes of [KEEPALIVE, INITIATION, RESPONSE, COOKIE]) take(legs, bytes, 0)
  assert.equal(legs.silentMs(9_000), 0)
  take(legs, DATA, 10_000)
  take(legs, DATA, 11_000)
  assert.equal(legs.silentMs(12_000), 2_000)
  assert.ok(all[0] !== undefined && all[1] !== undefined)
  legs.inward(all[1], DATA[0])
  assert.equal(legs.silentMs(12_000), 2_000, 'what comes by another leg says nothing of this one')
  legs.inward(all[0], KEEPALIVE[0])
  assert.equal(legs.silentMs(12_000), 0)
  take(legs, DATA, 13_000)
  legs.use(2)
  assert.equal(legs.silentMs(14_000), 0, 'a leg that is taken into use begins anew')
})

test('a session has one leg, and a leg that is removed is in use no more', () => {
  const { legs, all } = legsOf(2)
  const again = legs.add(1, 99)
  assert.deepEqual(legs.all, [all[1], again])
  assert.equal(legs.inUse, undefined)
  legs.use(1)
  assert.equal(legs.remove(1), again)
  assert.equal(legs.remove(1), undefined)
  assert.equal(legs.inUse, undefined)
  assert.deepEqual(legs.all, [all[1]])
})

test('a datagram is read where it lies in its buffer', () => {
  const { legs, all } = legsOf(1)
  const buffer = new Uint8Array(300)
  buffer.set(INITIATION, 100)
  assert.equal(legs.outward(buffer, 0, 100, 0), undefined)
  assert.equal(legs.outward(buffer, 100, 148, 0), all[0])
})
