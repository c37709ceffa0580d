import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { type XWingKeyPair, xwingFromSeed } from '#crypto/xwing.ts'
import { decodeMatch, type MatchMessage } from '#wire/match.ts'
import { Matching, type MatchingOptions } from './matching.ts'

const random = seededRandom('matching')

function side(more: Partial<MatchingOptions> = {}) {
  const held = new Set<XWingKeyPair>()
  const matching = new Matching({
    random,
    newKey: () => xwingFromSeed(random(32)),
    hold: key => held.add(key),
    drop: key => held.delete(key),
    maxAnswersPerMinute: 3,
    ...more,
  })
  return { matching, held }
}

function sent(matching: Matching): MatchMessage[] {
  return matching.take().map(({ content }) => decodeMatch(content) as MatchMessage)
}

test('an answer may come later than its request, and is for the key that was made for it', () => {
  const waiting: ((offer: Uint8Array | undefined) => void)[] = []
  const server = side({ serve: (_offer, answer) => waiting.push(answer) })
  const asker = side()
  const ask = asker.matching.ask(new Uint8Array(1216), Buffer.from('where I am'), 0)
  const [request] = sent(asker.matching)
  assert.ok(request?.kind === 'request')
  server.matching.handle(request, 0)
  assert.deepEqual(sent(server.matching), [])
  waiting[0]?.(Buffer.from('where you find me'))
  const [draft] = server.matching.take()
  assert.deepEqual(draft?.to, Uint8Array.from(request.replyKey))
  asker.matching.handle(decodeMatch(draft?.content ?? new Uint8Array(0)) as MatchMessage, 5_000)
  const offer = Uint8Array.from(Buffer.from('where you find me'))
  assert.deepEqual(asker.matching.takeEvents(), [{ kind: 'answered', ask, isAccepted: true, offer }])
  assert.equal(asker.held.size, 0)
})

test('a flood of requests gets as many answers as a minute has, of one asker or of many', () => {
  let served = 0
  const server = side({ serve: (_offer, answer) => void (served++, answer(undefined)) })
  const flood = (now: number) => {
    for (let i = 0; i < 50; i++) {
      const asker = side()
      asker.matching.ask(new Uint8Array(1216), new Uint8Array(0), now)
      for (const request of sent(asker.matching)) server.matching.handle(request, now)
    }
  }
  flood(0)
  assert.deepEqual([served, server.matching.take().length], [3, 3])
  flood(59_000)
  assert.equal(served, 3)
  flood(60_000)
  assert.equal(served, 6)
})

test('who gives a request up reads no answer to it, and listens for none', () => {
  const server = side({ serve: (_offer, answer) => answer(new Uint8Array(1)) })
  const asker = side()
  const ask = asker.matching.ask(new Uint8Array(1216), new Uint8Array(0), 0) ?? ''
  const [request] = sent(asker.matching)
  asker.matching.withdraw(ask)
  assert.equal(asker.held.size, 0)
  if (request !== undefined) server.matching.handle(request, 0)
  for (const answer of sent(server.matching)) asker.matching.handle(answer, 0)
  assert.deepEqual(asker.matching.takeEvents(), [])
  assert.equal(asker.matching.deadline(), Number.POSITIVE_INFINITY)
})
