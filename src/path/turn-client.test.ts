import assert from 'node:assert/strict'
import { test } from 'node:test'
import { VirtualInternet } from '#lab/nat/virtual-nat.ts'
import { VirtualTurn, type VirtualTurnOptions } from '#lab/nat/virtual-turn.ts'
import type { Address } from '#wire/address.ts'
import { decodeStun, STUN_METHOD } from '#wire/stun.ts'
import { TurnClient } from './turn-client.ts'

const CREDENTIALS = { username: 'user', password: 'pass word' }
const CLIENT: Address = { host: '203.0.113.5', port: 40_000 }
const PEER: Address = { host: '192.0.2.9', port: 50_000 }

function world(options: Partial<VirtualTurnOptions> = {}, password = CREDENTIALS.password) {
  const net = new VirtualInternet('turn')
  const server = new VirtualTurn(net, '198.51.100.9', { ...CREDENTIALS, ...options })
  const state = { from: CLIENT, blocked: false }
  const client = new TurnClient({
    server: { address: server.address, username: CREDENTIALS.username, password },
    random: net.random,
    send: bytes => {
      if (!state.blocked) net.send(net.root, state.from, server.address, bytes)
    },
  })
  const inbound: string[] = []
  const atPeer: { readonly from: Address; readonly text: string }[] = []
  const hear = (host: string) =>
    net.root.hosts.set(host, (_from, _to, bytes) => {
      const datagram = client.handlePacket(bytes, decodeStun(bytes), net.now)
      if (datagram !== undefined) inbound.push(`${datagram.from.port} ${Buffer.from(datagram.bytes).toString()}`)
    })
  hear(CLIENT.host)
  net.root.hosts.set(PEER.host, (from, _to, bytes) => void atPeer.push({ from, text: Buffer.from(bytes).toString() }))
  net.machines.add({ deadline: () => client.deadline(), handleDeadline: () => client.handleDeadline(net.now) })
  return { net, server, client, state, inbound, atPeer, hear }
}

test('an allocation is made with the credentials, and datagrams go both ways', () => {
  const { net, client, inbound, atPeer } = world()
  client.begin(net.now)
  net.run(500)
  assert.equal(client.state, 'allocated')
  assert.deepEqual(client.mapped, CLIENT)
  client.sendTo(PEER, Buffer.from('waits for permission'), net.now)
  net.run(500)
  assert.deepEqual(atPeer, [{ from: client.relayed, text: 'waits for permission' }])
  net.send(net.root, PEER, client.relayed as Address, Buffer.from('back'))
  net.send(net.root, { host: '192.0.2.66', port: 1 }, client.relayed as Address, Buffer.from('stranger'))
  net.run(500)
  assert.deepEqual(inbound, ['50000 back'])
})

test('a channel carries datagrams once it is bound', () => {
  const { net, client, inbound, atPeer } = world()
  client.begin(net.now)
  net.run(500)
  assert.equal(client.channelTo(PEER, net.now), undefined)
  net.run(500)
  assert.equal(client.channelTo(PEER, net.now), 0x4000)
  client.sendTo(PEER, Buffer.from('short'), net.now)
  net.send(net.root, PEER, client.relayed as Address, Buffer.from('back'))
  net.run(500)
  assert.equal(atPeer[0]?.text, 'short')
  assert.deepEqual(inbound, ['50000 back'])
})

test('a server that offers SHA-256 for the password gets it', () => {
  const { net, client } = world({ hasSha256: true })
  client.begin(net.now)
  net.run(500)
  assert.equal(client.state, 'allocated')
})

test('a wrong password ends in failure, and is tried again ever later', () => {
  const { net, client, server } = world({}, 'wrong')
  client.begin(net.now)
  net.run(500)
  assert.equal(client.state, 'failed')
  net.run(120_000)
  assert.equal(client.state, 'failed')
  assert.ok(server.log.length < 20, `${server.log.length} requests in two minutes`)
})

test('a nonce that went stale is renewed, and allocation, permission and channel outlive their terms', () => {
  const { net, client, server, atPeer } = world({ nonceMs: 200_000 })
  client.begin(net.now)
  net.run(500)
  const { relayed } = client
  client.sendTo(PEER, Buffer.from('one'), net.now)
  client.channelTo(PEER, net.now)
  net.run(2_000_000)
  assert.equal(client.state, 'allocated')
  assert.deepEqual(client.relayed, relayed)
  client.sendTo(PEER, Buffer.from('two'), net.now)
  net.run(500)
  assert.deepEqual(
    atPeer.map(({ text }) => text),
    ['one', 'two'],
  )
  assert.ok(server.log.some(({ code }) => code === 438))
})

test('after a change of address, or when the server has forgotten us, a new port is asked for', () => {
  const { net, client, server, state, hear } = world()
  client.begin(net.now)
  net.run(500)
  const first = client.relayed
  state.from = { host: '203.0.113.6', port: 40_000 }
  hear(state.from.host)
  client.verify(net.now)
  net.run(1_000)
  assert.equal(client.state, 'allocated')
  assert.notDeepEqual(client.relayed, first)
  server.restart()
  client.verify(net.now)
  net.run(1_000)
  assert.equal(client.state, 'allocated')
})

test('a server that is silent is given up, and asked again later', () => {
  const { net, client, state } = world()
  state.blocked = true
  client.begin(net.now)
  net.run(41_000)
  assert.equal(client.state, 'failed')
  state.blocked = false
  net.run(60_000)
  assert.equal(client.state, 'allocated')
})

test('closing gives the port back and leaves nothing to do', () => {
  const { net, client, server } = world()
  client.begin(net.now)
  net.run(500)
  client.sendTo(PEER, Buffer.from('x'), net.now)
  net.run(500)
  client.close(net.now)
  net.run(500)
  assert.equal(client.deadline(), Number.POSITIVE_INFINITY)
  assert.equal(server.log.at(-1)?.method, STUN_METHOD.refresh)
})

test('answers that the key does not vouch for, and garbage, change nothing', () => {
  const { net, client } = world()
  client.begin(net.now)
  net.run(500)
  for (let i = 0; i < 2_000; i++) {
    const bytes = net.random(20 + (i % 40))
    if (i % 2 === 0) bytes.set([1, 3, 0, bytes.length - 20, 0x21, 0x12, 0xa4, 0x42])
    else bytes[0] = 0x40
    client.handlePacket(bytes, decodeStun(bytes), net.now)
  }
  assert.equal(client.state, 'allocated')
})
