import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { generateX25519 } from '#crypto/x25519.ts'
import type { Command, Via } from '#forward/commands.ts'
import { hopKeys, initiate } from '#session/hop-handshake.ts'
import { type ControlAnswer, type ControlRequest, decodeControl, encodeControl, REFUSAL } from '#wire/control.ts'
import { Hop } from './hop.ts'
import { TunnelPool } from './tunnel-pool.ts'

const FROM: Via = { kind: 'socket', address: { host: '192.0.2.1', port: 1000 } }
const NETWORK = { address: Uint8Array.of(10, 64, 0, 0), bits: 29 }
/** A /29 less its network, the exit and the broadcast address. */
const CLIENTS = 5

function start({ hasTunnel = true, maxFlowsPerSession = 3 } = {}) {
  const random = seededRandom('tunnel')
  const keys = hopKeys(generateX25519().privateKey)
  const pool = new TunnelPool({ network4: NETWORK }, random)
  const hop = new Hop(
    {
      keys,
      limits: { maxSessions: 10, maxFlows: 20, maxFlowsPerSession },
      random,
      mayReachHop: () => true,
      isExit: true,
      ...(hasTunnel && { tunnel: { pool, mtu: 1_280, dns: ['192.0.2.53'] } }),
    },
    0,
  )
  let number = 0
  const connect = () => {
    const { message } = initiate({ staticPublic: keys.publicKey, localIndex: ++number, random })
    hop.handleReport({ kind: 'handshake', bytes: message, from: FROM }, 0)
    return of(hop.take(), 'installSession')[0]?.session ?? assert.fail('no session')
  }
  const ask = (session: number, request: ControlRequest, asked = ++number) => {
    const bytes = encodeControl({ type: 'request', number: asked, request })
    hop.handleReport({ kind: 'control', session, bytes }, 0)
    const commands = hop.take()
    const message = decodeControl(of(commands, 'sendControl')[0]?.bytes ?? new Uint8Array(0))
    const answer: ControlAnswer | undefined = message?.type === 'answer' ? message.answer : undefined
    return { answer, installed: of(commands, 'installPacketFlow'), commands }
  }
  return { hop, pool, connect, ask }
}

const of = <K extends Command['kind']>(commands: readonly Command[], kind: K) =>
  commands.filter((command): command is Extract<Command, { kind: K }> => command.kind === kind)

const OFFER = { kind: 'openTunnel', hasIpv4: true, hasIpv6: false, mtu: 1_280, dns: ['192.0.2.53'] } as const
const refused = (reason: number) => ({ kind: 'refused', request: 'openTunnel', reason })
const openTunnel = (flow: number, mtu = 1_280): ControlRequest => ({ kind: 'openTunnel', flow, mtu })

test('an exit with a tunnel gives a session addresses of its own, and installs its flow', () => {
  const { connect, ask, pool } = start()
  const [a, b] = [connect(), connect()]
  const [first, second] = [ask(a, openTunnel(1)), ask(b, openTunnel(1))]
  assert.deepEqual([first.answer, second.answer], [OFFER, OFFER])
  assert.deepEqual([first.installed[0]?.session, first.installed[0]?.flow], [a, 1])
  assert.notDeepEqual(first.installed[0]?.inside, second.installed[0]?.inside)
  assert.equal(pool.available, CLIENTS - 2)
})

test('asked again for the same flow it answers the same and gives nothing more; for another flow it refuses', () => {
  const { connect, ask, pool } = start()
  const session = connect()
  ask(session, openTunnel(1))
  const again = ask(session, openTunnel(1))
  assert.deepEqual([again.answer, again.installed], [OFFER, []])
  assert.deepEqual(ask(session, openTunnel(2)).answer, refused(REFUSAL.generalFailure))
  assert.equal(pool.available, CLIENTS - 1)
})

test('a flow carries what its client says and no more than the tunnel does, and the same request again changes it', () => {
  const { connect, ask } = start()
  const session = connect()
  const { installed } = ask(session, openTunnel(1, 1_124))
  assert.deepEqual(
    installed.map(({ mtu }) => mtu),
    [1_124],
  )
  for (const [wanted, mtu] of [
    [9_000, 1_280],
    [576, 576],
  ] as const) {
    const { commands } = ask(session, openTunnel(1, wanted))
    assert.deepEqual(of(commands, 'resizePacketFlow'), [{ kind: 'resizePacketFlow', session, flow: 1, mtu }])
  }
  assert.equal(ask(session, openTunnel(1, 575)).commands.length, 0)
})

test('the addresses come back when the flow is closed, and when the session ends', () => {
  const { connect, ask, pool, hop } = start()
  const [a, b] = [connect(), connect()]
  ask(a, openTunnel(1))
  ask(b, openTunnel(1))
  const closed = ask(a, { kind: 'close', flow: 1 })
  assert.deepEqual(of(closed.commands, 'removeFlow'), [{ kind: 'removeFlow', session: a, flow: 1 }])
  assert.equal(pool.available, CLIENTS - 1)
  assert.deepEqual(ask(a, openTunnel(2)).answer, OFFER)
  hop.handleDeadline(600_000)
  assert.equal(of(hop.take(), 'removeSession').length, 2)
  assert.equal(pool.available, CLIENTS)
  assert.equal(hop.flows, 0)
})

test('when every address is in use, or a session has too many flows, there are too many', () => {
  const { connect, ask } = start()
  for (let i = 0; i < CLIENTS; i++) assert.deepEqual(ask(connect(), openTunnel(1)).answer, OFFER)
  assert.deepEqual(ask(connect(), openTunnel(1)).answer, refused(REFUSAL.tooMany))

  const full = start({ maxFlowsPerSession: 0 })
  assert.deepEqual(full.ask(full.connect(), openTunnel(1)).answer, refused(REFUSAL.tooMany))
  assert.equal(full.pool.available, CLIENTS)
})

test('an exit without a tunnel, and a flow that is something else, are refused', () => {
  const none = start({ hasTunnel: false })
  assert.deepEqual(none.ask(none.connect(), openTunnel(1)).answer, refused(REFUSAL.notAllowed))
  const { connect, ask } = start()
  const session = connect()
  const target = { host: '192.0.2.9', port: 9 }
  ask(session, { kind: 'open', flow: 1, purpose: 1, target, first: new Uint8Array(0) })
  assert.deepEqual(ask(session, openTunnel(1)).answer, refused(REFUSAL.generalFailure))
})
