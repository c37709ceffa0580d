import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addClient, addHop, type VirtualClient, type VirtualHop, VirtualNet } from '#lab/virtual-net.ts'

interface World {
  readonly net: VirtualNet
  readonly hops: readonly VirtualHop[]
  readonly exits: readonly VirtualHop[]
  readonly client: VirtualClient
}

/** Hops and two exits; the client takes the first hops that are not to be avoided or known to have failed. */
function build(seed: string, hopCount = 3, relays = 4): World {
  const net = new VirtualNet(seed)
  const hops = Array.from({ length: relays }, (_, i) => addHop(net, `10.${i + 1}.0.1`))
  const exits = [8, 9].map(n => addHop(net, `10.${n}.0.1`, { isExit: true }))
  const failed = new Set<string>()
  const pick = (avoid: readonly { id: string }[]) => {
    const free = hops.filter(({ id }) => !failed.has(id) && !avoid.some(hop => hop.id === id))
    return free.length < hopCount - 1 ? undefined : free.slice(0, hopCount - 1)
  }
  const client: VirtualClient = addClient(
    net,
    '10.100.0.1',
    () => {
      const exit = exits.find(({ id }) => !failed.has(id))
      const way = pick([])
      return exit && way ? { hops: way, exit } : { problem: 'no hops left' }
    },
    (_exit, avoid) => {
      for (const { event } of client.events) if (event.kind === 'hopFailed') failed.add(event.hop.id)
      return pick(avoid)
    },
  )
  return { net, hops, exits, client }
}

function connect(world: World): void {
  world.client.routes.want('', world.net.now)
  world.client.node.settle()
  assert.ok(
    world.net.run(5_000, () => world.client.routes.find('')?.state === 'ready'),
    'the route is ready',
  )
}

const names = (world: World) => world.client.routes.find('')?.hops.map(({ id }) => id)
const kinds = (world: World) => world.client.events.map(({ event }) => event.kind)

test('a route of each length is built, a round trip of each hop at a time', () => {
  for (const [hopCount, trips] of [
    [1, 1],
    [2, 2],
    [3, 3],
    [5, 5],
  ] as const) {
    const world = build(`length ${hopCount}`, hopCount)
    const startedMs = world.net.now
    connect(world)
    assert.equal(names(world)?.length, hopCount)
    // Extending by a hop costs one round trip along the way so far: 2, 4, 6 … delays of 10 ms.
    assert.equal(world.net.now - startedMs, world.net.delayMs * trips * (trips + 1), `${hopCount} hops`)
  }
})

test('a slow network only takes longer: a second for each round trip to the exit, and nothing is sent twice', () => {
  const world = build('slow')
  world.net.delayMs = 180
  const startedMs = world.net.now
  world.client.routes.want('', world.net.now)
  world.client.node.settle()
  assert.ok(world.net.run(10_000, () => world.client.routes.find('')?.state === 'ready'))
  assert.equal(world.net.now - startedMs, world.net.delayMs * 12)
  assert.ok(
    world.net.run(10_000, () => world.client.routes.find('')?.spareHops !== undefined),
    'a spare too',
  )
  world.net.run(60_000)
  assert.deepEqual(
    kinds(world).filter(kind => kind !== 'ready' && kind !== 'spareReady'),
    [],
  )
  const handshakes = [...world.hops, ...world.exits].map(
    ({ machine }) => (machine.counters.get('handshakes') ?? 0) + (machine.counters.get('renewals') ?? 0),
  )
  assert.equal(
    handshakes.reduce((sum, count) => sum + count, 0),
    6,
    'guard, middle and exit of the way in use, and of the spare',
  )
})

test('stream datagrams arrive at the exit as they were, and come back', () => {
  const world = build('datagrams')
  connect(world)
  const { client, net, exits } = world
  const session = client.routes.find('')?.exitLayer.session ?? 0
  const entry = client.node.forwarder.tables.sessions.get(session)
  const exit = exits[0]
  assert.ok(entry && exit)
  entry.hasTap = true
  for (const far of exit.node.forwarder.tables.sessions.values()) far.hasTap = true
  client.node.forwarder.receiveFromTap(entry, Buffer.from('hello exit'), 0, 10, 1_200)
  net.run(100)
  assert.equal(Buffer.from(exit.node.tapped[0]?.bytes ?? []).toString(), 'hello exit')
  const far = exit.node.forwarder.tables.sessions.get(exit.node.tapped[0]?.session ?? 0)
  assert.ok(far)
  exit.node.forwarder.receiveFromTap(far, Buffer.from('hello client'), 0, 12, 1_200)
  net.run(100)
  assert.equal(Buffer.from(client.node.tapped[0]?.bytes ?? []).toString(), 'hello client')
})

test('a lost guard or middle moves the route to its spare way within 2 s, with the same exit session', () => {
  for (const position of [0, 1]) {
    const world = build(`lost hop ${position}`)
    connect(world)
    assert.ok(
      world.net.run(5_000, () => world.client.routes.find('')?.spareHops !== undefined),
      'a spare is ready',
    )
    const before = names(world) ?? []
    const session = world.client.routes.find('')?.exitLayer.session
    world.net.run(2_000)
    const killedMs = world.net.now
    world.net.kill(before[position] ?? '')
    assert.ok(
      world.net.run(2_000, () => kinds(world).includes('moved')),
      'moved',
    )
    assert.ok(world.net.now - killedMs < 1_000, `${world.net.now - killedMs} ms`)
    const after = names(world) ?? []
    assert.equal(after.at(-1), before.at(-1), 'the same exit')
    assert.equal(world.client.routes.find('')?.exitLayer.session, session)
    assert.equal(
      after.slice(0, 2).some(id => before.slice(0, 2).includes(id)),
      false,
      'other hops',
    )
    const failed = world.client.events.flatMap(({ event }) => (event.kind === 'hopFailed' ? [event.hop.id] : []))
    assert.deepEqual(failed, [before[position]], 'the right hop is blamed')
  }
})

test('a way and its spare that are lost together make room for a third, with the same exit session', () => {
  const world = build('both ways lost', 3, 6)
  connect(world)
  assert.ok(world.net.run(5_000, () => world.client.routes.find('')?.spareHops !== undefined))
  const route = world.client.routes.find('')
  const session = route?.exitLayer.session
  world.net.run(2_000)
  for (const id of [names(world)?.[0], route?.spareHops?.[0]?.id]) world.net.kill(id ?? '')
  const isBack = () => kinds(world).includes('moved') && world.client.routes.find('')?.state === 'ready'
  assert.ok(world.net.run(20_000, isBack), 'a third way')
  assert.equal(world.client.routes.find('')?.exitLayer.session, session)
})

test('after a move the exit sends back along the new way, though the client sends nothing but claims', () => {
  const world = build('inward only')
  connect(world)
  world.net.run(5_000, () => world.client.routes.find('')?.spareHops !== undefined)
  world.net.run(1_000)
  world.net.kill(names(world)?.[0] ?? '')
  world.net.run(2_000, () => kinds(world).includes('moved'))
  world.net.run(200)
  const exit = world.exits[0]
  const far = [...(exit?.node.forwarder.tables.sessions.values() ?? [])][0]
  const session = world.client.routes.find('')?.exitLayer.session ?? 0
  const entry = world.client.node.forwarder.tables.sessions.get(session)
  assert.ok(exit && far && entry)
  entry.hasTap = true
  exit.node.forwarder.receiveFromTap(far, Buffer.from('data'), 0, 4, 1_200)
  world.net.run(100)
  assert.equal(Buffer.from(world.client.node.tapped[0]?.bytes ?? []).toString(), 'data')
})

test('a lost exit is noticed within 2 s, and another route is ready within 3 s', () => {
  const world = build('lost exit')
  connect(world)
  world.net.run(5_000, () => world.client.routes.find('')?.spareHops !== undefined)
  world.net.run(2_000)
  const exit = names(world)?.at(-1) ?? ''
  const killedMs = world.net.now
  world.net.kill(exit)
  assert.ok(
    world.net.run(3_000, () => kinds(world).includes('lost')),
    'lost',
  )
  assert.ok(world.net.now - killedMs < 2_000, `${world.net.now - killedMs} ms`)
  assert.equal(kinds(world).includes('moved'), false, 'a dead exit is not mistaken for a dead way')
})

test('a network that goes away for 20 s does not cost the exit: the route comes back', () => {
  const world = build('outage')
  connect(world)
  world.net.run(5_000, () => world.client.routes.find('')?.spareHops !== undefined)
  const session = world.client.routes.find('')?.exitLayer.session
  world.net.loses = ({ from, to }) => from.startsWith('10.100.') || to.startsWith('10.100.')
  world.net.run(20_000)
  assert.equal(kinds(world).includes('lost'), false)
  world.net.loses = () => false
  assert.ok(
    world.net.run(20_000, () => world.client.routes.find('')?.state === 'ready'),
    'ready again',
  )
  assert.equal(world.client.routes.find('')?.exitLayer.session, session)
})

test('keys are renewed before they expire, for an hour, without the route being lost', () => {
  const world = build('an hour')
  connect(world)
  const before = names(world)
  world.net.run(3_600_000)
  assert.equal(kinds(world).includes('lost'), false)
  assert.equal(kinds(world).includes('moved'), false)
  assert.deepEqual(names(world), before)
  const exit = world.exits[0]
  assert.ok((exit?.machine.counters.get('renewals') ?? 0) >= 28, 'renewed about every two minutes')
  for (const entry of exit?.node.forwarder.tables.sessions.values() ?? []) assert.ok(entry.keypairs.length <= 3)
  assert.ok((exit?.node.forwarder.tables.keypairs.size ?? 99) <= 4, 'old keys are removed')
})

test('five per cent loss everywhere does not lose or move a route', () => {
  const world = build('loss')
  let state = 7
  world.net.loses = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32 < 0.05
  }
  world.client.routes.want('', world.net.now)
  world.client.node.settle()
  assert.ok(world.net.run(30_000, () => world.client.routes.find('')?.state === 'ready'))
  world.net.run(60_000)
  assert.equal(kinds(world).includes('lost'), false)
})

test('on one link there is no name or byte of the inside, and no address of the route beyond its two ends', () => {
  const world = build('eavesdropper')
  connect(world)
  const { client, net, exits } = world
  const entry = client.node.forwarder.tables.sessions.get(client.routes.find('')?.exitLayer.session ?? 0)
  const exit = exits[0]
  assert.ok(entry && exit)
  for (const far of exit.node.forwarder.tables.sessions.values()) far.hasTap = true
  const secret = Buffer.from('GET http://very-secret-destination.example/ HTTP/1.1')
  client.node.forwarder.receiveFromTap(entry, Buffer.from(secret), 0, secret.length, 1_200)
  net.run(200)
  assert.ok(Buffer.from(exit.node.tapped[0]?.bytes ?? []).equals(secret))
  const [guard, middle] = names(world) ?? []
  const guards = [guard ?? '', client.routes.find('')?.spareHops?.[0]?.id ?? '10.3.0.1']
  for (const { from, to, bytes } of net.wire) {
    const seen = Buffer.from(bytes)
    for (let length = 8; length <= secret.length; length += 11) {
      assert.equal(seen.includes(secret.subarray(secret.length - length, secret.length - length + 8)), false)
    }
    const ends = `${from} ${to}`
    if (ends.includes('10.100.0.1')) {
      assert.ok(
        guards.some(host => ends.includes(host)),
        'the client speaks to its guards alone',
      )
      for (const hidden of [middle, exit.id])
        assert.equal(seen.includes(ipBytes(hidden ?? '')), false, 'no address inside')
    }
  }
})

test('with the private keys of a middle one learns its neighbours and nothing further', () => {
  const world = build('compromised middle')
  connect(world)
  const { client, net, exits, hops } = world
  const [, middle] = names(world) ?? []
  const hop = hops.find(({ id }) => id === middle)
  const entry = client.node.forwarder.tables.sessions.get(client.routes.find('')?.exitLayer.session ?? 0)
  const exit = exits[0]
  assert.ok(hop && entry && exit)
  for (const far of exit.node.forwarder.tables.sessions.values()) far.hasTap = true
  const opened: Buffer[] = []
  hop.node.forwarder.watch = (buffer, offset, length) => {
    opened.push(Buffer.from(buffer.slice(offset, offset + length)))
  }
  const secret = Buffer.from('GET http://very-secret-destination.example/ HTTP/1.1')
  client.node.forwarder.receiveFromTap(entry, Buffer.from(secret), 0, secret.length, 1_200)
  net.run(500)
  assert.ok(opened.length > 0, 'the middle opened its layer')
  for (const bytes of opened) {
    assert.equal(bytes.includes(secret.subarray(0, 8)), false)
    assert.equal(bytes.includes(ipBytes('10.100.0.1')), false, 'not the client')
  }
})

function ipBytes(host: string): Buffer {
  return Buffer.from(host.split('.').map(Number))
}
