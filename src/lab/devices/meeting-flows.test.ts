// Two clients that meet at a relay, and others who try to: real machines and the real packet function on the virtual internet.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MEETING_HEADER } from '#platform/meeting-port.ts'
import { MeetingRoom } from '#relay/meeting-room.ts'
import { LayerIndices } from '#route/layer.ts'
import { MeetingFlows, type MeetingFlowsEvent } from '#route/meeting-flows.ts'
import type { Address } from '#wire/address.ts'
import { addHop, type VirtualHop, VirtualNet, VirtualNode } from '../virtual-net.ts'

const TOKEN = new Uint8Array(32).fill(5)
const RATE = 1_000_000

/** A client, and a program at another address that speaks to its socket. */
function person(net: VirtualNet, host: string) {
  const flows = new MeetingFlows({ random: net.random, indices: new LayerIndices(), header: MEETING_HEADER })
  const events: MeetingFlowsEvent[] = []
  const node = new VirtualNode(net, host, flows, () => {
    events.push(...flows.takeEvents())
    return flows.take()
  })
  const program: Address = { host: `10.${host}`, port: 9 }
  const heard: string[] = []
  net.add({
    address: program,
    receive: (_from, _port, bytes) => heard.push(Buffer.from(bytes.subarray(MEETING_HEADER.length)).toString('latin1')),
    deadline: () => Number.POSITIVE_INFINITY,
    handleDeadline: () => undefined,
  })
  const socket = () => events.findLast(event => event.kind === 'open')?.address
  return {
    flows,
    node,
    events,
    heard,
    meet: (relay: VirtualHop, token = TOKEN) => {
      flows.open(1, relay, token, net.now)
      node.settle()
    },
    leave: () => {
      flows.close(1)
      node.settle()
    },
    say: (text: string) => {
      const address = socket()
      if (address !== undefined)
        net.send(program, address, Buffer.concat([MEETING_HEADER, Buffer.from(text, 'latin1')]))
    },
    isOpen: () => socket() !== undefined,
  }
}

function world(maxFlows = 64) {
  const net = new VirtualNet('meeting')
  const meetings = new MeetingRoom({ maxFlows, bytesPerSecond: RATE })
  const relay = addHop(net, '198.51.100.1', { meetings })
  return { net, meetings, relay, a: person(net, '192.0.2.1'), b: person(net, '192.0.2.2') }
}

function met() {
  const all = world()
  const { net, relay, a, b } = all
  a.meet(relay)
  b.meet(relay)
  assert.ok(net.run(5_000, () => a.isOpen() && b.isOpen()))
  // Whoever speaks first to the socket is heard there from then on.
  a.say('first')
  b.say('first')
  net.run(500)
  for (const { heard } of [a, b]) heard.length = 0
  return all
}

test('what one says the other hears, both ways, and nothing of it can be read on the wire', () => {
  const { net, a, b } = met()
  a.say('from the tower')
  b.say('from the laptop')
  net.run(500)
  assert.deepEqual([a.heard, b.heard], [['from the laptop'], ['from the tower']])
  const isBetweenHosts = (text: string) => !text.startsWith('10.')
  const wire = net.wire.filter(({ from, to }) => isBetweenHosts(from) && isBetweenHosts(to))
  assert.ok(!wire.some(({ bytes }) => Buffer.from(bytes).includes('from the')))
  const third = wire.filter(({ from, to }) => !from.startsWith('198.51.100.1') && !to.startsWith('198.51.100.1'))
  assert.equal(third.length, 0, 'all of it goes over the relay')
})

test('each may ask the relay where the other is, and is told what the relay sees', () => {
  const { net, a, b } = met()
  for (const { flows, node } of [a, b]) {
    flows.askOther(1, net.now)
    node.settle()
  }
  net.run(500)
  const told = [a, b].map(({ events }) => events.flatMap(event => (event.kind === 'other' ? event.host : [])))
  assert.deepEqual(told, [['192.0.2.2'], ['192.0.2.1']])
  b.leave()
  net.run(500)
  a.flows.askOther(1, net.now)
  a.node.settle()
  net.run(500)
  assert.equal(a.events.filter(({ kind }) => kind === 'other').length, 1, 'of who has gone nothing is said')
})

test('meetings go on for an hour of renewed keys', () => {
  const { net, a, b } = met()
  for (let minute = 0; minute < 60; minute++) {
    a.say(`${minute}`)
    b.say(`${minute}`)
    net.run(60_000)
  }
  assert.deepEqual([a.heard.length, b.heard.length], [60, 60])
})

test('one side alone waits and is heard by nobody; a third with the token is refused and hears nothing', () => {
  const { net, relay, a, b } = met()
  const third = person(net, '192.0.2.3')
  third.meet(relay)
  net.run(60_000)
  assert.deepEqual(third.events, [{ kind: 'lost', key: 1, isRefused: true }])
  const lone = person(net, '192.0.2.4')
  lone.meet(relay, new Uint8Array(32).fill(6))
  net.run(2_000)
  lone.say('is anybody there')
  a.say('still here')
  net.run(1_000)
  assert.deepEqual([a.heard, b.heard, lone.heard, third.heard], [[], ['still here'], [], []])
  assert.ok((relay.node.counters.snapshot()['dropUnknownFlow'] ?? 0) > 0)
})

test('who leaves is not heard any more, and may come back with the same token', () => {
  const { net, relay, a, b, meetings } = met()
  a.leave()
  net.run(1_000)
  assert.equal(meetings.size, 1)
  b.say('to nobody')
  net.run(1_000)
  a.meet(relay)
  net.run(5_000)
  a.say('again')
  b.say('again')
  net.run(1_000)
  assert.deepEqual(b.heard, ['again'])
  assert.equal(meetings.size, 2)
})

test('a flood is cut to the rate that the relay gives', () => {
  const { net, a, b, relay } = met()
  const text = 'x'.repeat(1_200)
  for (let i = 0; i < 2_000; i++) a.say(text)
  net.run(1_000)
  const bytes = b.heard.length * text.length
  assert.ok(bytes <= RATE / 10 + 65_536, `${bytes} bytes at once`)
  assert.ok((relay.node.counters.snapshot()['dropRateLimit'] ?? 0) > 1_000)
  for (let second = 0; second < 5; second++) {
    b.say('calm')
    net.run(1_000)
  }
  assert.equal(a.heard.length, 5, 'the other way is not cut')
})

test('a relay that offers no meetings, is full or is dead is given up, and said so', () => {
  const { net, a, b } = world()
  a.meet(addHop(net, '198.51.100.2'))
  const dead = addHop(net, '198.51.100.3')
  net.kill('198.51.100.3')
  b.meet(dead)
  net.run(60_000)
  assert.deepEqual(a.events, [{ kind: 'lost', key: 1, isRefused: true }])
  assert.deepEqual(b.events.at(-1), { kind: 'lost', key: 1, isRefused: false })
  assert.equal(b.events.filter(({ kind }) => kind === 'silent').length, 4)
  assert.equal(a.flows.deadline(), Number.POSITIVE_INFINITY, 'nothing is pending')
  assert.equal(a.node.forwarder.tables.sessions.size, 0)
})
