import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { seededRandom } from '#crypto/random.ts'
import type { Role } from '#wire/descriptor.ts'
import { areRelated, type Candidate, choosePeers, chooseRoute } from './choose.ts'
import { GUARD_COUNT, Guards } from './guards.ts'

function relay(id: string, operator: string, network: number, roles: Role[], capacityKbit = 100): Candidate {
  const key = new Uint8Array(32)
  const address = { host: `10.${network}.0.1`, port: 1 }
  return { id, operator, address, key, roles, family: [], exitPorts: [], hasTunnel: false, capacityKbit }
}

const arbitrary = fc
  .array(
    fc.record({
      operator: fc.constantFrom('a', 'b', 'c', 'd'),
      network: fc.integer({ min: 0, max: 5 }),
      roles: fc.subarray<Role>(['guard', 'middle', 'exit', 'peer'], { minLength: 1 }),
    }),
    { minLength: 1, maxLength: 9 },
  )
  .map(plans => plans.map(({ operator, network, roles }, i) => relay(`r${i}`, operator, network, roles)))

/** The slow twin: tries every sequence of relays. */
function exists(relays: readonly Candidate[], roles: readonly Role[], picked: readonly Candidate[] = []): boolean {
  const [role, ...rest] = roles
  if (role === undefined) return true
  return relays.some(
    one =>
      one.roles.includes(role) &&
      !picked.some(other => areRelated(one, other)) &&
      exists(relays, rest, [...picked, one]),
  )
}

const rolesOf = (count: number): Role[] => [
  'exit',
  ...(count > 1 ? ['guard' as const] : []),
  ...Array.from({ length: Math.max(0, count - 2) }, () => 'middle' as const),
]

test('a route is found whenever there is one, and every rule holds in it', () => {
  fc.assert(
    fc.property(arbitrary, fc.integer({ min: 1, max: 4 }), fc.string(), (relays, hopCount, seed) => {
      const chosen = chooseRoute({ relays, hopCount, random: seededRandom(seed) })
      assert.equal('exit' in chosen, exists(relays, rolesOf(hopCount)))
      if ('problem' in chosen) return
      const all = [...chosen.hops, chosen.exit]
      assert.equal(all.length, hopCount)
      assert.ok(chosen.exit.roles.includes('exit'))
      for (const [i, hop] of chosen.hops.entries()) assert.ok(hop.roles.includes(i === 0 ? 'guard' : 'middle'))
      for (const [i, a] of all.entries()) for (const b of all.slice(i + 1)) assert.equal(areRelated(a, b), false)
    }),
    { numRuns: 400, seed: 1 },
  )
})

test('capacity is what relays are drawn by', () => {
  const relays = [relay('small', 'a', 1, ['exit'], 100), relay('large', 'b', 2, ['exit'], 900)]
  const random = seededRandom('weights')
  let large = 0
  for (let i = 0; i < 2_000; i++) {
    const chosen = chooseRoute({ relays, hopCount: 1, random })
    if ('exit' in chosen && chosen.exit.id === 'large') large++
  }
  assert.ok(large > 1_720 && large < 1_880, `${large} of 2000`)
})

test('operators, families, addresses and networks are never shared, whatever their spelling', () => {
  const base = relay('a', 'Alice', 1, ['guard'])
  assert.equal(areRelated(base, relay('b', 'ALICE', 2, ['exit'])), true)
  assert.equal(areRelated(base, { ...relay('b', 'Bob', 2, ['exit']), family: ['a'] }), true)
  assert.equal(areRelated(base, { ...relay('b', 'Bob', 1, ['exit']), address: { host: '10.1.99.1', port: 1 } }), true)
  const v6 = (host: string, id: string) => ({ ...relay(id, id, 0, ['exit']), address: { host, port: 1 } })
  assert.equal(areRelated(v6('2001:db8:1::1', 'x'), v6('2001:db8:2::1', 'y')), true)
  assert.equal(areRelated(v6('2001:db8::1', 'x'), v6('2001:db9::1', 'y')), false)
})

test('guards come first and are left only when none of them fits; what is to be avoided is', () => {
  const relays = [
    relay('g1', 'a', 1, ['guard']),
    relay('g2', 'b', 2, ['guard']),
    relay('e', 'c', 3, ['exit']),
    relay('m', 'd', 4, ['middle']),
  ]
  for (let i = 0; i < 20; i++) {
    const random = seededRandom(`${i}`)
    const chosen = chooseRoute({ relays, hopCount: 3, random, guards: ['g2', 'g1'] })
    assert.ok('hops' in chosen && chosen.hops[0]?.id === 'g2')
    const other = chooseRoute({ relays, hopCount: 3, random, guards: ['g2', 'g1'], avoid: new Set(['g2']) })
    assert.ok('hops' in other && other.hops[0]?.id === 'g1')
  }
  const none = chooseRoute({ relays, hopCount: 3, random: seededRandom('x'), avoid: new Set(['e']) })
  assert.deepEqual(none, { problem: 'no usable relay has the role exit' })
})

test('an exit is in a country that is wanted and in none that is not; where it is unknown it is in neither', () => {
  const relays: Candidate[] = [
    relay('guard', 'g', 1, ['guard']),
    { ...relay('ch', 'a', 2, ['exit']), country: 'CH' },
    { ...relay('is', 'b', 3, ['exit']), country: 'IS' },
    relay('unknown', 'c', 4, ['exit']),
  ]
  const exits = (more: { exitCountries?: Set<string>; notCountries?: Set<string> }) => {
    const drawn = Array.from({ length: 40 }, (_, i) =>
      chooseRoute({ relays, hopCount: 2, random: seededRandom(`country ${i}`), ...more }),
    )
    return [...new Set(drawn.map(chosen => ('exit' in chosen ? chosen.exit.id : chosen.problem)))].toSorted()
  }
  assert.deepEqual(exits({ exitCountries: new Set(['CH']) }), ['ch'])
  assert.deepEqual(exits({ notCountries: new Set(['CH']) }), ['is', 'unknown'])
  assert.deepEqual(exits({ exitCountries: new Set(['CH', 'IS']), notCountries: new Set(['CH']) }), ['is'])
  assert.deepEqual(exits({ exitCountries: new Set(['NO']) }), [
    'no usable relay has the role exit in a country that is wanted',
  ])
})

test('an exit that must carry IP packets is one that says so', () => {
  const relays = [
    relay('g', 'a', 1, ['guard']),
    relay('large', 'b', 2, ['exit'], 1_000_000),
    { ...relay('tunnel', 'c', 3, ['exit'], 1), hasTunnel: true },
  ]
  for (let i = 0; i < 20; i++) {
    const chosen = chooseRoute({ relays, hopCount: 2, random: seededRandom(`${i}`), needsTunnel: true })
    assert.ok('exit' in chosen && chosen.exit.id === 'tunnel')
  }
  const options = { relays, hopCount: 2, random: seededRandom('x'), needsTunnel: true } as const
  const problem = 'no usable relay has the role exit with a tunnel'
  assert.deepEqual(chooseRoute({ ...options, exit: 'large' }), { problem })
  assert.deepEqual(chooseRoute({ ...options, avoid: new Set(['tunnel']) }), { problem })
})

test('a client’s guard is its exit only when there is no other: it knows the client’s address', () => {
  const relays = [
    relay('g', 'a', 1, ['guard', 'exit'], 1_000_000),
    relay('h', 'b', 2, ['guard']),
    relay('e', 'c', 3, ['exit'], 1),
  ]
  for (let i = 0; i < 30; i++) {
    const chosen = chooseRoute({ relays, hopCount: 2, random: seededRandom(`${i}`), guards: ['g', 'h'] })
    assert.ok('exit' in chosen && chosen.exit.id === 'e')
  }
  const last = chooseRoute({ relays: relays.slice(0, 2), hopCount: 2, random: seededRandom('x'), guards: ['g', 'h'] })
  assert.ok('exit' in last && last.exit.id === 'g')
})

test('exits become guards only where there is nobody else at all', () => {
  const exits = [1, 2, 3].map(n => relay(`${n}`.repeat(64), `op${n}`, n, ['guard', 'exit']))
  const few = new Guards()
  few.maintain([...exits, relay('a'.repeat(64), 'other', 9, ['guard'])], seededRandom('few'), 0)
  assert.deepEqual(
    few.all.map(({ id }) => id),
    ['a'.repeat(64)],
    'rather one guard than exits among them',
  )
  const none = new Guards()
  none.maintain(exits, seededRandom('none'), 0)
  assert.equal(none.all.length, 1)
})

test('a relay that is a peer alone is no hop of a route, and no guard', () => {
  const peers = [1, 2, 3].map(n => relay(`${n}`.repeat(64), `op${n}`, n, ['peer'], 1_000_000))
  for (const hopCount of [1, 2, 3])
    assert.deepEqual(chooseRoute({ relays: peers, hopCount, random: seededRandom('peers') }), {
      problem: 'no usable relay has the role exit',
    })
  const relays = [...peers, relay('g', 'a', 7, ['guard', 'peer'], 1), relay('e', 'b', 8, ['exit'], 1)]
  const chosen = chooseRoute({ relays, hopCount: 2, random: seededRandom('mixed') })
  assert.ok('exit' in chosen && chosen.hops[0]?.id === 'g' && chosen.exit.id === 'e')
  const guards = new Guards()
  guards.maintain(peers, seededRandom('guards of peers'), 0)
  assert.deepEqual(guards.all, [])
})

test('peers are found whenever there are as many, else as many as there are, and none is related to another', () => {
  fc.assert(
    fc.property(arbitrary, fc.integer({ min: 1, max: 4 }), fc.string(), (relays, count, seed) => {
      const peers = choosePeers({ relays, count, random: seededRandom(seed) })
      let most = count
      while (most > 0 && !exists(relays, new Array<Role>(most).fill('peer'))) most--
      assert.equal(peers.length, most)
      assert.ok(peers.every(peer => peer.roles.includes('peer')))
      for (const [i, a] of peers.entries()) for (const b of peers.slice(i + 1)) assert.equal(areRelated(a, b), false)
    }),
    { numRuns: 400, seed: 1 },
  )
})

test('peers are not the client’s own, not in its network or the server’s, and not what is to be avoided', () => {
  const relays = [1, 2, 3, 4, 5, 6].map(n => relay(`p${n}`, `op${n}`, n, ['peer']))
  const own = { ...relay('mine', 'OP1', 99, ['peer']), family: ['p2'] }
  const options = {
    relays: [...relays, own],
    count: 6,
    apartFrom: [own],
    outsideOf: ['10.3.200.1', '10.4.0.77'],
    avoid: new Set(['p5']),
  }
  for (let i = 0; i < 20; i++) {
    const peers = choosePeers({ ...options, random: seededRandom(`${i}`) })
    assert.deepEqual(
      peers.map(({ id }) => id),
      ['p6'],
    )
  }
})

test('every peer is as likely, whatever it says of its capacity', () => {
  const relays = [relay('modest', 'a', 1, ['peer'], 100), relay('boastful', 'b', 2, ['peer'], 4_000_000_000)]
  const random = seededRandom('even')
  let boastful = 0
  for (let i = 0; i < 2_000; i++) if (choosePeers({ relays, count: 1, random })[0]?.id === 'boastful') boastful++
  assert.ok(boastful > 900 && boastful < 1_100, `${boastful} of 2000`)
})

const DAY = 86_400_000
const many = Array.from({ length: 20 }, (_, i) =>
  relay(i.toString(16).padStart(64, '0'), `op${i}`, i, ['guard', 'middle']),
)

test('guards are kept for months, through failures, and replaced when their time is over', () => {
  const random = seededRandom('guards')
  const guards = new Guards()
  assert.equal(guards.maintain(many, random, 0), true)
  const before = guards.all.map(({ id }) => id)
  assert.equal(before.length, GUARD_COUNT)
  for (let day = 1; day < 59; day++) {
    for (const id of before) guards.handleFailure(id, day * DAY)
    guards.maintain(many, random, day * DAY)
    assert.deepEqual(
      guards.all.map(({ id }) => id),
      before,
      `day ${day}`,
    )
  }
  guards.maintain(many, random, 121 * DAY)
  assert.equal(guards.all.length, GUARD_COUNT)
  assert.ok(
    guards.all.every(({ untilMs }) => untilMs > 121 * DAY),
    'every one was drawn anew',
  )
})

test('a guard that failed rests, and comes first again once it answers', () => {
  const guards = new Guards()
  guards.maintain(many, seededRandom('rest'), 0)
  const [first = '', second = ''] = guards.order(0)
  guards.handleFailure(first, 1_000)
  assert.equal(guards.order(2_000)[0], second)
  assert.equal(guards.order(20_000)[0], first, 'after its rest')
  guards.handleFailure(first, 20_000)
  guards.handleSuccess(first)
  assert.equal(guards.order(20_001)[0], first)
})

test('a guard that left the directory for two weeks is replaced', () => {
  const random = seededRandom('gone')
  const guards = new Guards()
  guards.maintain(many, random, 0)
  const [gone = ''] = guards.order(0)
  const rest = many.filter(({ id }) => id !== gone)
  guards.maintain(rest, random, 13 * DAY)
  assert.ok(guards.all.some(({ id }) => id === gone))
  guards.maintain(rest, random, 15 * DAY)
  assert.equal(
    guards.all.some(({ id }) => id === gone),
    false,
  )
})

test('the state survives being written and read, and garbage is refused', () => {
  const guards = new Guards()
  guards.maintain(many, seededRandom('state'), 0)
  assert.deepEqual(Guards.decode(guards.encode())?.all, guards.all)
  for (const text of [
    '',
    '{}',
    'null',
    '[]',
    '{"version":1}',
    '{"version":2,"guards":[]}',
    '{"version":1,"guards":[{}]}',
    '{"version":1,"guards":[{"id":"x"}]}',
    guards.encode().slice(0, 50),
  ]) {
    assert.equal(Guards.decode(text), undefined, text)
  }
})
