// What a hop does with flows to WireGuard servers: purpose 3 of docs/spec/control.md.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { generateX25519 } from '#crypto/x25519.ts'
import type { Command } from '#forward/commands.ts'
import { hopKeys, initiate } from '#session/hop-handshake.ts'
import { ExitPolicy } from '#stream/exit-policy.ts'
import {
  type ControlAnswer,
  type ControlMessage,
  type ControlRequest,
  decodeControl,
  encodeControl,
  FLOW_PURPOSE,
  REFUSAL,
} from '#wire/control.ts'
import { Hop } from './hop.ts'
import { calendarAt, WireGuardGate, type WireGuardLimits } from './wireguard-gate.ts'

const keys = hopKeys(generateX25519().privateKey)
const random = seededRandom('hop of a peer')
const SERVER = '185.65.135.1'
const LIMITS: WireGuardLimits = { maxClients: 2, maxFlowsPerClient: 2, bytesPerDay: 1_000 }

const policy = new ExitPolicy({
  rules: [{ action: 'allow' }],
  ownAddresses: ['198.41.0.4', '2a01:4f8::1'],
  allowPrivate: [],
})

function start(options: { limits?: Partial<WireGuardLimits>; lendsOnly?: boolean; maxFlows?: number } = {}) {
  const gate = new WireGuardGate(
    {
      limits: { ...LIMITS, ...options.limits },
      mayReach: ({ host, port }) => policy.allows(host, port),
      calendar: calendarAt(0),
    },
    0,
  )
  const hop = new Hop(
    {
      keys,
      limits: { maxSessions: 9, maxFlows: options.maxFlows ?? 9, maxFlowsPerSession: 4 },
      random,
      mayReachHop: ({ host }) => !host.startsWith('10.'),
      isExit: false,
      wireGuard: gate,
      lendsOnly: options.lendsOnly ?? false,
    },
    0,
  )
  let index = 1
  const connect = () => {
    const { message } = initiate({ staticPublic: keys.publicKey, localIndex: index, random })
    const from = { kind: 'socket', address: { host: `192.0.2.${index++}`, port: 1 } } as const
    hop.handleReport({ kind: 'handshake', bytes: message, from }, 0)
    return of(hop.take(), 'installSession')[0]?.session ?? 0
  }
  let number = 1
  const ask = (session: number, request: ControlRequest, now = 0) => {
    const bytes = encodeControl({ type: 'request', number: number++, request })
    hop.handleReport({ kind: 'control', session, bytes }, now)
    const commands = hop.take()
    return { answer: answersIn(commands)[0], commands }
  }
  return { hop, gate, connect, ask }
}

const of = <K extends Command['kind']>(commands: readonly Command[], kind: K) =>
  commands.filter((command): command is Extract<Command, { kind: K }> => command.kind === kind)

const said = (commands: readonly Command[]): ControlMessage[] =>
  of(commands, 'sendControl').flatMap(({ bytes }) => decodeControl(bytes) ?? [])

const answersIn = (commands: readonly Command[]): ControlAnswer[] =>
  said(commands).flatMap(message => (message.type === 'answer' ? [message.answer] : []))

const open = (flow: number, host = SERVER, purpose: 1 | 3 = FLOW_PURPOSE.wireguard): ControlRequest => ({
  kind: 'open',
  flow,
  purpose,
  target: { host, port: 51_820 },
  first: new Uint8Array(0),
})

const refused = (reason: number) => ({ kind: 'refused', request: 'open', reason })

test('a flow to a server is installed with what it has to prove', () => {
  const { connect, ask, gate } = start()
  const session = connect()
  const { answer, commands } = ask(session, open(7))
  assert.deepEqual(answer, { kind: 'open' })
  assert.deepEqual(of(commands, 'installFlow'), [
    {
      kind: 'installFlow',
      session,
      flow: 7,
      address: { host: SERVER, port: 51_820 },
      proof: 'wireguard',
      first: new Uint8Array(0),
    },
  ])
  assert.deepEqual(gate.all(), [{ session, flow: 7 }])
})

test('private, loopback, link-local, multicast, reserved and own addresses, and names, are not reached', () => {
  const { connect, ask, gate } = start({ limits: { maxFlowsPerClient: 100 } })
  const session = connect()
  const hosts = [
    ...['10.0.0.1', '172.16.0.1', '192.168.1.1', '100.64.0.1', '169.254.169.254', '127.0.0.1', '0.0.0.0'],
    ...['224.0.0.1', '239.255.255.250', '255.255.255.255', '240.0.0.1', '192.0.2.1', '198.18.0.1', '198.41.0.4'],
    ...['::', '::1', 'fe80::1', 'fc00::1', 'fd00::1', 'ff02::1', '2001:db8::1', '2a01:4f8::1', '2a01:04f8:0::1'],
    // IPv4 inside IPv6: compatible, NAT64, 6to4, Teredo.
    ...['::7f00:1', '::a00:1', '64:ff9b::7f00:1', '2002:7f00:1::', '2001::1'],
    ...['localhost', 'vpn.example', '185.65.135.1.example'],
  ]
  for (const [flow, host] of hosts.entries()) {
    const { answer, commands } = ask(session, open(flow, host))
    assert.deepEqual(answer, refused(REFUSAL.notAllowed), host)
    assert.equal(of(commands, 'installFlow').length, 0)
  }
  assert.deepEqual([gate.flows, gate.clients], [0, 0])
})

test('an IPv4 address that is written as an IPv6 one is no target at all', () => {
  const { hop, connect, gate } = start()
  const session = connect()
  const sound = encodeControl({ type: 'request', number: 1, request: open(1, '2a00::7f00:1') })
  const mapped = Buffer.from(sound)
  const at = mapped.indexOf(Buffer.from([6, 0x2a, 0]))
  mapped.set([6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1], at)
  hop.handleReport({ kind: 'control', session, bytes: mapped }, 0)
  assert.equal(hop.counters.get('dropBadControl'), 1)
  assert.equal(gate.flows, 0)
  for (const host of ['::ffff:127.0.0.1', '::ffff:185.65.135.1', '::ffff:7f00:1'])
    assert.equal(gate.admit({ session, host: '198.51.100.1' }, 1, { host, port: 1 }, 0), REFUSAL.notAllowed, host)
})

test('what is full says so, and what is closed makes room', () => {
  const { connect, ask, gate } = start()
  const [a, b, c] = [connect(), connect(), connect()]
  for (const [session, flow] of [
    [a, 1],
    [a, 2],
    [b, 1],
  ] as const)
    assert.deepEqual(ask(session, open(flow)).answer, { kind: 'open' })
  assert.deepEqual(ask(a, open(3)).answer, refused(REFUSAL.tooMany))
  assert.deepEqual(ask(c, open(1)).answer, refused(REFUSAL.tooMany))
  ask(b, { kind: 'close', flow: 1 })
  assert.deepEqual(ask(c, open(1)).answer, { kind: 'open' })
  assert.deepEqual([gate.clients, gate.flows], [2, 3])
})

test('a flow number is used once, and the one that has it stays', () => {
  const { connect, ask, gate } = start()
  const session = connect()
  ask(session, open(1))
  const { answer, commands } = ask(session, open(1, '185.65.135.2'))
  assert.deepEqual(answer, refused(REFUSAL.notAllowed))
  assert.equal(of(commands, 'installFlow').length, 0)
  assert.deepEqual(ask(session, open(1, SERVER, FLOW_PURPOSE.hop)).answer, refused(REFUSAL.generalFailure))
  assert.deepEqual(gate.all(), [{ session, flow: 1 }])
})

test('a flow that the hop has no room for is not kept by the gate', () => {
  const { connect, ask, gate } = start({ maxFlows: 1 })
  const session = connect()
  ask(session, open(1))
  assert.deepEqual(ask(session, open(2)).answer, refused(REFUSAL.tooMany))
  assert.deepEqual(gate.all(), [{ session, flow: 1 }])
})

test('a flow that was idle, and all flows of a session that ended, are released; an unreachable server is not', () => {
  const { hop, connect, ask, gate } = start()
  const session = connect()
  ask(session, open(1))
  ask(session, open(2))
  hop.handleReport({ kind: 'flowEnded', session, flow: 1, reason: 'unreachable' }, 0)
  assert.equal(gate.flows, 2)
  hop.handleReport({ kind: 'flowEnded', session, flow: 1, reason: 'idle' }, 0)
  assert.deepEqual(gate.all(), [{ session, flow: 2 }])
  hop.handleDeadline(30_000)
  assert.deepEqual([gate.flows, gate.clients, hop.flows], [0, 0, 0])
})

test('when nothing is lent any more every such flow ends, its client is told, and other flows go on', () => {
  const { hop, connect, ask, gate } = start()
  const [a, b] = [connect(), connect()]
  ask(a, open(1))
  ask(b, open(1))
  ask(b, open(2, '203.0.113.9', FLOW_PURPOSE.hop))
  gate.handleCarried(1_000, 0)
  hop.endWireGuard()
  const commands = hop.take()
  assert.deepEqual(of(commands, 'removeFlow'), [
    { kind: 'removeFlow', session: a, flow: 1 },
    { kind: 'removeFlow', session: b, flow: 1 },
  ])
  assert.deepEqual(said(commands), [
    { type: 'notice', flow: 1, reason: 1 },
    { type: 'notice', flow: 1, reason: 1 },
  ])
  assert.deepEqual([gate.flows, gate.clients, hop.flows], [0, 0, 1])
  assert.deepEqual(ask(a, open(1)).answer, refused(REFUSAL.tooMany))
  assert.deepEqual(ask(a, open(1), 86_400_000).answer, { kind: 'open' }, 'the next day')
  hop.endWireGuard()
  hop.endWireGuard()
  assert.equal(of(hop.take(), 'removeFlow').length, 1, 'what ended does not end again')
})

test('a hop that lends nothing opens no flow to a server', () => {
  const hop = new Hop(
    {
      keys,
      limits: { maxSessions: 9, maxFlows: 9, maxFlowsPerSession: 4 },
      random,
      mayReachHop: () => true,
      isExit: true,
    },
    0,
  )
  const { message } = initiate({ staticPublic: keys.publicKey, localIndex: 1, random })
  const from = { kind: 'socket', address: { host: '192.0.2.1', port: 1 } } as const
  hop.handleReport({ kind: 'handshake', bytes: message, from }, 0)
  const session = of(hop.take(), 'installSession')[0]?.session ?? 0
  const bytes = encodeControl({ type: 'request', number: 1, request: open(1) })
  hop.handleReport({ kind: 'control', session, bytes }, 0)
  assert.deepEqual(answersIn(hop.take()), [refused(REFUSAL.notAllowed)])
  hop.endWireGuard()
  assert.deepEqual(hop.take(), [])
})

test('at a node that is a peer alone flows to the next peer count and end like the others', () => {
  const { hop, connect, ask, gate } = start({ lendsOnly: true })
  const [a, b, c] = [connect(), connect(), connect()]
  assert.deepEqual(ask(a, open(1, '203.0.113.9', FLOW_PURPOSE.hop)).answer, { kind: 'open' })
  assert.deepEqual(ask(a, open(2, '10.0.0.1', FLOW_PURPOSE.hop)).answer, refused(REFUSAL.notAllowed))
  assert.deepEqual(ask(b, open(1)).answer, { kind: 'open' })
  assert.deepEqual(ask(c, open(1, '203.0.113.9', FLOW_PURPOSE.hop)).answer, refused(REFUSAL.tooMany))
  gate.handleCarried(1_000, 0)
  hop.endWireGuard()
  assert.equal(of(hop.take(), 'removeFlow').length, 2)
  assert.deepEqual([gate.flows, hop.flows], [0, 0])
  const relay = start()
  const session = relay.connect()
  relay.ask(session, open(1, '203.0.113.9', FLOW_PURPOSE.hop))
  assert.equal(relay.gate.flows, 0, 'a relay carries for routes as well: that is not lent')
})
