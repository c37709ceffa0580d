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
  const flow = new TunnelFlow({
    ask: (_route, request, settle) => asked.push({ request, settle }),
    send: (...commands) => sent.push(...commands),
    onCarried: () => told.push('carried'),
    onRefused: () => told.push('refused'),
  })
  return { sent, asked, told, flow }
}

test('an exit is asked when its route is ready, and the TUN is led to it when it agrees', () => {
  const { sent, asked, told, flow } = setUp()
  flow.open(TUN)
  assert.deepEqual(sent.splice(0), [{ kind: 'openPort', port: { ...TUN, mtu: TUNNEL_MTU } }])
  flow.handleReady(route(5))
  assert.deepEqual(asked[0]?.request, { kind: 'openTunnel', flow: 2 })
  assert.equal(flow.isCarried, false)
  asked[0]?.settle(AGREES)
  assert.deepEqual(sent, [{ kind: 'installPacketFlow', session: 5, flow: 2 }])
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
