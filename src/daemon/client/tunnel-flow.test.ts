import assert from 'node:assert/strict'
import test from 'node:test'
import type { Command } from '#forward/commands.ts'
import type { Route } from '#route/route.ts'
import type { ControlAnswer, ControlRequest } from '#wire/control.ts'
import { TUNNEL_MTU, TunnelFlow } from './tunnel-flow.ts'

const TUN = { fd: 9, offload: 'none' } as const
const AGREES: ControlAnswer = { kind: 'openTunnel', hasIpv4: true, hasIpv6: false, mtu: 1_280, dns: ['192.0.0.1'] }

function route(session: number): Route {
  let flow = 2
  return { exitLayer: { session }, newFlow: () => flow++ } as unknown as Route
}

function setUp() {
  const sent: Command[] = []
  const asked: { request: ControlRequest; settle: (answer: ControlAnswer | undefined) => void }[] = []
  const told: string[] = []
  const agreed: number[] = []
  const flow = new TunnelFlow({
    ask: (_route, request, settle) => asked.push({ request, settle }),
    send: (...commands) => sent.push(...commands),
    onAgreed: (_route, offered) => agreed.push(offered),
    onCarried: () => told.push('carried'),
    onRefused: () => told.push('refused'),
  })
  return { sent, asked, told, agreed, flow }
}

test('an exit is asked when its route is ready, and the TUN is led to it when it agrees', () => {
  const { sent, asked, told, flow } = setUp()
  flow.open(TUN)
  assert.deepEqual(sent.splice(0), [{ kind: 'openPort', port: { ...TUN, mtu: TUNNEL_MTU } }])
  flow.handleReady(route(5))
  assert.deepEqual(asked[0]?.request, { kind: 'openTunnel', flow: 2, mtu: TUNNEL_MTU })
  assert.equal(flow.isCarried, false)
  asked[0]?.settle(AGREES)
  assert.deepEqual(sent, [{ kind: 'installPacketFlow', session: 5, flow: 2, mtu: TUNNEL_MTU }])
  assert.deepEqual([flow.isCarried, told], [true, ['carried']])
})

test('a TUN that comes after the exit agreed is led there at once', () => {
  const { sent, asked, flow } = setUp()
  flow.handleReady(route(5))
  asked[0]?.settle(AGREES)
  assert.deepEqual([sent.length, flow.isCarried], [0, false])
  flow.open(TUN)
  assert.deepEqual(
    sent.map(({ kind }) => kind),
    ['openPort', 'installPacketFlow'],
  )
})

test('an exit that refuses or says nothing is told of, once, and only while it is the one in use', () => {
  const { asked, told, flow } = setUp()
  flow.open(TUN)
  for (const answer of [undefined, { kind: 'refused', request: 'openTunnel', reason: 17 }] as const) {
    flow.handleReady(route(1))
    asked.pop()?.settle(answer)
    assert.deepEqual([told.splice(0), flow.isCarried], [['refused'], false])
  }
  flow.handleReady(route(1))
  flow.handleReady(route(2))
  asked[0]?.settle(undefined)
  assert.deepEqual(told, [])
  asked[1]?.settle(AGREES)
  assert.equal(flow.isCarried, true)
  flow.handleLost()
  assert.equal(flow.isCarried, false)
})

test('both ends are told how long packets may be, the exit of one size after the other', () => {
  const { sent, asked, agreed, flow } = setUp()
  const used = route(5)
  flow.open(TUN)
  flow.handleReady(used)
  asked.pop()?.settle({ ...AGREES, mtu: 1_416 })
  assert.deepEqual(agreed, [1_416])
  sent.length = 0
  for (const mtu of [1_344, 1_280, 1_124]) flow.handleResized(used, mtu)
  assert.deepEqual(
    sent.map(command => (command.kind === 'resizePacketFlow' ? command.mtu : command.kind)),
    [1_344, 1_280, 1_124],
  )
  const told = () => asked.map(({ request }) => (request.kind === 'openTunnel' ? [request.flow, request.mtu] : []))
  assert.deepEqual(told(), [[2, 1_344]])
  asked.pop()?.settle(undefined)
  assert.deepEqual(told(), [[2, 1_124]])
  asked.pop()?.settle(AGREES)
  assert.deepEqual([told(), flow.mtu], [[], 1_124])

  flow.handleResized(used, 1_344)
  const late = asked.pop()
  flow.handleReady(route(6))
  late?.settle(AGREES)
  flow.handleResized(used, 1_300)
  assert.deepEqual([told(), flow.mtu], [[[2, TUNNEL_MTU]], TUNNEL_MTU])
})
