import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addEntryClient, addPeer, type PickPeers, VirtualTunnel, VirtualWireGuard } from '#lab/entry/virtual-entry.ts'
import { type VirtualHop, VirtualNet } from '#lab/virtual-net.ts'
import { inside4, ipPacket } from '#lab/wireguard/wireguard-net.ts'

const SERVER = { host: '10.200.0.1', port: 51_820 }
const FROM_SERVER = ipPacket(inside4(2), inside4(1), 100)

interface World {
  readonly net: VirtualNet
  readonly peers: VirtualHop[]
  readonly server: VirtualWireGuard
  readonly pick: PickPeers
}

function world(seed: string, peerCount = 4, peersInWay = 1): World {
  const net = new VirtualNet(seed)
  const peers = Array.from({ length: peerCount }, (_, n) => addPeer(net, `10.${n + 1}.0.1`))
  const server = new VirtualWireGuard(net, SERVER)
  const pick: PickPeers = (avoid, failed) => {
    const free = peers.filter(({ id }) => !failed.has(id) && !avoid.some(hop => hop.id === id))
    return free.length < peersInWay ? { problem: 'no peers left' } : { hops: free.slice(0, peersInWay) }
  }
  return { net, peers, server, pick }
}

/** A tunnel of our own that has carried a packet to the server. */
function connected(seed: string, peerCount = 4, peersInWay = 1): World & { readonly tunnel: VirtualTunnel } {
  const made = world(seed, peerCount, peersInWay)
  const { net, server, pick } = made
  const tunnel = new VirtualTunnel(net, '10.100.0.1', server, pick)
  assert.ok(
    net.run(2_000, () => kinds(tunnel).includes('ready')),
    'ready',
  )
  tunnel.send()
  assert.ok(
    net.run(2_000, () => server.inbox.length === 1),
    'a packet arrives',
  )
  return { ...made, tunnel }
}

const kinds = (tunnel: VirtualTunnel) => tunnel.client.events.map(({ kind }) => kind)
const route = (tunnel: VirtualTunnel) => {
  const found = tunnel.client.routes.find(1)
  assert.ok(found)
  return found
}
/** The hosts that the server's packets went to since the wire had `from` datagrams. */
const serverSpokeTo = ({ net }: World, from = 0) => [
  ...new Set(net.wire.slice(from).flatMap(({ from, to }) => (from.startsWith(SERVER.host) ? [to.split(':')[0]] : []))),
]
const serverHeard = ({ net }: World, from = 0) => [
  ...new Set(net.wire.slice(from).flatMap(({ from, to }) => (to.startsWith(SERVER.host) ? [from.split(':')[0]] : []))),
]

test('a packet reaches the server from a peer, two spares are proven, and the client never speaks to the server', () => {
  const made = connected('one peer')
  const { net, tunnel, server } = made
  assert.ok(
    net.run(20_000, () => route(tunnel).spares.filter(({ isProven }) => isProven).length === 2),
    'two spares',
  )
  assert.deepEqual(serverHeard(made).sort(), ['10.1.0.1', '10.2.0.1', '10.3.0.1'])
  assert.ok(route(tunnel).isProven)
  server.send(FROM_SERVER)
  assert.ok(
    net.run(1_000, () => tunnel.inbox.length === 1),
    'and one comes back',
  )
  assert.equal(
    net.wire.some(({ from, to }) => from.startsWith('10.100.') && to.startsWith('10.200.')),
    false,
  )
})

test('over two peers the first does not know the server and the second not the client', () => {
  const made = connected('two peers', 6, 2)
  const heard = serverHeard(made)
  assert.deepEqual(heard, ['10.2.0.1'])
  assert.equal(
    made.net.wire.some(({ from, to }) => from.startsWith('10.100.') && to.startsWith('10.2.0.')),
    false,
  )
})

test('when its peer is lost, a tunnel under load stalls for less than a second', () => {
  const made = connected('peer lost')
  const { net, tunnel, server } = made
  net.run(20_000, () => route(tunnel).spares.filter(({ isProven }) => isProven).length === 2)
  let sends = true
  const tick = () => {
    if (!sends) return
    server.send(FROM_SERVER)
    tunnel.send()
    net.at(net.now + 20, tick)
  }
  tick()
  net.run(1_000)
  const used = route(tunnel).hops[0]?.id ?? ''
  const killedMs = net.now
  net.kill(used)
  net.run(4_000)
  sends = false
  const arrivals = tunnel.inbox.filter(({ atMs }) => atMs > killedMs - 100).map(({ atMs }) => atMs)
  const stall = Math.max(...arrivals.slice(1).map((atMs, n) => atMs - (arrivals[n] ?? atMs)))
  assert.ok(stall < 1_000, `${stall} ms`)
  assert.notEqual(route(tunnel).hops[0]?.id, used)
  const moved = tunnel.client.events.find(({ kind }) => kind === 'moved')
  assert.equal(moved?.kind === 'moved' && moved.reason, 'silent')
})

test('losing every peer sends nothing anywhere, says so, and heals when one returns', () => {
  const made = connected('all lost', 3)
  const { net, tunnel, server, peers } = made
  const { failed } = tunnel.client
  net.run(20_000, () => route(tunnel).spares.length === 2)
  for (const { id } of peers) net.kill(id)
  assert.ok(
    net.run(5_000, () => route(tunnel).state === 'cutOff'),
    'cut off',
  )
  net.run(10_000)
  const mark = net.wire.length
  for (let i = 0; i < 50; i++) {
    tunnel.send()
    net.run(100)
  }
  assert.deepEqual(serverHeard(made, mark), [])
  assert.equal(kinds(tunnel).filter(kind => kind === 'cutOff').length, 1, 'said once')
  assert.match(route(tunnel).problem ?? '', /no peers left/)
  peers.push(addPeer(net, '10.9.0.1'))
  for (const { id } of peers.slice(0, 3)) failed.add(id)
  server.inbox.length = 0
  assert.ok(
    net.run(30_000, () => {
      return route(tunnel).state === 'ready'
    }),
    'ready again',
  )
  for (let i = 0; i < 10 && server.inbox.length === 0; i++) {
    tunnel.send()
    net.run(1_000)
  }
  assert.ok(server.inbox.length > 0, 'carried again')
  assert.deepEqual(serverHeard(made, mark), ['10.9.0.1'])
})

test('a peer that becomes much slower than a spare is left, and its last packets still arrive', () => {
  const made = connected('slow')
  const { net, tunnel, server } = made
  net.run(20_000, () => route(tunnel).spares.filter(({ isProven }) => isProven).length === 2)
  const slow = route(tunnel).hops[0]?.id ?? ''
  const carry = net.send.bind(net)
  net.send = (from, to, bytes) => {
    if (from.host === slow || to.host === slow) net.at(net.now + 90, () => carry(from, to, bytes))
    else carry(from, to, bytes)
  }
  assert.ok(
    net.run(15_000, () => route(tunnel).hops[0]?.id !== slow),
    'left',
  )
  const moved = tunnel.client.events.findLast(({ kind }) => kind === 'moved')
  assert.equal(moved?.kind === 'moved' && moved.reason, 'slow')
  const sent = server.inbox.length
  tunnel.send()
  net.run(500)
  assert.equal(server.inbox.length, sent + 1)
})

test('peers rotate within the hour, make before break: a packet a second, and none is lost', () => {
  const made = connected('rotation', 8)
  const { net, tunnel, server } = made
  net.run(20_000, () => route(tunnel).spares.filter(({ isProven }) => isProven).length === 2)
  const first = route(tunnel).hops[0]?.id
  server.inbox.length = 0
  let sent = 0
  const rotated = () => tunnel.client.events.some(event => event.kind === 'moved' && event.reason === 'rotation')
  while (!rotated() && sent < 4_000) {
    tunnel.send()
    sent++
    net.run(1_000)
  }
  for (let i = 0; i < 20; i++, sent++) {
    tunnel.send()
    net.run(1_000)
  }
  assert.ok(rotated(), 'rotated')
  assert.ok(sent > 1_800 && sent < 3_700, `after ${sent} s`)
  assert.notEqual(route(tunnel).hops[0]?.id, first)
  assert.equal(server.inbox.length, sent, 'nothing was lost')
})

test('a peer that answers probes and carries nothing is found out by the handshake that it does not carry', () => {
  const made = world('liar')
  const { net, server, pick } = made
  net.loses = ({ from, to }) => from.startsWith('10.1.0.1') && to.startsWith(SERVER.host)
  const tunnel = new VirtualTunnel(net, '10.100.0.1', server, pick)
  net.run(1_000)
  tunnel.send()
  assert.ok(
    net.run(20_000, () => server.inbox.length === 1),
    'another peer carries it',
  )
  assert.notEqual(route(tunnel).hops[0]?.id, '10.1.0.1')
})

test('a server that never answers: peers are ready and not proven, none is blamed, and nothing but handshakes goes out', () => {
  const made = world('wrong key')
  const { net, server, pick } = made
  net.kill(SERVER.host)
  const tunnel = new VirtualTunnel(net, '10.100.0.1', server, pick)
  assert.ok(net.run(2_000, () => kinds(tunnel).includes('ready')))
  for (let i = 0; i < 30; i++) {
    tunnel.send()
    net.run(1_000)
    assert.equal(route(tunnel).isProven, false)
  }
  const lengths = net.wire.filter(({ to }) => to.startsWith(SERVER.host)).map(({ bytes }) => bytes.length)
  assert.ok(lengths.length > 0 && lengths.every(length => length === 148), String(lengths))
  assert.equal(kinds(tunnel).filter(kind => kind === 'hopFailed').length, 0)
})

test('a peer that makes up the answers of the server proves nothing to our own device', () => {
  const made = world('forger')
  const { net, server, pick } = made
  net.loses = ({ from, to, bytes }) => {
    const isCaught = from.startsWith('10.1.0.1') && to.startsWith(SERVER.host) && bytes.length === 148
    if (!isCaught) return false
    const answer = new Uint8Array(92)
    answer[0] = 2
    answer.set(bytes.subarray(4, 8), 8)
    net.send(SERVER, { host: '10.1.0.1', port: Number(from.split(':')[1]) }, answer)
    return true
  }
  const tunnel = new VirtualTunnel(net, '10.100.0.1', server, pick)
  const proven = () => tunnel.client.events.filter(({ kind }) => kind === 'spareReady' || kind === 'moved').length
  net.run(300)
  assert.equal(route(tunnel).isProven, false)
  assert.equal(proven(), 0)
  tunnel.send()
  assert.ok(
    net.run(20_000, () => server.inbox.length === 1),
    'another peer carries it',
  )
  assert.notEqual(route(tunnel).hops[0]?.id, '10.1.0.1')
})

test('a server that is down is told from lost peers, and found again when it is back', () => {
  const made = connected('server down')
  const { net, tunnel, server } = made
  net.run(20_000, () => route(tunnel).spares.filter(({ isProven }) => isProven).length === 2)
  net.kill(SERVER.host)
  for (let i = 0; i < 60; i++) {
    tunnel.send()
    net.run(1_000)
  }
  assert.ok(kinds(tunnel).includes('serverSilent'))
  assert.equal(kinds(tunnel).filter(kind => kind === 'hopFailed').length, 0, 'no peer is blamed')
  net.add(server)
  server.inbox.length = 0
  for (let i = 0; i < 60 && server.inbox.length === 0; i++) {
    tunnel.send()
    net.run(1_000)
  }
  assert.ok(server.inbox.length > 0, 'carried again')
})

test('any WireGuard client is served at a socket; its spares are proven by the handshakes that it makes anyway', () => {
  const made = world('socket client')
  const { net, server, pick } = made
  const entry = addEntryClient(net, '10.100.0.1', SERVER, pick)
  net.run(2_000)
  const client = new VirtualWireGuard(net, { host: '10.100.0.2', port: 7_000 })
  const endpoint = { host: '10.100.0.1', port: 51_820 }
  client.device.setPeer(
    { publicKey: server.device.publicKey, endpoint, allowedIps: [{ address: inside4(0), bits: 0 }] },
    net.now,
  )
  server.device.setPeer(
    { publicKey: client.device.publicKey, allowedIps: [{ address: inside4(1), bits: 32 }] },
    net.now,
  )
  const proven = () => entry.routes.find(1)?.spares.filter(({ isProven }) => isProven).length
  for (let i = 0; i < 130; i++) {
    client.send(ipPacket(inside4(1), inside4(2), 100))
    server.send(FROM_SERVER)
    net.run(1_000)
  }
  assert.equal(server.inbox.length, 130)
  assert.equal(client.inbox.length >= 129, true, `${client.inbox.length}`)
  assert.equal(proven(), 1, 'one after two minutes')
  const used = entry.routes.find(1)?.hops[0]?.id ?? ''
  net.kill(used)
  const before = server.inbox.length
  for (let i = 0; i < 5; i++) {
    client.send(ipPacket(inside4(1), inside4(2), 100))
    net.run(1_000)
  }
  assert.ok(server.inbox.length >= before + 3, `${server.inbox.length - before} of 5 after the peer was lost`)
  assert.deepEqual(
    entry.events.map(({ kind }) => kind).filter(kind => kind === 'moved'),
    ['moved'],
  )
})

test('a closed entry ends its flows at the peers', () => {
  const made = connected('closed')
  const { net, tunnel, peers } = made
  net.run(20_000, () => route(tunnel).spares.length === 2)
  tunnel.client.routes.close(1, net.now)
  tunnel.client.node.settle()
  net.run(1_000)
  assert.deepEqual(
    peers.map(({ machine }) => machine.flows),
    [0, 0, 0, 0],
  )
  assert.equal(tunnel.client.routes.deadline(), Number.POSITIVE_INFINITY)
  assert.deepEqual(serverSpokeTo(made).length > 0, true)
})

test('asked for another peer it moves to a spare and loses nothing; without a spare nothing is sent until one is found', () => {
  const made = connected('asked', 6)
  const { net, tunnel, server } = made
  net.run(20_000, () => route(tunnel).spares.filter(({ isProven }) => isProven).length === 2)
  const first = route(tunnel).hops[0]?.id
  server.inbox.length = 0
  tunnel.send()
  assert.equal(tunnel.client.routes.renew(net.now), 1)
  net.run(1_000)
  tunnel.send()
  net.run(1_000)
  assert.deepEqual([route(tunnel).hops[0]?.id === first, server.inbox.length], [false, 2])
  const alone = connected('alone', 1)
  const only = route(alone.tunnel).hops[0]?.id
  alone.tunnel.client.routes.renew(alone.net.now)
  assert.deepEqual(route(alone.tunnel).hops, [])
  assert.ok(
    alone.net.run(5_000, () => route(alone.tunnel).hops[0]?.id === only),
    'the only one there is',
  )
})

test('a tunnel that sends a packet now and then stays with its peer: what keeps spares open leads the server to none', () => {
  const { net, server, tunnel } = connected('now and then')
  for (let i = 0; i < 12; i++) {
    net.run(20_000)
    const [mark, seen] = [net.wire.length, server.inbox.length]
    tunnel.send()
    net.run(100)
    assert.equal(server.inbox.length, seen + 1)
    server.send(FROM_SERVER)
    net.run(100)
    const data = net.wire.slice(mark).filter(({ from, bytes }) => from.startsWith(SERVER.host) && bytes[0] === 4)
    const hosts = new Set(data.map(({ to }) => to.split(':')[0]))
    assert.deepEqual([...hosts], [route(tunnel).hops[0]?.address.host], `${i}`)
  }
  const moves = tunnel.client.events.flatMap(event =>
    event.kind === 'moved' ? [`${event.reason} at ${event.atMs}`] : [],
  )
  assert.deepEqual(moves, [])
})
