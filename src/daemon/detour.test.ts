import assert from 'node:assert/strict'
import dgram from 'node:dgram'
import { once } from 'node:events'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import type { Command } from '#forward/commands.ts'
import { waitFor } from '#lab/testnet.ts'
import { WebSocketBridge } from '#platform/websocket-bridge.ts'
import { MAX_MESSAGE_BYTES, serveWebSocketRelay } from '#platform/websocket-relay.ts'
import { Detour } from './detour.ts'

const RELAY = { host: '127.0.0.1', port: 51_821 }
const greet = (bytes = Buffer.from('hello')): Command => {
  return { kind: 'sendHandshake', via: { kind: 'socket', address: RELAY }, bytes }
}

/** A relay's UDP socket that says everything back, with a door. */
async function relay() {
  const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  socket.on('message', (bytes, { port, address }) => socket.send(bytes, port, address))
  const target = { host: '127.0.0.1', port: socket.address().port }
  const door = await serveWebSocketRelay({ host: '127.0.0.1', port: 0 }, target)
  return { socket, door, address: { host: '127.0.0.1', port: door.port } }
}

test('datagrams go through a WebSocket to the relay and come back', async () => {
  const { socket, door, address } = await relay()
  await using _door = door
  using bridge = await WebSocketBridge.open(address)
  const plane = dgram.createSocket('udp4').bind(0, '127.0.0.1')
  await once(plane, 'listening')
  const heard: string[] = []
  plane.on('message', bytes => heard.push(bytes.toString()))
  for (let i = 0; heard.length === 0; i++) {
    plane.send(`datagram ${i}`, bridge.address.port, bridge.address.host)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  assert.match(heard[0] ?? '', /^datagram \d+$/)
  const stranger = dgram.createSocket('udp4').bind(0, '127.0.0.1')
  await once(stranger, 'listening')
  stranger.on('message', () => assert.fail('a stranger is answered'))
  stranger.send('mine', bridge.address.port, bridge.address.host)
  plane.send('last', bridge.address.port, bridge.address.host)
  while (!heard.includes('last')) await new Promise(resolve => setTimeout(resolve, 5))
  for (const each of [plane, stranger, socket]) each.close()
})

test('text, messages that are too long and a seventeenth connection of one network are refused', async () => {
  const { socket, door, address } = await relay()
  await using _door = door
  const url = `ws://${address.host}:${address.port}`
  const clients = Array.from({ length: 17 }, () => new WebSocket(url))
  const closed = await Promise.race(clients.map(client => once(client, 'close').then(([code]) => code as number)))
  assert.equal(closed, 1013)
  const [client] = clients
  assert.ok(client !== undefined)
  client.send('text is no datagram')
  client.send(Buffer.alloc(MAX_MESSAGE_BYTES + 1))
  const [code] = await once(client, 'close')
  assert.equal(code, 1009)
  for (const each of clients) each.terminate()
  socket.close()
})

test('the detour is taken when nothing is heard of two relays, and left on another network', () => {
  using detour = new Detour({ when: 'auto', port: 443 })
  assert.equal(detour.handleFailure(5), false, 'one relay is down, others were heard')
  assert.equal(detour.handleFailure(9), false)
  assert.equal(detour.handleFailure(9), false, 'two relays may be down')
  assert.equal(detour.handleFailure(9), true)
  assert.ok(detour.isOn)
  detour.handleNetworkChange()
  assert.ok(!detour.isOn)
  using never = new Detour({ when: 'never', port: 443 })
  assert.equal(never.handleFailure(0), false)
  assert.equal(never.handleFailure(0), false)
})

test('a client whose first relay is down has no reason for the detour', () => {
  using detour = new Detour({ when: 'auto', port: 443 })
  assert.equal(detour.handleFailure(0), false)
  assert.ok(!detour.isOn)
})

test('a detour that leads nowhere is left again, and one that was told to be is not', () => {
  using detour = new Detour({ when: 'auto', port: 443 })
  detour.handleFailure(0)
  assert.equal(detour.handleFailure(0), true)
  assert.equal(detour.handleFailure(0), false)
  assert.equal(detour.handleFailure(0), true)
  assert.ok(!detour.isOn)
  using always = new Detour({ when: 'always', port: 443 })
  for (let n = 0; n < 5; n++) assert.equal(always.handleFailure(0), false)
  assert.ok(always.isOn)
})

test('commands for a relay go to its bridge, and reports of the bridge count as the relay’s', async () => {
  const { socket, door } = await relay()
  await using _door = door
  using detour = new Detour({ when: 'always', port: door.port })
  assert.deepEqual(detour.outward([greet()]), [], 'the bridge is being built')
  const around = await waitFor(async () => {
    const [command] = detour.outward([greet()])
    const via = command?.kind === 'sendHandshake' ? command.via : undefined
    return via?.kind === 'socket' && via.address.port !== RELAY.port ? via : undefined
  }, 'the bridge')
  const report = { kind: 'handshake', bytes: Buffer.alloc(1), from: around } as const
  assert.deepEqual(detour.inward(report), { ...report, from: { kind: 'socket', address: RELAY } })
  const inner: Command = { kind: 'sendHandshake', via: { kind: 'flow', session: 1, flow: 2 }, bytes: Buffer.alloc(1) }
  assert.deepEqual(detour.outward([inner]), [inner])
  socket.close()
})
