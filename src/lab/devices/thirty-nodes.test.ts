import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LETTER_BYTES } from '#wire/letter.ts'
import { type Asked, type Sighting, ThirtyNodes } from './thirty-nodes.ts'

const ROUNDS = 3
/** What an observer can do without cover shows in fewer. */
const ROUNDS_AT_ONCE = 2

/** A way to tell from what was seen whom an asker met in a round: a score for each server, the highest is the guess. */
type Guess = (context: {
  readonly asker: number
  readonly server: number
  readonly seen: readonly Sighting[]
  readonly bucketOf: ReadonlyMap<number, number>
}) => number

const GUESSES: Record<string, Guess> = {
  'who posts soonest after the asker': ({ asker, server, seen }) => {
    const own = seen.filter(({ node }) => node === asker)
    const gaps = own.map(({ atMs }) =>
      Math.min(...seen.filter(({ node, atMs: at }) => node === server && at > atMs).map(({ atMs: at }) => at - atMs)),
    )
    return -Math.min(...gaps)
  },
  'who always posts soon after the asker': ({ asker, server, seen }) => {
    const own = seen.filter(({ node }) => node === asker)
    const gaps = own.map(({ atMs }) =>
      Math.min(
        60_000,
        ...seen.filter(({ node, atMs: at }) => node === server && at > atMs).map(({ atMs: at }) => at - atMs),
      ),
    )
    return -gaps.reduce((sum, gap) => sum + gap, 0)
  },
  'who posts most': ({ server, seen }) => seen.filter(({ node }) => node === server).length,
  'who listens where the asker posts most, and posts where the asker listens': ({ asker, server, seen, bucketOf }) => {
    const toServer = seen.filter(({ node, bucket }) => node === asker && bucket === bucketOf.get(server)).length
    const back = seen.filter(({ node, bucket }) => node === server && bucket === bucketOf.get(asker)).length
    return toServer + back
  },
}

interface Outcome {
  readonly net: ThirtyNodes
  readonly asked: number
  /** How many were told rightly, by the way of guessing. */
  readonly right: ReadonlyMap<string, number>
}

const played = new Map<string, Promise<Outcome>>()

/** Plays once for each kind of network. */
function play(bits: number, hasCover: boolean, askersCome = false): Promise<Outcome> {
  const key = `${bits} ${hasCover} ${askersCome}`
  const outcome = played.get(key) ?? playNow(bits, hasCover, askersCome)
  played.set(key, outcome)
  return outcome
}

async function playNow(bits: number, hasCover: boolean, askersCome: boolean): Promise<Outcome> {
  await using net = new ThirtyNodes({ seed: `thirty ${bits} ${hasCover}`, bits, hasCover, askersCome })
  const bucketOf = new Map(net.nodes.map(node => [node.index, node.bucket.number]))
  const right = new Map(Object.keys(GUESSES).map(name => [name, 0]))
  let asked = 0
  for (let round = 0; round < (hasCover ? ROUNDS : ROUNDS_AT_ONCE); round++) {
    const [sawBefore, knewBefore] = [net.seen.length, net.truth.length]
    await net.round()
    const seen = net.seen.slice(sawBefore)
    for (const { asker, server } of net.truth.slice(knewBefore) as readonly Asked[]) {
      asked++
      for (const [name, guess] of Object.entries(GUESSES)) {
        const scores = net.servers.map(({ index }) => guess({ asker, server: index, seen, bucketOf }))
        const best = Math.max(...scores)
        // Between equals the observer throws dice.
        const candidates = net.servers.filter((_, i) => scores[i] === best)
        const pick = candidates[(net.random(1)[0] ?? 0) % candidates.length]
        if (pick?.index === server) right.set(name, (right.get(name) ?? 0) + 1)
      }
    }
  }
  return { net, asked, right }
}

/** As many rightly told as chance gives, and three and a half standard deviations more. */
function mostByChance(count: number, chance: number): number {
  return count * chance + 3.5 * Math.sqrt(count * chance * (1 - chance))
}

test('thirty nodes: everybody who asks is answered, and nobody can tell better than by guessing who met whom', async t => {
  const { net, asked, right } = await play(0, true)
  assert.equal(asked, ROUNDS * net.askers.length)
  for (const { server, offer } of net.truth) assert.equal(offer, net.nodes[server]?.address)
  const most = mostByChance(asked, 1 / net.servers.length)
  for (const [name, count] of right) {
    t.diagnostic(`${name}: ${count} of ${asked}; by chance at most ${most.toFixed(1)}`)
    assert.ok(count <= most, `${name}: ${count} of ${asked}`)
  }
  const waits = net.truth.map(({ atMs, answeredMs = 0 }) => answeredMs - atMs).toSorted((a, b) => a - b)
  t.diagnostic(
    `time to the answer: median ${Math.round(waits[waits.length >> 1] ?? 0)} ms, longest ${Math.round(waits.at(-1) ?? 0)} ms`,
  )
})

test('who asks two with the first letters after coming is told from nothing else, and has an answer sooner', async t => {
  const { net, asked, right } = await play(0, true, true)
  assert.equal(asked, 2 * ROUNDS * net.askers.length)
  const most = mostByChance(asked, 1 / net.servers.length)
  for (const [name, count] of right) {
    t.diagnostic(`${name}: ${count} of ${asked}; by chance at most ${most.toFixed(1)}`)
    assert.ok(count <= most, `${name}: ${count} of ${asked}`)
  }
  // Of the two whichever comes first.
  const waits = [...Map.groupBy(net.truth, ({ asker, atMs }) => `${asker} ${atMs}`).values()]
    .map(two => Math.min(...two.map(({ atMs, answeredMs = Number.POSITIVE_INFINITY }) => answeredMs - atMs)))
    .toSorted((a, b) => a - b)
  t.diagnostic(`time to the first answer: median ${waits[waits.length >> 1]} ms, longest ${waits.at(-1)} ms`)
  assert.ok((waits[waits.length >> 1] ?? 0) < 2_500)
  assert.ok((waits.at(-1) ?? 0) < 5_000)
})

test('with two buckets, the bucket of a letter says no more than which half its reader is in', async t => {
  const { net, asked, right } = await play(1, true)
  const sizes = [0, 1].map(number => net.servers.filter(node => node.bucket.number === number).length)
  const chance = 1 / Math.max(1, Math.min(...sizes))
  for (const [name, count] of right) {
    t.diagnostic(`${name}: ${count} of ${asked}; buckets of ${sizes}`)
    assert.ok(count <= mostByChance(asked, chance), `${name}: ${count} of ${asked}`)
  }
})

test('the same observer tells nearly all pairs when letters go out at once: it is no weak one', async t => {
  const { asked, right } = await play(0, false)
  const best = Math.max(...right.values())
  t.diagnostic(`${best} of ${asked}`)
  assert.ok(best > asked / 2)
})

test('no address is in anything that was seen, and each is known to those alone who met it', async () => {
  const { net } = await play(1, true)
  const wire = Buffer.concat(net.seen.map(({ letter }) => letter))
  for (const { address } of net.nodes) {
    const [host = '', port = ''] = address.split(':')
    assert.equal(wire.indexOf(host), -1)
    assert.equal(
      wire.indexOf(Buffer.from([...host.split('.').map(Number), Number(port) & 0xff, Number(port) >> 8])),
      -1,
    )
  }
  const met = new Map(net.nodes.map(({ index }) => [index, new Set<string>()]))
  for (const { asker, server } of net.truth) {
    met.get(asker)?.add(net.nodes[server]?.address ?? '')
    met.get(server)?.add(net.nodes[asker]?.address ?? '')
  }
  for (const { index, opened } of net.nodes) assert.deepEqual(new Set(opened), met.get(index))
})

test('what is seen is the same for all: size, rate, one bucket to listen in from beginning to end', async () => {
  const { net } = await play(1, true)
  for (const { letter } of net.seen) assert.equal(letter.length, LETTER_BYTES)
  const counts = net.nodes.map(({ index }) => net.seen.filter(({ node }) => node === index).length)
  assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, `${counts}`)
  for (const node of net.nodes) assert.deepEqual(node.buckets, [node.bucket.number])
})
