// A peer that nobody reaches by an address waits at a relay for an entry: real machines and the real packet function on the
// virtual internet.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Report } from '#forward/commands.ts'
import { MeetingRoom } from '#relay/meeting-room.ts'
import { LayerIndices } from '#route/layer.ts'
import { MeetingFlows } from '#route/meeting-flows.ts'
import type { RouteHop } from '#route/way.ts'
import { addHop, type VirtualHop, VirtualNet, VirtualNode } from '../virtual-net.ts'
import { inside4, ipPacket } from '../wireguard/wireguard-net.ts'
import { addPeer, VirtualTunnel, VirtualWireGuard } from './virtual-entry.ts'

const TOKEN = new Uint8Array(32).fill(9)
const SERVER = { host: '10.200.0.1', port: 51_820 }
const CLIENT = '10.100.0.1'
const PEER = '10.1.0.1'
const RELAY = '198.51.100.1'

/** A peer whose own socket speaks first: to a relay, where it waits. */
function addHiddenPeer(net: VirtualNet): { readonly peer: VirtualHop; readonly flows: MeetingFlows; settle(): void } {
  const peer = addPeer(net, PEER)
  const flows = new MeetingFlows({ random: net.random, indices: new LayerIndices() })
  const both = {
    handleReport: (report: Report, now: number) => {
      peer.machine.handleReport(report, now)
      flows.handleReport(report, now)
    },
    handleDeadline: (now: number) => {
      peer.machine.handleDeadline(now)
      flows.handleDeadline(now)
    },
    deadline: () => Math.min(peer.machine.deadline(), flows.deadline()),
  }
  const node = new VirtualNode(net, PEER, both, () => [...peer.machine.take(), ...flows.take()])
  return { peer, flows, settle: () => node.settle() }
}

function world(seed: string) {
  const net = new VirtualNet(seed)
  const relay = addHop(net, RELAY, { meetings: new MeetingRoom({ maxFlows: 8, bytesPerSecond: 1e9 }) })
  const { peer, flows, settle } = addHiddenPeer(net)
  const server = new VirtualWireGuard(net, SERVER)
  const hop: RouteHop = { ...peer, address: { host: '::', port: 0 }, meeting: TOKEN }
  const wait = () => {
    flows.open(1, relay, TOKEN, net.now)
    settle()
    net.run(500)
  }
  const enter = () =>
    new VirtualTunnel(net, CLIENT, server, inUse =>
      inUse.length > 0 ? { problem: 'no other' } : { hops: [relay, hop] },
    )
  return { net, relay, peer, flows, server, wait, enter }
}

test('an entry leads over a relay to a peer that waits there: the server hears the peer, and neither knows the other’s', () => {
  const { net, peer, flows, server, wait, enter } = world('met peer')
  wait()
  const tunnel = enter()
  net.run(3_000)
  tunnel.send(200)
  assert.ok(
    net.run(3_000, () => server.inbox.length > 0),
    'a packet arrives',
  )
  server.send(ipPacket(inside4(2), inside4(1), 300))
  assert.ok(
    net.run(3_000, () => tunnel.inbox.length > 0),
    'and one comes back',
  )
  const pairs = new Set(net.wire.map(({ from, to }) => `${from.split(':')[0]} ${to.split(':')[0]}`))
  assert.deepEqual(
    [...pairs].sort(),
    [
      [CLIENT, RELAY],
      [RELAY, CLIENT],
      [PEER, RELAY],
      [RELAY, PEER],
      [PEER, SERVER.host],
      [SERVER.host, PEER],
    ]
      .map(pair => pair.join(' '))
      .sort(),
  )
  const nested = flows.takeEvents().find(({ kind }) => kind === 'nested')
  assert.ok(nested?.kind === 'nested' && peer.machine.serves(nested.session), 'the peer knows by which flow it came')
  assert.equal(peer.machine.serves(1), false)
})

test('such a way lives for an hour of renewed keys', () => {
  const { net, server, wait, enter } = world('met for long')
  wait()
  const tunnel = enter()
  net.run(3_000)
  for (let i = 0; i < 180; i++) {
    tunnel.send(100)
    net.run(20_000)
  }
  assert.equal(server.inbox.length, 180)
  assert.deepEqual(
    tunnel.client.events.flatMap(({ kind }) => (kind === 'moved' || kind === 'cutOff' ? [kind] : [])),
    [],
  )
})

test('when the peer is reached directly after all, the way over the relay is left without losing a packet', () => {
  const { net, relay, peer, flows, server, wait } = world('met and shortened')
  let isDirect = false
  const waiting: RouteHop = { ...peer, address: { host: '::', port: 0 }, meeting: TOKEN }
  wait()
  const tunnel = new VirtualTunnel(net, CLIENT, server, inUse => {
    if (inUse.length > 0) return { problem: 'no other' }
    return { hops: isDirect ? [peer] : [relay, waiting] }
  })
  net.run(3_000)
  const hops = () => tunnel.client.routes.find(1)?.hops.map(({ id }) => id)
  assert.deepEqual(hops(), [relay.id, peer.id])
  tunnel.send()
  net.run(1_000)
  let sent = 0
  const tick = () => {
    if (sent === 500) return
    sent++
    tunnel.send(200)
    net.at(net.now + 20, tick)
  }
  const before = server.inbox.length
  tick()
  isDirect = true
  tunnel.client.routes.shorten(peer.id, net.now)
  tunnel.client.node.settle()
  net.run(20_000)
  assert.deepEqual(hops(), [peer.id])
  assert.equal(server.inbox.length - before, 500)
  assert.equal(flows.relays.length, 1, 'whether it still waits is its own affair')
})

test('who waits alone at a relay is a way to nobody, and a peer that leaves is left', () => {
  const { net, server, flows, wait, enter } = world('met nobody')
  const tunnel = enter()
  net.run(10_000)
  assert.ok(tunnel.client.events.some(({ kind }) => kind === 'hopFailed'))
  assert.equal(server.inbox.length, 0)
  wait()
  for (let i = 0; i < 30 && server.inbox.length === 0; i++) {
    tunnel.send(100)
    net.run(1_000)
  }
  assert.ok(server.inbox.length > 0, 'it comes, and a way is found')
  net.kill(PEER)
  flows.close(1)
  assert.ok(
    net.run(30_000, () => tunnel.client.events.some(({ kind }) => kind === 'cutOff')),
    'and is lost with it',
  )
})
