import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { REFUSAL } from '#wire/control.ts'
import { MeetingRoom } from './meeting-room.ts'

const TOKEN = new Uint8Array(32).fill(1)
const guest = (session: number, host = `192.0.2.${session % 256}`) => ({ session, host })
const room = (maxFlows = 64) => new MeetingRoom({ maxFlows, bytesPerSecond: 1_000_000 })

test('the second who shows a token is told of the first, and the first is not told of anybody', () => {
  const meetings = room()
  assert.deepEqual(meetings.enter(guest(1), 7, TOKEN, 0), { other: undefined })
  assert.deepEqual(meetings.enter(guest(2), 8, TOKEN, 0), { other: { session: 1, flow: 7 } })
})

test('a third party that has the token is refused, and so is who would meet itself', () => {
  const meetings = room()
  meetings.enter(guest(1), 1, TOKEN, 0)
  assert.deepEqual(meetings.enter(guest(1), 2, TOKEN, 0), { refusal: REFUSAL.notAllowed })
  meetings.enter(guest(2), 1, TOKEN, 0)
  assert.deepEqual(meetings.enter(guest(3), 1, TOKEN, 0), { refusal: REFUSAL.notAllowed })
})

test('who leaves makes room for one that comes back, and the last takes the token along', () => {
  const meetings = room()
  meetings.enter(guest(1), 1, TOKEN, 0)
  meetings.enter(guest(2), 1, TOKEN, 0)
  meetings.leave(2, 1)
  meetings.leave(2, 1)
  assert.deepEqual(meetings.enter(guest(4), 3, TOKEN, 0), { other: { session: 1, flow: 1 } })
  meetings.leave(1, 1)
  meetings.leave(4, 3)
  assert.equal(meetings.size, 0)
  assert.deepEqual(meetings.enter(guest(5), 1, TOKEN, 0), { other: undefined })
})

test('guessed tokens meet nobody, and one address guesses sixty times a minute', () => {
  const meetings = room(1_024)
  const random = seededRandom('guess')
  meetings.enter(guest(1), 1, random(32), 0)
  let answered = 0
  for (let session = 2; session < 200; session++) {
    const entered = meetings.enter(guest(session, '203.0.113.9'), 1, random(32), 1_000)
    if ('refusal' in entered) continue
    answered++
    assert.equal(entered.other, undefined)
    meetings.leave(session, 1)
  }
  assert.equal(answered, 60)
  assert.deepEqual(meetings.enter(guest(500, '203.0.113.9'), 1, random(32), 61_000), { other: undefined })
})

test('one session, one address and all of them have their bounds; nobody is put out for another', () => {
  const random = seededRandom('flood')
  const meetings = room(64)
  const count = (host: (i: number) => string, session: (i: number) => number) => {
    let taken = 0
    for (let i = 0; i < 200; i++)
      if ('other' in meetings.enter({ session: session(i), host: host(i) }, i, random(32), 0)) taken++
    return taken
  }
  meetings.enter(guest(1), 1, TOKEN, 0)
  assert.equal(
    count(
      () => '198.51.100.1',
      () => 2,
    ),
    8,
  )
  assert.equal(
    count(
      () => '198.51.100.2',
      i => 1_000 + i,
    ),
    16,
  )
  assert.equal(
    count(
      i => `2001:db8::${i}`,
      i => 2_000 + i,
    ),
    16,
    'a /64 is one',
  )
  assert.equal(
    count(
      i => `203.0.113.${i}`,
      i => 3_000 + i,
    ),
    23,
  )
  assert.equal(meetings.size, 64)
  assert.deepEqual(meetings.enter(guest(9_999), 1, TOKEN, 60_000), { refusal: REFUSAL.tooMany })
  meetings.leave(2, 0)
  assert.deepEqual(meetings.enter(guest(9_999), 1, TOKEN, 60_000), { other: { session: 1, flow: 1 } })
})

test('who has met somebody is told where that is, and nobody else is', () => {
  const meetings = room()
  meetings.enter(guest(1), 7, TOKEN, 0)
  assert.equal(meetings.hostOfOther(1, 7), undefined, 'nobody has come')
  meetings.enter(guest(2), 8, TOKEN, 0)
  assert.equal(meetings.hostOfOther(1, 7), '192.0.2.2')
  assert.equal(meetings.hostOfOther(2, 8), '192.0.2.1')
  assert.equal(meetings.hostOfOther(2, 7), undefined, 'a flow of another session')
  meetings.leave(2, 8)
  assert.equal(meetings.hostOfOther(1, 7), undefined, 'it has gone')
})
