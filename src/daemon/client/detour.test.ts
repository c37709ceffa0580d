import assert from 'node:assert/strict'
import dgram from 'node:dgram'
import { once } from 'node:events'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import type { Command } from '#forward/commands.ts'
import { waitFor } from '#lab/testnet.ts'
import { WebSocketBridge } from '#platform/paths/websocket-bridge.ts'
import { MAX_MESSAGE_BYTES, serveWebSocketRelay } from '#platform/paths/websocket-relay.ts'
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

/** A detour over a real door; what it sent later, by where it went. */
function setUp(port: number, when: 'auto' | 'always' | 'never' = 'auto') {
  const later: Command[] = []
  const detour = new Detour({ when, port, send: commands => void later.push(...commands) })
  /** Where the newest went around. */
  const around = () =>
    waitFor(async () => {
      const command = later.at(-1)
      return command?.kind === 'sendHandshake' && command.via.kind === 'socket' ? command.via : undefined
    }, 'what goes around')
  return { detour, later, around }
}

const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))
const answered = (from: typeof RELAY) => ({ kind: 'handshake', bytes: Buffer.alloc(1), from: viaOf(from) }) as const
const viaOf = (address: typeof RELAY) => ({ kind: 'socket', address }) as const

test('an initiation that UDP does not answer goes around after a quarter of a second, the same one', async () => {
  const { socket, door } = await relay()
  await using _door = door
  const { detour, later, around } = setUp(door.port)
  using _detour = detour
  const startedMs = performance.now()
  assert.deepEqual(detour.outward([greet()]), [greet()])
  const via = await around()
  assert.ok(performance.now() - startedMs >= 249)
  assert.deepEqual(later, [{ ...greet(), via }])
  assert.ok(!detour.isOn, 'nothing has answered yet')
  assert.deepEqual(detour.inward({ ...answered(RELAY), from: via }), answered(RELAY))
  assert.ok(detour.isOn)
  const keys = { localIndex: 1, remoteIndex: 2, send: Buffer.alloc(32), receive: Buffer.alloc(32) }
  const install = { kind: 'installSession', session: 1, role: 'initiator', via: viaOf(RELAY), keys } as const
  assert.deepEqual(detour.outward([install]), [{ ...install, via }], 'the session goes where the answer came from')
  assert.deepEqual(detour.outward([greet()]), [{ ...greet(), via }], 'and is renewed there')
  socket.close()
})

test('where UDP answers nothing goes around, for this relay and the next, until there is another network', async () => {
  const { socket, door } = await relay()
  await using _door = door
  const { detour, later, around } = setUp(door.port)
  using _detour = detour
  detour.outward([greet()])
  detour.inward(answered(RELAY))
  const next: Command = { ...greet(), via: viaOf({ ...RELAY, port: 9 }) } as Command
  assert.deepEqual(detour.outward([greet(), next]), [greet(), next])
  await pause(300)
  assert.deepEqual(later, [])
  assert.ok(!detour.isOpen, 'no door has to be let through')
  detour.handleNetworkChange()
  assert.ok(detour.isOpen)
  detour.outward([greet()])
  await around()
  socket.close()
})

test('what was learned is remembered: the next relay has its way around almost at once, and UDP still wins if it answers', async t => {
  const { socket, door } = await relay()
  await using _door = door
  const { detour, later, around } = setUp(door.port)
  using _detour = detour
  detour.outward([greet()])
  detour.inward({ ...answered(RELAY), from: await around() })
  const other = { host: '127.0.0.1', port: 51_822 }
  t.mock.timers.enable({ apis: ['setTimeout'] })
  detour.outward([{ ...greet(), via: viaOf(other) } as Command])
  t.mock.timers.tick(60)
  t.mock.timers.reset()
  await waitFor(async () => (later.length === 2 ? true : undefined), 'the second')
  detour.inward(answered(other))
  assert.ok(!detour.isOn)
  const probe = { kind: 'setVia', session: 1, via: viaOf(other) } as const
  assert.deepEqual(detour.outward([probe]), [probe])
  socket.close()
})

test('two hops in a row of which nothing is heard make everything uncertain again, one does not', async () => {
  const { socket, door } = await relay()
  await using _door = door
  const { detour } = setUp(door.port)
  using _detour = detour
  detour.inward(answered(RELAY))
  detour.outward([greet()])
  detour.inward(answered(RELAY))
  assert.ok(!detour.isOpen)
  detour.handleFailure(5)
  assert.ok(!detour.isOpen, 'others were heard')
  detour.handleFailure(5)
  assert.ok(!detour.isOpen, 'one relay may be down')
  detour.handleFailure(5)
  assert.ok(detour.isOpen)
  socket.close()
})

test('who wants no detour has none, and who wants nothing else has no UDP', async () => {
  const never = setUp(1, 'never')
  using _never = never.detour
  assert.deepEqual(never.detour.outward([greet()]), [greet()])
  for (let n = 0; n < 4; n++) never.detour.handleFailure(0)
  await pause(300)
  assert.deepEqual(never.later, [])
  assert.ok(!never.detour.isOpen)
  const always = setUp(1, 'always')
  using _always = always.detour
  for (let n = 0; n < 5; n++) always.detour.handleFailure(0)
  assert.ok(always.detour.isOn && always.detour.isOpen)
})

test('commands for a relay go to its bridge, the first when it is built, and reports of the bridge count as the relay’s', async () => {
  const { socket, door } = await relay()
  await using _door = door
  const { detour, around } = setUp(door.port, 'always')
  using _detour = detour
  assert.deepEqual(detour.outward([greet()]), [], 'the bridge is being built')
  const via = await around()
  assert.notEqual(via.address.port, RELAY.port)
  const report = { kind: 'handshake', bytes: Buffer.alloc(1), from: via } as const
  assert.deepEqual(detour.inward(report), { ...report, from: { kind: 'socket', address: RELAY } })
  const inner: Command = { kind: 'sendHandshake', via: { kind: 'flow', session: 1, flow: 2 }, bytes: Buffer.alloc(1) }
  assert.deepEqual(detour.outward([inner]), [inner])
  socket.close()
})

test('the first datagram of a bridge waits for its WebSocket', async () => {
  const { socket, door, address } = await relay()
  await using _door = door
  using bridge = await WebSocketBridge.open(address)
  const plane = dgram.createSocket('udp4').bind(0, '127.0.0.1')
  await once(plane, 'listening')
  plane.send('first', bridge.address.port, bridge.address.host)
  const [bytes] = await once(plane, 'message')
  assert.equal(String(bytes), 'first')
  for (const each of [plane, socket]) each.close()
})
