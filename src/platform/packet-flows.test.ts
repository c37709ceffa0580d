import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { isIntact, makePacket, writeChecksums } from '#lab/packets.ts'
import { skipUnless } from '#lab/skip.ts'
import {
  addClient,
  addHop,
  type VirtualClient,
  type VirtualHop,
  VirtualNet,
  type VirtualNode,
} from '#lab/virtual-net.ts'
import { IpPacket, parseIpPacket } from '#packet/ip-packet.ts'
import { TunnelPool } from '#relay/tunnel-pool.ts'
import type { Route } from '#route/route.ts'
import type { ControlAnswer } from '#wire/control.ts'
import { echoReply, echoRequest, isEchoReply } from '#wire/icmp-echo.ts'

const VECTORS = new URL('../../../shared/vectors/packets/raw-ip.json', import.meta.url)
const MTU = 1_280
const CLIENT = { 4: Buffer.from([192, 0, 0, 2]), 6: Buffer.from('fd686f706c6974650000000000000002', 'hex') }
const FAR = { 4: Buffer.from([198, 51, 100, 9]), 6: Buffer.from('20010db8000000000000000000000009', 'hex') }
const SOURCE_AT = { 4: 12, 6: 8 } as const
const DESTINATION_AT = { 4: 16, 6: 24 } as const
const FAMILIES = [4, 6] as const
type Family = (typeof FAMILIES)[number]

interface World {
  readonly net: VirtualNet
  readonly exits: readonly VirtualHop[]
  readonly clients: readonly VirtualClient[]
}

function build(seed: string, { hopCount = 3, exitCount = 1, clientCount = 1 } = {}): World {
  const net = new VirtualNet(seed)
  const hops = [1, 2, 3, 4].map(n => addHop(net, `10.${n}.0.1`))
  const exits = Array.from({ length: exitCount }, (_, i) => {
    const pool = new TunnelPool(
      {
        network4: { address: Uint8Array.of(10, 64, 0, 0), bits: 24 },
        network6: { address: CLIENT[6], bits: 64 },
      },
      net.random,
    )
    const exit = addHop(net, `10.${8 + i}.0.1`, { isExit: true, tunnel: { pool, mtu: MTU, dns: ['192.0.2.53'] } })
    exit.node.openPort()
    return exit
  })
  const clients = Array.from({ length: clientCount }, (_, i) => {
    const failed = new Set<string>()
    const pick = (avoid: readonly { id: string }[]) => {
      const free = hops.filter(({ id }) => !failed.has(id) && !avoid.some(hop => hop.id === id))
      return free.length < hopCount - 1 ? undefined : free.slice(0, hopCount - 1)
    }
    const client: VirtualClient = addClient(
      net,
      `10.10${i}.0.1`,
      () => {
        const exit = exits.find(({ id }) => !failed.has(id))
        const way = pick([])
        return exit && way ? { hops: way, exit } : { problem: 'no hops left' }
      },
      (_exit, avoid) => {
        for (const { event, route } of client.events) {
          if (event.kind === 'hopFailed') failed.add(event.hop.id)
          if (event.kind === 'lost') failed.add(route.exit.id)
        }
        return pick(avoid)
      },
    )
    client.node.openPort()
    return client
  })
  return { net, exits, clients }
}

/** Waits for a route, and joins the client's TUN to its exit's. */
function join({ net }: World, client: VirtualClient): Route {
  client.routes.want('', net.now)
  client.node.settle()
  assert.ok(
    net.run(10_000, () => client.routes.find('')?.state === 'ready'),
    'the route is ready',
  )
  const route = client.routes.find('') ?? assert.fail('no route')
  const session = route.exitLayer.session
  const flow = route.newFlow()
  let answer: ControlAnswer | undefined
  route.exitLayer.ask({ kind: 'openTunnel', flow, mtu: MTU }, net.now, found => {
    answer = found
  })
  client.node.settle()
  net.run(5_000, () => answer !== undefined)
  assert.equal(answer?.kind, 'openTunnel')
  client.node.packets.install(session, flow, undefined, MTU)
  return route
}

function packet(family: Family, from: Uint8Array, to: Uint8Array, payloadBytes = 100, options = {}): Buffer {
  const made = makePacket({ version: family, protocol: 'tcp', payload: Buffer.alloc(payloadBytes, 7), ...options })
  const bytes = Buffer.from(made)
  bytes.set(from, SOURCE_AT[family])
  bytes.set(to, DESTINATION_AT[family])
  writeChecksums(bytes)
  return bytes
}

const sourceOf = (bytes: Uint8Array, family: Family) =>
  Buffer.from(bytes.subarray(SOURCE_AT[family], SOURCE_AT[family] + CLIENT[family].length))

/** Sends a packet into one host's TUN and gives what came out of the other's in a second. */
function through({ net }: World, from: VirtualNode, to: VirtualNode, bytes: Uint8Array): Buffer[] {
  to.written.length = 0
  from.sendPacket(bytes)
  net.run(1_000)
  return to.written.splice(0).map(written => Buffer.from(written))
}

const only = (packets: readonly Buffer[]): Buffer => {
  assert.equal(packets.length, 1)
  return packets[0] ?? assert.fail()
}

const nodes = ({ clients, exits }: World) => {
  const [client, exit] = [clients[0], exits[0]]
  if (client === undefined || exit === undefined) return assert.fail('nobody there')
  return { client, exit: exit.node }
}

test('packets go through one, two and three hops, and come out of the exit with an address of its own', () => {
  for (const hopCount of [1, 2, 3]) {
    const world = build(`hops ${hopCount}`, { hopCount })
    const { client, exit } = nodes(world)
    join(world, client)
    for (const family of FAMILIES) {
      const out = only(through(world, client.node, exit, packet(family, CLIENT[family], FAR[family])))
      const inside = sourceOf(out, family)
      assert.notDeepEqual(inside, CLIENT[family])
      assert.deepEqual(out, packet(family, inside, FAR[family]))
      const back = only(through(world, exit, client.node, packet(family, FAR[family], inside)))
      assert.deepEqual(back, packet(family, FAR[family], CLIENT[family]))

      const ping = only(through(world, client.node, exit, echoRequest(CLIENT[family], FAR[family], 1, 200)))
      assert.deepEqual(ping, Buffer.from(echoRequest(inside, FAR[family], 1, 200)))
      const reply = echoReply(ping) ?? assert.fail('not an echo request')
      assert.ok(isEchoReply(only(through(world, exit, client.node, reply)), 200))
    }
  }
})

test('where a queue stands a packet is marked at the end that sees it, or dropped when its sender would not understand', () => {
  const world = build('standing')
  const { client, exit } = nodes(world)
  join(world, client)
  for (const family of FAMILIES) {
    const understands = packet(family, CLIENT[family], FAR[family], 600)
    understands[1] = (understands[1] ?? 0) | (family === 4 ? 1 : 0x10)
    if (family === 4) writeChecksums(understands)
    exit.forwarder.shedsNext = true
    const out = only(through(world, client.node, exit, understands))
    assert.equal((out[1] ?? 0) >>> (family === 4 ? 0 : 4), 3)
    assert.ok(isIntact(out))
    exit.forwarder.shedsNext = true
    const other = packet(family, CLIENT[family], FAR[family], 600)
    assert.deepEqual(through(world, client.node, exit, other), [])
    assert.equal(through(world, client.node, exit, other).length, 1, 'one, and not the next')
  }
  assert.deepEqual([exit.counters.get('markedCongestion'), exit.counters.get('dropStandingQueue')], [2, 2])
})

test('the largest packet over three hops is a datagram that every link carries', () => {
  const world = build('largest')
  const { client, exit } = nodes(world)
  join(world, client)
  world.net.wire.length = 0
  const bytes = packet(4, CLIENT[4], FAR[4], MTU - 40)
  assert.equal(bytes.length, MTU)
  assert.equal(through(world, client.node, exit, bytes).length, 1)
  const longest = Math.max(...world.net.wire.map(({ bytes }) => bytes.length))
  assert.ok(longest <= 1_500 - 48, `${longest} bytes`)
})

test('a packet in another name, or for another, is dropped and counted at both ends', () => {
  const world = build('spoofed')
  const { client, exit } = nodes(world)
  const route = join(world, client)
  const dropped = (node: VirtualNode) => node.counters.get('dropSpoofed')
  for (const family of FAMILIES) {
    const before = dropped(client.node)
    assert.deepEqual(through(world, client.node, exit, packet(family, FAR[family], FAR[family])), [])
    assert.equal(dropped(client.node), before + 1)
    // A client that does not look: the exit does.
    const session = route.exitLayer.session
    const bytes = packet(family, FAR[family], FAR[family])
    client.node.forwarder.send(session, 2, bytes, 0, bytes.length)
    world.net.run(1_000)
    assert.deepEqual([exit.written.length, dropped(exit)], [0, family === 4 ? 1 : 2])
  }
  // An exit that does not look either: the client does.
  const [session] = exit.forwarder.tables.sessions.keys()
  const bytes = packet(4, FAR[4], FAR[4])
  exit.forwarder.send(session ?? 0, 2, bytes, 0, bytes.length)
  world.net.run(1_000)
  assert.deepEqual([client.node.written.length, dropped(client.node)], [0, 3])
})

test('a packet that is too long is answered at either end and goes nowhere', () => {
  const world = build('too big')
  const { client, exit } = nodes(world)
  join(world, client)
  for (const family of FAMILIES) {
    const inside = sourceOf(
      only(through(world, client.node, exit, packet(family, CLIENT[family], FAR[family]))),
      family,
    )
    for (const [node, bytes] of [
      [client.node, packet(family, CLIENT[family], FAR[family], 1_400)],
      [exit, packet(family, FAR[family], inside, 1_400)],
    ] as const) {
      node.written.length = 0
      world.net.wire.length = 0
      node.sendPacket(bytes)
      const answer = only(node.written.map(written => Buffer.from(written)))
      assert.deepEqual(sourceOf(answer, family), bytes.subarray(DESTINATION_AT[family]).subarray(0, inside.length))
      const icmp = family === 4 ? 20 : 40
      assert.deepEqual([answer[icmp], answer.readUInt16BE(icmp + 6)], [family === 4 ? 3 : 2, MTU])
      assert.equal(node.counters.get('dropTooBig'), family === 4 ? 1 : 2)
      assert.equal(world.net.wire.length, 0)
    }
  }
})

test('a flow that is resized at either end takes longer packets, or shorter ones, from then on', () => {
  const world = build('resized')
  const { client, exit } = nodes(world)
  const route = join(world, client)
  const inside = sourceOf(only(through(world, client.node, exit, packet(4, CLIENT[4], FAR[4]))), 4)
  const outward = packet(4, CLIENT[4], FAR[4], 1_300)
  const inward = packet(4, FAR[4], inside, 1_300)
  assert.equal(outward.length, 1_340)
  const resize = (mtu: number) => {
    const [session] = exit.forwarder.tables.sessions.keys()
    client.node.packets.resize(route.exitLayer.session, 2, mtu)
    exit.packets.resize(session ?? 0, 2, mtu)
  }
  for (const [mtu, passing] of [
    [1_340, 1],
    [1_339, 0],
    [1_340, 1],
  ] as const) {
    resize(mtu)
    assert.equal(through(world, client.node, exit, outward).length, passing)
    assert.equal(through(world, exit, client.node, inward).length, passing)
  }
  resize(1_124)
  const syn = { flags: 0x02, options: Uint8Array.of(2, 4, 0x05, 0xb4) }
  const clamped = only(through(world, client.node, exit, packet(4, CLIENT[4], FAR[4], 0, syn)))
  assert.equal(clamped.readUInt16BE(42), 1_124 - 40)
})

test('the segment size in a SYN is lowered to what fits, in both directions', () => {
  const world = build('clamp')
  const { client, exit } = nodes(world)
  join(world, client)
  const options = { flags: 0x02, options: Uint8Array.of(2, 4, 0x05, 0xb4) }
  const out = only(through(world, client.node, exit, packet(4, CLIENT[4], FAR[4], 0, options)))
  assert.equal(out.readUInt16BE(42), MTU - 40)
  assert.ok(isIntact(out))
  const back = only(through(world, exit, client.node, packet(4, FAR[4], sourceOf(out, 4), 0, options)))
  assert.equal(back.readUInt16BE(42), MTU - 40)
  assert.ok(isIntact(back))
})

test('each of two clients hears what is for it, and nobody does once its flow is gone', () => {
  const world = build('two', { clientCount: 2 })
  const { exit } = nodes(world)
  const inside = world.clients.map(client => {
    join(world, client)
    return sourceOf(only(through(world, client.node, exit, packet(4, CLIENT[4], FAR[4]))), 4)
  })
  const [a, b] = world.clients.map(({ node }) => node)
  const [toA, toB] = inside.map(address => packet(4, FAR[4], address))
  if (a === undefined || b === undefined || toA === undefined || toB === undefined) return assert.fail()
  assert.notDeepEqual(inside[0], inside[1])
  assert.equal(through(world, exit, a, toA).length, 1)
  assert.deepEqual(b.written, [])
  assert.equal(through(world, exit, b, toB).length, 1)
  const [session] = exit.forwarder.tables.sessions.keys()
  exit.packets.remove(exit.forwarder.tables.removeFlow(session ?? 0, 2) as never)
  const before = exit.counters.get('dropNoFlow')
  assert.equal(through(world, exit, b, toB).length + through(world, exit, a, toA).length, 1)
  assert.equal(exit.counters.get('dropNoFlow'), before + 1)
})

test('losing a middle keeps the addresses; losing the exit gives others, and what is for the old ones is dropped', () => {
  const world = build('losses', { exitCount: 2 })
  const { client, exit } = nodes(world)
  const route = join(world, client)
  const inside = sourceOf(only(through(world, client.node, exit, packet(4, CLIENT[4], FAR[4]))), 4)
  world.net.run(3_000)
  world.net.kill(route.hops[1]?.id ?? '')
  world.net.run(5_000)
  assert.equal(client.routes.find('')?.state, 'ready')
  assert.deepEqual(sourceOf(only(through(world, client.node, exit, packet(4, CLIENT[4], FAR[4]))), 4), inside)
  assert.equal(through(world, exit, client.node, packet(4, FAR[4], inside)).length, 1)

  const other = world.exits[1] ?? assert.fail()
  world.net.kill(exit.address.host)
  world.net.run(8_000)
  join(world, client)
  const moved = sourceOf(only(through(world, client.node, other.node, packet(4, CLIENT[4], FAR[4]))), 4)
  assert.notDeepEqual(moved, inside)
  assert.deepEqual(through(world, other.node, client.node, packet(4, FAR[4], inside)), [])
  assert.equal(other.node.counters.get('dropNoFlow'), 1)
})

test('malformed packets are dropped and counted wherever they come from', t => {
  if (skipUnless(t, existsSync(VECTORS), 'the packets of others are not here')) return
  const { packets } = JSON.parse(readFileSync(VECTORS, 'utf8')) as { packets: { hex: string }[] }
  const world = build('malformed')
  const { client, exit } = nodes(world)
  const route = join(world, client)
  const inside = sourceOf(only(through(world, client.node, exit, packet(4, CLIENT[4], FAR[4]))), 4)
  const inside6 = sourceOf(only(through(world, client.node, exit, packet(6, CLIENT[6], FAR[6]))), 6)
  const seen = new IpPacket()
  const [exitSession] = exit.forwarder.tables.sessions.keys()
  let malformed = 0
  for (const { hex } of packets) {
    const bytes = Buffer.from(hex, 'hex')
    const family = (bytes[0] ?? 0) >>> 4 === 6 ? 6 : 4
    const isMalformed = parseIpPacket(seen, bytes, 0, bytes.length) !== undefined
    if (isMalformed) malformed++
    const length = CLIENT[family].length
    const fromClient = Buffer.from(bytes)
    if (bytes.length >= SOURCE_AT[family] + length) fromClient.set(CLIENT[family], SOURCE_AT[family])
    const toInside = Buffer.from(bytes)
    const own = family === 4 ? inside : inside6
    if (bytes.length >= DESTINATION_AT[family] + length) toInside.set(own, DESTINATION_AT[family])
    client.node.sendPacket(fromClient)
    exit.sendPacket(toInside)
    client.node.forwarder.send(route.exitLayer.session, 2, fromClient, 0, Math.min(fromClient.length, 1_800))
    exit.forwarder.send(exitSession ?? 0, 2, toInside, 0, Math.min(toInside.length, 1_800))
    world.net.run(100)
  }
  assert.ok(malformed > 50)
  for (const node of [client.node, exit]) {
    assert.ok(node.counters.get('dropMalformed') >= malformed * 2, `${node.counters.get('dropMalformed')} dropped`)
    for (const bytes of node.written) assert.equal(parseIpPacket(seen, bytes, 0, bytes.length), undefined)
  }
  assert.equal(through(world, client.node, exit, packet(4, CLIENT[4], FAR[4])).length, 1)
})
