import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { encodeCard } from '#wire/device-card.ts'
import { decodePair, type PairMessage } from '#wire/pairing.ts'
import { makeLongCode, makeShortCode, type PairCode, placeKey } from './code.ts'
import { keyInBucket, openLetter, sealLetter } from './letter.ts'
import { cardOf, newOwnDevice } from './own-device.ts'
import { CODE_LIFETIME_MS, PairingGuest, PairingHost } from './pairing.ts'

const NOW = 1_800_000_000_000
const random = seededRandom('pairing')
const newKey = () => keyInBucket({ bits: 0, number: 0 }, random)
const CODE = makeShortCode(random)
const cards = { host: cardOf(newOwnDevice('desk', random)), guest: cardOf(newOwnDevice('laptop', random)) }

type Side = PairingHost | PairingGuest

/** Host and guests, and whoever listens; letters are really sealed and opened. */
class Meeting {
  now = NOW
  readonly host: PairingHost
  readonly sides: Side[]
  readonly letters: Uint8Array[] = []
  loses: (index: number) => boolean = () => false
  changes: (message: PairMessage) => PairMessage = message => message

  constructor(code: PairCode = CODE) {
    this.host = new PairingHost({ code, card: cards.host, random, newKey }, this.now)
    this.sides = [this.host]
  }

  join(code: PairCode = CODE, card = cards.guest): PairingGuest {
    const guest = new PairingGuest({ code, card, random, newKey }, this.now)
    this.sides.push(guest)
    return guest
  }

  /** Carries letters until nobody has anything to say. */
  run(): void {
    for (;;) {
      const drafts = this.sides.flatMap(side => side.take())
      if (drafts.length === 0) return
      for (const draft of drafts) {
        const letter = sealLetter(draft, 0, this.now + 60_000)
        assert.ok(letter)
        this.letters.push(letter)
        if (!this.loses(this.letters.length - 1)) this.deliver(letter)
      }
    }
  }

  deliver(letter: Uint8Array): void {
    for (const side of this.sides) {
      const content = side.keys.map(key => openLetter(letter, key)).find(opened => opened !== undefined)
      const message = content && decodePair(content)
      if (message !== undefined) side.handle(this.changes(message), this.now)
    }
  }

  pass(ms: number): void {
    for (const end = this.now + ms; this.now < end; ) {
      this.now = Math.min(end, ...this.sides.map(side => side.deadline()))
      for (const side of this.sides) side.handleDeadline(this.now)
      this.run()
    }
  }
}

const reasonOf = (side: Side) => (side.state.kind === 'failed' ? side.state.reason : undefined)
const cardFor = (side: Side) => side.state.kind === 'paired' && Buffer.from(encodeCard(side.state.card))
const wordsOf = (side: Side) => (side.state.kind === 'paired' ? side.state.words : undefined)

for (const code of [CODE, makeLongCode(random)]) {
  test(`two devices pair with the code ${code.text.length > 50 ? 'of a picture' : 'of four words'}: cards cross, and both see the same words`, () => {
    const meeting = new Meeting(code)
    const guest = meeting.join(code)
    meeting.run()
    assert.deepEqual(cardFor(guest), Buffer.from(encodeCard(cards.host)))
    assert.deepEqual(cardFor(meeting.host), Buffer.from(encodeCard(cards.guest)))
    assert.equal(wordsOf(guest)?.length, 4)
    assert.deepEqual(wordsOf(guest), wordsOf(meeting.host))
    assert.equal(meeting.letters.length, 4)
  })
}

test('a wrong code ends on both sides at once, and the right one is of no use any more', () => {
  const meeting = new Meeting()
  const wrong = meeting.join({ ...CODE, secret: Buffer.from('zoo-zoo') })
  meeting.run()
  assert.equal(reasonOf(wrong), 'wrongCode')
  assert.equal(reasonOf(meeting.host), 'wrongCode')
  const late = meeting.join()
  meeting.run()
  assert.equal(reasonOf(late), 'used')
})

test('a code that was used is refused to the next, and what was paired stays', () => {
  const meeting = new Meeting()
  const first = meeting.join()
  meeting.run()
  const second = meeting.join()
  meeting.run()
  assert.equal(reasonOf(second), 'used')
  assert.equal(first.state.kind, 'paired')
  assert.equal(meeting.host.state.kind, 'paired')
})

test('every letter may be lost once, or come again later, and they pair all the same', () => {
  for (let lost = 0; lost < 5; lost++) {
    const meeting = new Meeting()
    meeting.loses = index => index === lost
    const guest = meeting.join()
    meeting.run()
    meeting.pass(120_000)
    assert.equal(guest.state.kind, 'paired', `letter ${lost} was lost`)
    assert.equal(meeting.host.state.kind, 'paired')
    for (const letter of meeting.letters.slice()) meeting.deliver(letter)
    meeting.run()
    assert.deepEqual(wordsOf(guest), wordsOf(meeting.host))
  }
})

test('nobody comes: the code ends after ten minutes, on both sides with that reason', () => {
  const meeting = new Meeting()
  meeting.pass(CODE_LIFETIME_MS)
  assert.equal(reasonOf(meeting.host), 'nobodyAnswered')
  const alone = new Meeting()
  const guest = alone.join(makeShortCode(random))
  alone.run()
  alone.pass(CODE_LIFETIME_MS)
  assert.equal(reasonOf(guest), 'nobodyAnswered')
  assert.ok(alone.letters.length < 50)
})

test('a code that is taken back says so to a guest that is under way', () => {
  const meeting = new Meeting()
  meeting.loses = index => index >= 2
  const guest = meeting.join()
  meeting.run()
  assert.equal(meeting.host.state.kind, 'answered')
  meeting.loses = () => false
  meeting.host.withdraw()
  meeting.run()
  assert.equal(reasonOf(guest), 'withdrawn')
  assert.equal(reasonOf(meeting.host), 'withdrawn')
})

test('who changes any field on the way is noticed: nobody is paired with another', () => {
  const spoil = (bytes: Uint8Array) => Uint8Array.from(bytes, (byte, i) => (i === 5 ? byte ^ 1 : byte))
  const attacks: ((message: PairMessage) => PairMessage)[] = [
    message => ('share' in message ? { ...message, share: spoil(message.share) } : message),
    message => ('tag' in message ? { ...message, tag: spoil(message.tag) } : message),
    message =>
      message.kind === 'hello' ? { ...message, replyKey: placeKey(Buffer.from('mallory')).publicKey } : message,
    message => (message.kind === 'answer' ? { ...message, replyKey: spoil(message.replyKey) } : message),
    message => ('sealedCard' in message ? { ...message, sealedCard: spoil(message.sealedCard) } : message),
  ]
  for (const [i, attack] of attacks.entries()) {
    const meeting = new Meeting()
    meeting.changes = attack
    const guest = meeting.join()
    meeting.run()
    assert.notEqual(guest.state.kind, 'paired', `attack ${i}`)
  }
})

test('a flood of guests gets eight refusals and no more', () => {
  const meeting = new Meeting()
  meeting.join()
  meeting.run()
  const before = meeting.letters.length
  for (let i = 0; i < 40; i++) meeting.join()
  meeting.run()
  assert.equal(meeting.letters.length - before, 40 + 8)
})
