import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { xwingFromSeed } from '#crypto/xwing.ts'
import { LETTER_BYTES } from '#wire/letter.ts'
import { LetterGate } from './gate.ts'
import { Inbox } from './inbox.ts'
import { bucketOf, openLetter, sealLetter } from './letter.ts'
import { Poster } from './poster.ts'
import { beginWork, letterId, searchWork, workOf } from './work.ts'

const NOW = 1_800_000_000_000
const OPTIONS = { workBits: 6, maxLifetimeMs: 600_000, perSecond: 10, burst: 20 }
const INBOX = { ...OPTIONS, bucketBits: 2, maxOpeningsPerSecond: 1_000 }
const random = seededRandom('letters')
const newKey = () => xwingFromSeed(random(32))

function letterFor(
  to: Uint8Array,
  { text = 'hello', bits = 2, expiresMs = NOW + 300_000, work = OPTIONS.workBits } = {},
): Uint8Array {
  const letter = sealLetter({ to, content: Buffer.from(text) }, bits, expiresMs)
  assert.ok(letter)
  assert.ok(searchWork(beginWork(letter, work), 1_000_000))
  return letter
}

test('a letter opens for its reader alone, and every letter has the same size', () => {
  const [ours, theirs] = [newKey(), newKey()]
  const letter = letterFor(ours.publicKey)
  assert.equal(letter.length, LETTER_BYTES)
  assert.equal(letterFor(theirs.publicKey, { text: 'x'.repeat(2_900) }).length, LETTER_BYTES)
  assert.equal(Buffer.from(openLetter(letter, ours) ?? []).toString(), 'hello')
  assert.equal(openLetter(letter, theirs), undefined)
})

test('buckets are the first bits of a hash of the key: one more bit halves each', () => {
  const { publicKey } = newKey()
  assert.equal(bucketOf(publicKey, 0).number, 0)
  for (let bits = 1; bits <= 16; bits++)
    assert.equal(bucketOf(publicKey, bits).number >> 1, bucketOf(publicKey, bits - 1).number)
})

test('work is found in pieces, and covers every byte of the letter', () => {
  const letter = letterFor(newKey().publicKey, { work: 0 })
  const search = beginWork(letter, 12)
  let pieces = 1
  while (!searchWork(search, 1)) pieces++
  assert.ok(workOf(letter) >= 12)
  assert.ok(pieces > 1)
  const id = letterId(letter)
  for (const at of [1, 4, 16, 1_000, LETTER_BYTES - 1]) {
    const changed = Uint8Array.from(letter)
    changed[at] = (changed[at] ?? 0) ^ 1
    assert.notEqual(letterId(changed), id)
  }
})

test('what is for us is found among what is not, and nothing is read twice', () => {
  const inbox = new Inbox<string>(INBOX)
  const [first, second, other] = [newKey(), newKey(), newKey()]
  inbox.hold(first, 'first')
  inbox.hold(second, 'second')
  assert.deepEqual(inbox.receive(letterFor(other.publicKey), 'a', NOW), { kind: 'foreign' })
  const letter = letterFor(second.publicKey)
  const received = inbox.receive(letter, 'a', NOW)
  assert.equal(received.kind === 'opened' && received.purpose, 'second')
  assert.deepEqual(inbox.receive(letter, 'b', NOW + 1), { kind: 'refused', reason: 'repeated' })
  inbox.drop(second)
  assert.deepEqual(inbox.receive(letterFor(second.publicKey), 'a', NOW), { kind: 'foreign' })
})

test('a letter that has less work, has expired or would live too long is refused', () => {
  const gate = new LetterGate(OPTIONS)
  const { publicKey } = newKey()
  const admit = (letter: Uint8Array) => gate.admit(letter, 'a', NOW)
  let idle = letterFor(publicKey, { work: 0 })
  while (workOf(idle) >= OPTIONS.workBits) idle = letterFor(publicKey, { work: 0 })
  assert.deepEqual(admit(idle), { refused: 'tooLittleWork' })
  assert.deepEqual(admit(letterFor(publicKey, { expiresMs: NOW - 400_000 })), { refused: 'expired' })
  assert.deepEqual(admit(letterFor(publicKey, { expiresMs: NOW + 2_000_000 })), { refused: 'livesTooLong' })
  assert.deepEqual(admit(random(LETTER_BYTES - 1)), { refused: 'malformed' })
  assert.ok('bucket' in admit(letterFor(publicKey)))
})

test('one source that floods is cut off; others are not, and it may go on later', () => {
  const gate = new LetterGate(OPTIONS)
  const garbage = random(LETTER_BYTES)
  const letter = letterFor(newKey().publicKey)
  for (let i = 0; i < 100; i++) gate.admit(garbage, 'flood', NOW)
  assert.deepEqual(gate.admit(letter, 'flood', NOW), { refused: 'tooMany' })
  assert.ok('bucket' in gate.admit(letter, 'calm', NOW))
  assert.ok('bucket' in gate.admit(letterFor(newKey().publicKey), 'flood', NOW + 1_000))
})

test('memory stays bounded whatever comes', () => {
  const gate = new LetterGate(OPTIONS)
  for (let i = 0; i < 5_000; i++) gate.admit(random(10), `source ${i}`, NOW)
  assert.equal(gate.size.sources, 1_024)
  assert.equal(gate.size.letters, 0)
})

test('a flood that paid for its work does not take more openings than allowed', () => {
  const inbox = new Inbox<string>({ ...INBOX, bucketBits: 0, maxOpeningsPerSecond: 2 })
  inbox.hold(newKey(), 'ours')
  const kinds = [1, 2, 3].map(() => inbox.receive(letterFor(newKey().publicKey, { bits: 0 }), 'a', NOW))
  assert.deepEqual(kinds.at(-1), { kind: 'refused', reason: 'busy' })
  assert.deepEqual(inbox.receive(letterFor(newKey().publicKey, { bits: 0 }), 'a', NOW + 1_000), { kind: 'foreign' })
})

test('one letter goes out in every interval, with something to say or without', () => {
  const poster = new Poster({ intervalMs: 4_000, random: seededRandom('poster') }, NOW)
  const { publicKey: to } = newKey()
  assert.ok(poster.deadline() >= NOW && poster.deadline() < NOW + 4_000)
  assert.equal(poster.take(NOW - 1), undefined)
  poster.post({ to, content: Buffer.from('one') })
  poster.post({ to, content: Buffer.from('two') })
  const times: number[] = []
  const contents: string[] = []
  for (let i = 0; i < 4; i++) {
    const at = poster.deadline()
    times.push(at)
    contents.push(Buffer.from(poster.take(at)?.content ?? []).toString())
    assert.equal(poster.take(at), undefined, 'one letter in one interval')
  }
  assert.deepEqual(contents, ['one', 'two', '', ''])
  for (let i = 1; i < times.length; i++) assert.equal((times[i] ?? 0) - (times[i - 1] ?? 0), 4_000)
})

test('who comes posts so many letters at once, with something to say or without, and then one in every interval', () => {
  for (const words of [[], ['one'], ['one', 'two', 'three']]) {
    const poster = new Poster({ intervalMs: 4_000, random: seededRandom('first'), firstLetters: 2 }, NOW)
    const { publicKey: to } = newKey()
    for (const word of words) poster.post({ to, content: Buffer.from(word) })
    const first = poster.deadline()
    assert.ok(first - NOW < 100)
    const contents = [1, 2].map(() => Buffer.from(poster.take(first)?.content ?? [1]).toString())
    assert.deepEqual(contents, [words[0] ?? '', words[1] ?? ''])
    assert.equal(poster.take(first), undefined)
    const next = poster.deadline()
    assert.ok(next >= first + 2_000 && next < first + 6_000, `${next - first}`)
    assert.equal(Buffer.from(poster.take(next)?.content ?? [1]).toString(), words[2] ?? '')
    assert.equal(poster.deadline(), next + 4_000)
  }
})

test('who slept through many intervals posts once; who has too much to say is told so', () => {
  const poster = new Poster({ intervalMs: 4_000, random }, NOW)
  assert.ok(poster.take(NOW + 3_600_000))
  assert.equal(poster.take(NOW + 3_600_001), undefined)
  const draft = { to: newKey().publicKey, content: new Uint8Array(0) }
  const taken = Array.from({ length: 70 }, () => poster.post(draft)).filter(Boolean).length
  assert.equal(taken, 64)
})

test('of drafts with one topic only the newest goes out, in the turn of the first', () => {
  const poster = new Poster({ intervalMs: 4_000, random }, NOW)
  const { publicKey: to } = newKey()
  const say = (text: string, topic?: string) =>
    poster.post({ to, content: Buffer.from(text), ...(topic !== undefined && { topic }) })
  say('where a is', 'a')
  say('something else')
  say('where a is now', 'a')
  const contents = [1, 2].map(() => Buffer.from(poster.take(poster.deadline())?.content ?? []).toString())
  assert.deepEqual(contents, ['where a is now', 'something else'])
  assert.equal(poster.waiting, 0)
})
