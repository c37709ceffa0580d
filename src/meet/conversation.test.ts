import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { type DeviceCard, encodeCard } from '#wire/device-card.ts'
import { type DeviceMessage, decodeDeviceMessage } from '#wire/device-message.ts'
import { Conversation, type ConversationEvent, NEW_CONVERSATION, type NotOpened } from './conversation.ts'
import { cardOf, newOwnDevice, type OwnDevice, rotateKeys } from './own-device.ts'

const NOW = 1_800_000_000_000
const random = seededRandom('conversation')

class Side {
  own: OwnDevice
  peer!: DeviceCard
  talk!: Conversation
  readonly events: ConversationEvent[] = []
  readonly refused: NotOpened[] = []

  constructor(name: string) {
    this.own = newOwnDevice(name, random)
  }

  know(peer: OwnDevice): void {
    this.peer = cardOf(peer)
    this.restore(NEW_CONVERSATION)
  }

  restore(state: typeof NEW_CONVERSATION): void {
    this.talk = new Conversation(() => ({ own: this.own, peer: this.peer, random }), state)
  }

  say(text: string, now: number): void {
    assert.ok(this.talk.send({ kind: 'data', body: Buffer.from(text) }, now))
  }

  hear(content: Uint8Array, now: number): void {
    const reason = this.talk.handle(decodeDeviceMessage(content) as DeviceMessage, now)
    if (reason !== undefined) this.refused.push(reason)
    this.events.push(...this.talk.takeEvents())
  }

  /** What was heard, and `(reset)` where a session was. */
  get heard(): string[] {
    return this.events.map(event => (event.kind === 'data' ? Buffer.from(event.data).toString() : `(${event.kind})`))
  }
}

function meet(): { a: Side; b: Side; run: (now: number) => number } {
  const [a, b] = [new Side('desk'), new Side('laptop')]
  a.know(b.own)
  b.know(a.own)
  const run = (now: number) => {
    for (let carried = 0; ; ) {
      const [fromA, fromB] = [a.talk.take(), b.talk.take()]
      if (fromA.length + fromB.length === 0) return carried
      carried += fromA.length + fromB.length
      assert.ok(carried < 50, 'they never stop')
      for (const { content } of fromA) b.hear(content, now)
      for (const { content } of fromB) a.hear(content, now)
      a.events.push(...a.talk.takeEvents())
      b.events.push(...b.talk.takeEvents())
    }
  }
  return { a, b, run }
}

test('either may begin, both understand, and both have the same secret for their tunnel', () => {
  const { a, b, run } = meet()
  a.say('hello', NOW)
  run(NOW)
  b.say('hello back', NOW + 1)
  a.say('and on', NOW + 1)
  run(NOW + 1)
  assert.deepEqual(b.heard, ['hello', 'and on'])
  assert.deepEqual(a.heard, ['hello back'])
  assert.ok(a.talk.isConfirmed && b.talk.isConfirmed)
  assert.ok(a.talk.tunnelSecret)
  assert.deepEqual(a.talk.tunnelSecret, b.talk.tunnelSecret)
})

test('the first messages may be lost: each carries the handshake until an answer came', () => {
  const { a, b, run } = meet()
  a.say('lost', NOW)
  a.talk.take()
  a.say('also lost', NOW)
  a.talk.take()
  a.say('here', NOW)
  run(NOW)
  assert.deepEqual(b.heard, ['here'])
  assert.deepEqual(a.heard, [])
  assert.ok(a.talk.isConfirmed)
})

test('both begin at once: they end up on one session', () => {
  const { a, b, run } = meet()
  a.say('from a', NOW)
  b.say('from b', NOW)
  run(NOW)
  a.say('more', NOW + 1)
  b.say('more', NOW + 1)
  run(NOW + 1)
  assert.deepEqual(a.talk.tunnelSecret, b.talk.tunnelSecret)
  assert.deepEqual(
    a.heard.filter(text => text !== '(reset)'),
    ['from b', 'more'],
  )
  assert.deepEqual(
    b.heard.filter(text => text !== '(reset)'),
    ['from a', 'more'],
  )
})

test('a message that comes twice, by another carrier or a day later, is heard once and disturbs nothing', () => {
  const { a, b, run } = meet()
  a.say('once', NOW)
  const [said] = a.talk.take()
  assert.ok(said)
  b.hear(said.content, NOW)
  b.hear(said.content, NOW + 86_400_000)
  run(NOW)
  assert.deepEqual(b.heard, ['once'])
  assert.deepEqual(b.refused, ['repeated'])
  assert.deepEqual(a.heard, [])
})

for (const speaks of ['the restored one', 'the other'] as const) {
  test(`a device restored from an old backup recovers when ${speaks} speaks, and both notice`, () => {
    const { a, b, run } = meet()
    a.say('one', NOW)
    run(NOW)
    b.say('two', NOW)
    run(NOW)
    const backup = a.talk.state
    for (let i = 0; i < 5; i++) {
      a.say('after', NOW + i)
      b.say('after', NOW + i)
      run(NOW + i)
    }
    a.restore(backup)
    a.events.length = 0
    b.events.length = 0
    const later = NOW + 3_600_000
    ;(speaks === 'the other' ? b : a).say('can you read this', later)
    run(later)
    assert.ok(a.heard.includes('(reset)') && b.heard.includes('(reset)'), `${a.heard} / ${b.heard}`)
    a.say('now yes', later + 1)
    b.say('me too', later + 1)
    run(later + 1)
    assert.equal(a.heard.at(-1), 'me too')
    assert.equal(b.heard.at(-1), 'now yes')
    assert.deepEqual(a.talk.tunnelSecret, b.talk.tunnelSecret)
  })
}

test('a device that lost everything but its keys recovers', () => {
  const { a, b, run } = meet()
  a.say('one', NOW)
  run(NOW)
  a.restore(NEW_CONVERSATION)
  b.say('there?', NOW + 60_000)
  run(NOW + 60_000)
  b.say('again', NOW + 60_001)
  run(NOW + 60_001)
  assert.equal(a.heard.at(-1), 'again')
  assert.ok(b.heard.includes('(reset)'))
})

test('a clock that went back does not keep two apart', () => {
  const { a, b, run } = meet()
  a.say('one', NOW)
  run(NOW)
  a.restore(NEW_CONVERSATION)
  a.say('from the past', NOW - 86_400_000)
  for (const { content } of a.talk.take()) b.hear(content, NOW + 60_000)
  for (const { content } of b.talk.take()) a.hear(content, NOW + 60_000)
  run(NOW + 60_000)
  a.say('better', NOW + 60_000)
  run(NOW + 60_000)
  assert.equal(b.heard.at(-1), 'better')
})

test('an old handshake that somebody recorded begins nothing', () => {
  const { a, b, run } = meet()
  a.say('first', NOW)
  const recorded = a.talk.take()
  a.restore(NEW_CONVERSATION)
  a.say('second', NOW + 1_000)
  run(NOW + 1_000)
  for (const { content } of recorded) b.hear(content, NOW + 2_000)
  assert.deepEqual(b.refused, ['oldHandshake'])
  assert.ok(!b.heard.includes('first'))
  run(NOW + 2_000)
  a.say('on', NOW + 3_000)
  run(NOW + 3_000)
  assert.equal(b.heard.at(-1), 'on')
})

test('garbage in the name of a device begins one session in 30 seconds, and ever fewer', () => {
  const { a, b, run } = meet()
  a.say('one', NOW)
  run(NOW)
  b.events.length = 0
  const garbage = (i: number): DeviceMessage => ({
    sender: a.own.id,
    session: random(8),
    begin: undefined,
    ratchet: { ratchetKey: random(32), previousLength: 0, number: i, salt: random(16), ciphertext: random(40) },
  })
  let contents = 0
  for (let i = 0; i < 600; i++) {
    b.talk.handle(garbage(i), NOW + i * 1_000)
    contents += b.talk.take().length
  }
  assert.equal(contents, 5, 'after 0, 30, 90, 210 and 450 seconds')
  assert.ok(b.talk.state.sessions.length <= 4)
})

test('two that can never understand each other do not go on for ever', () => {
  const { a, b, run } = meet()
  a.own = { ...newOwnDevice('other keys', random), id: a.own.id }
  a.say('who am I', NOW)
  assert.ok(run(NOW) <= 6)
  assert.deepEqual(b.heard, [])
})

test('new keys reach the other side, which then writes to them', () => {
  const { a, b, run } = meet()
  const next = rotateKeys(a.own, random)
  assert.equal(a.talk.sendCard(cardOf(next), NOW), false, 'not before the session is confirmed')
  a.say('one', NOW)
  run(NOW)
  assert.ok(a.talk.sendCard(cardOf(next), NOW + 1))
  a.own = next
  run(NOW + 1)
  const event = b.events.at(-1)
  assert.ok(event?.kind === 'card')
  assert.deepEqual(Buffer.from(encodeCard(event.card)), Buffer.from(encodeCard(cardOf(next))))
  b.peer = event.card
  b.restore(NEW_CONVERSATION)
  b.say('to the new keys', NOW + 40_000)
  run(NOW + 40_000)
  assert.equal(a.heard.at(-1), 'to the new keys')
})

test('nobody can write in the name of another: not with all public keys of both', () => {
  const { a, b, run } = meet()
  const mallory = new Side('mallory')
  mallory.own = { ...mallory.own, id: a.own.id }
  mallory.know(b.own)
  mallory.say('I am a', NOW)
  for (const { content } of mallory.talk.take()) b.hear(content, NOW)
  assert.deepEqual(b.heard, [])
  assert.equal(b.refused.length, 1)
  run(NOW)
})
