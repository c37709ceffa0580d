import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { generateX25519 } from '#crypto/x25519.ts'
import type { Command, Via } from '#forward/commands.ts'
import { finish, hopKeys, initiate, readCookieReply } from '#session/hop-handshake.ts'
import {
  type ControlAnswer,
  type ControlRequest,
  decodeControl,
  encodeControl,
  FLOW_PURPOSE,
  REFUSAL,
} from '#wire/control.ts'
import { HOP_HANDSHAKE } from '#wire/packet-type.ts'
import { Hop, type HopLimits } from './hop.ts'

const keys = hopKeys(generateX25519().privateKey)
const random = seededRandom('hop')
const FROM: Via = { kind: 'socket', address: { host: '192.0.2.1', port: 1000 } }
const LIMITS: HopLimits = { maxSessions: 4, maxFlows: 6, maxFlowsPerSession: 3 }

function start(options: { isExit?: boolean; limits?: HopLimits; place?: () => number; hasRoom?: () => boolean } = {}) {
  const hop = new Hop(
    {
      keys,
      limits: options.limits ?? LIMITS,
      random,
      mayReachHop: ({ host }) => !host.startsWith('10.'),
      isExit: options.isExit ?? false,
      ...(options.place && { place: options.place }),
      ...(options.hasRoom && { hasRoom: options.hasRoom }),
    },
    0,
  )
  let index = 1
  const begin = (extra = {}) => initiate({ staticPublic: keys.publicKey, localIndex: index++, random, ...extra })
  const receive = (bytes: Uint8Array, now: number, from = FROM) => {
    hop.handleReport({ kind: 'handshake', bytes, from }, now)
    return hop.take()
  }
  return { hop, begin, receive }
}

const of = <K extends Command['kind']>(commands: readonly Command[], kind: K) =>
  commands.filter((command): command is Extract<Command, { kind: K }> => command.kind === kind)

function connect(world: ReturnType<typeof start>, now = 0) {
  const { message, state } = world.begin()
  const commands = world.receive(message, now)
  const session = of(commands, 'installSession')[0]?.session ?? 0
  const answer = of(commands, 'sendHandshake')[0]
  const sessionKeys = answer && finish(state, answer.bytes)
  return { session, keys: sessionKeys }
}

function ask(
  world: ReturnType<typeof start>,
  session: number,
  number: number,
  request: ControlRequest,
): { answers: ControlAnswer[]; commands: Command[] } {
  world.hop.handleReport({ kind: 'control', session, bytes: encodeControl({ type: 'request', number, request }) }, 0)
  const commands = world.hop.take()
  const answers = of(commands, 'sendControl').flatMap(({ bytes }) => {
    const message = decodeControl(bytes)
    return message?.type === 'answer' ? [message.answer] : []
  })
  return { answers, commands }
}

const open = (flow: number, host = '192.0.2.9'): ControlRequest => ({
  kind: 'open',
  flow,
  purpose: FLOW_PURPOSE.hop,
  target: { host, port: 5 },
  first: new Uint8Array(HOP_HANDSHAKE.initiationBytes),
})

test('an initiation is answered and installs a session; a replay of it does neither', () => {
  const world = start()
  const { message, state } = world.begin()
  const commands = world.receive(message, 0)
  assert.equal(of(commands, 'installSession').length, 1)
  const answer = of(commands, 'sendHandshake')[0]
  assert.ok(answer && finish(state, answer.bytes))
  const again = world.receive(message, 1)
  assert.deepEqual(
    again.map(({ kind }) => kind),
    ['grantHandshakes'],
  )
  assert.equal(world.hop.counters.get('dropReplayedInitiation'), 1)
})

test('what is not for this hop is dropped at the first check, and counted', () => {
  const world = start()
  const other = generateX25519().publicKey
  const { message } = initiate({ staticPublic: other, localIndex: 1, random })
  world.receive(message, 0)
  assert.equal(world.hop.counters.get('dropMac1'), 1)
  assert.equal(world.hop.sessions, 0)
  world.receive(new Uint8Array(HOP_HANDSHAKE.cookieReplyBytes), 0)
  assert.equal(world.hop.counters.get('dropNotInitiation'), 1)
})

test('a half-open session is given up after ten seconds, a confirmed one lives with its keys', () => {
  const world = start()
  const [idle, used] = [connect(world), connect(world)]
  world.hop.handleReport({ kind: 'confirmed', session: used.session, localIndex: 0 }, 0)
  world.hop.handleDeadline(30_000)
  assert.deepEqual(world.hop.takeEnded(), [idle.session])
  assert.equal(world.hop.sessions, 1)
  world.hop.handleDeadline(240_000)
  assert.equal(of(world.hop.take(), 'removeKeys').length, 1, 'keys expire after three minutes')
  assert.equal(world.hop.sessions, 1, 'the session waits for a renewal')
  world.hop.handleDeadline(600_000)
  assert.equal(world.hop.sessions, 0)
})

test('a renewal adds keys to its session; with a stale sequence or an unknown ticket it is not answered', () => {
  const world = start()
  const first = connect(world)
  const ticket = first.keys?.ticket ?? new Uint8Array(0)
  const renewed = world.receive(world.begin({ ticket, sequence: 5 }).message, 1_000)
  assert.equal(of(renewed, 'installKeys')[0]?.session, first.session)
  assert.equal(of(renewed, 'sendHandshake').length, 1)
  const stale = world.receive(world.begin({ ticket, sequence: 5 }).message, 2_000)
  assert.equal(of(stale, 'sendHandshake').length, 0)
  const unknown = world.receive(world.begin({ ticket: random(32), sequence: 1 }).message, 3_000)
  assert.equal(of(unknown, 'sendHandshake').length, 0)
  assert.equal(world.hop.sessions, 1)
})

test('a busy hop answers with a cookie first, and lets in who returns it', () => {
  const world = start({ limits: { ...LIMITS, maxSessions: 1_000 } })
  for (let i = 0; i < 300; i++) world.receive(world.begin().message, 0)
  const { message, state } = world.begin()
  const commands = world.receive(message, 10)
  assert.equal(of(commands, 'installSession').length, 0)
  const reply = of(commands, 'sendHandshake')[0]
  assert.equal(reply?.bytes.length, HOP_HANDSHAKE.cookieReplyBytes)
  const cookie = readCookieReply(state, reply?.bytes ?? new Uint8Array(0))
  assert.ok(cookie)
  const admitted = world.receive(world.begin({ cookie }).message, 20)
  assert.equal(of(admitted, 'installSession').length, 1)
  const elsewhere: Via = { kind: 'socket', address: { host: '192.0.2.77', port: 1 } }
  const stolen = world.receive(world.begin({ cookie }).message, 30, elsewhere)
  assert.equal(of(stolen, 'installSession').length, 0, 'a cookie is good for one address')
})

test('sessions are bounded', () => {
  const world = start()
  for (let i = 0; i < 10; i++) connect(world)
  assert.equal(world.hop.sessions, LIMITS.maxSessions)
  assert.equal(world.hop.counters.get('dropSessionLimit'), 6)
})

test('a flow is opened once, however often the request comes, and each time answered', () => {
  const world = start()
  const { session } = connect(world)
  const first = ask(world, session, 1, open(7))
  assert.deepEqual(first.answers, [{ kind: 'open' }])
  assert.equal(of(first.commands, 'installFlow').length, 1)
  const again = ask(world, session, 1, open(7))
  assert.deepEqual(again.answers, [{ kind: 'open' }])
  assert.equal(of(again.commands, 'installFlow').length, 0)
})

test('flows to addresses that are not allowed, to names, twice under one number, or too many, are refused', () => {
  const world = start()
  const { session } = connect(world)
  const refused = (reason: number) => [{ kind: 'refused', request: 'open', reason }]
  assert.deepEqual(ask(world, session, 1, open(1, '10.0.0.1')).answers, refused(REFUSAL.notAllowed))
  assert.deepEqual(ask(world, session, 2, open(1, 'name.example')).answers, refused(REFUSAL.notAllowed))
  assert.deepEqual(ask(world, session, 3, open(1)).answers, [{ kind: 'open' }])
  assert.deepEqual(ask(world, session, 4, open(1)).answers, refused(REFUSAL.generalFailure))
  ask(world, session, 5, open(2))
  ask(world, session, 6, open(3))
  assert.deepEqual(ask(world, session, 7, open(4)).answers, refused(REFUSAL.tooMany))
  assert.equal(world.hop.flows, 3)
  ask(world, session, 8, { kind: 'close', flow: 1 })
  assert.deepEqual(ask(world, session, 9, open(4)).answers, [{ kind: 'open' }])
})

test('a flow is refused, and counted by its reason, when there are as many as may be and when no socket is left', () => {
  let hasRoom = true
  const limits = { ...LIMITS, maxFlows: 2, maxFlowsPerSession: 3 }
  const world = start({ limits, hasRoom: () => hasRoom })
  const { session } = connect(world)
  ask(world, session, 1, open(1))
  hasRoom = false
  const refused = [{ kind: 'refused', request: 'open', reason: REFUSAL.tooMany }]
  assert.deepEqual(ask(world, session, 2, open(2)).answers, refused)
  hasRoom = true
  assert.deepEqual(ask(world, session, 3, open(2)).answers, [{ kind: 'open' }])
  assert.deepEqual(ask(world, session, 4, open(3)).answers, refused)
  const { counters } = world.hop
  assert.deepEqual([counters.get('refusedForFiles'), counters.get('refusedFlowLimit')], [1, 1])
})

test('streams and datagrams are an exit’s business: others refuse, an exit hands them to the shell', () => {
  const stream: ControlRequest = { kind: 'openStream', stream: 1, target: { host: 'x.example', port: 80 } }
  const plain = start()
  const { session } = connect(plain)
  assert.deepEqual(ask(plain, session, 1, stream).answers, [
    { kind: 'refused', request: 'openStream', reason: REFUSAL.notAllowed },
  ])
  const exit = start({ isExit: true })
  const at = connect(exit).session
  assert.deepEqual(ask(exit, at, 1, stream).answers, [])
  assert.equal(exit.hop.takeExitRequests().length, 1)
  assert.deepEqual(ask(exit, at, 1, stream).answers, [], 'still under way')
  assert.equal(exit.hop.takeExitRequests().length, 0, 'and not asked for twice')
  exit.hop.answer(at, 1, { kind: 'openStream', stream: 9 })
  exit.hop.take()
  assert.deepEqual(ask(exit, at, 1, stream).answers, [{ kind: 'openStream', stream: 9 }])
})

test('a session that ends takes its flows along; after that nothing is left', () => {
  const world = start()
  const { session } = connect(world)
  ask(world, session, 1, open(1))
  world.hop.handleDeadline(30_000)
  assert.equal(of(world.hop.take(), 'removeSession').length, 1)
  assert.equal(world.hop.flows, 0)
  assert.deepEqual(ask(world, session, 2, open(2)).commands, [])
})

test('control messages that are malformed, or are no requests, are counted', () => {
  const world = start()
  const { session } = connect(world)
  for (const bytes of [
    new Uint8Array(0),
    Uint8Array.of(99, 0, 0),
    encodeControl({ type: 'answer', number: 1, answer: { kind: 'ping' } }),
  ]) {
    world.hop.handleReport({ kind: 'control', session, bytes }, 0)
  }
  assert.equal(world.hop.counters.get('dropBadControl'), 3)
})

test('the index of a session says which worker has it, and new keys stay with that one', () => {
  let next = 0
  const world = start({ place: () => next })
  const workers: number[] = []
  for (const worker of [0, 5, 7, 2]) {
    next = worker
    const { message, state } = world.begin()
    const commands = world.receive(message, 0)
    const [installed] = of(commands, 'installSession')
    const [answer] = of(commands, 'sendHandshake')
    assert.equal(answer?.session, installed?.session)
    workers.push((installed?.keys.localIndex ?? 0) & 7)
    const first = finish(state, answer?.bytes ?? new Uint8Array(0))
    next = 1
    const renewal = world.begin({ ticket: first?.ticket, sequence: 1 })
    const renewed = of(world.receive(renewal.message, 1), 'installKeys')[0]
    assert.equal((renewed?.keys.localIndex ?? 0) & 7, worker)
  }
  assert.deepEqual(workers, [0, 5, 7, 2])
})

test('sessions that the data plane lost are forgotten, with what they had, and their tickets renew nothing', () => {
  const world = start()
  const { session, keys: first } = connect(world)
  const other = connect(world)
  ask(world, session, 1, open(1))
  ask(world, session, 2, { kind: 'report' })
  assert.equal(world.hop.flows, 1)
  world.hop.handleReport({ kind: 'sessionsLost', sessions: [session, 77], what: 'a bug' }, 5)
  assert.equal(world.hop.sessions, 1)
  assert.equal(world.hop.flows, 0)
  assert.deepEqual(world.hop.takeEnded(), [session])
  assert.equal(world.hop.counters.get('lostSessions'), 1)
  world.hop.take()
  const renewal = world.begin({ ticket: first?.ticket, sequence: 1 })
  assert.deepEqual(of(world.receive(renewal.message, 6), 'sendHandshake'), [])
  assert.ok(ask(world, other.session, 1, { kind: 'ping' }).answers.length > 0)
})
