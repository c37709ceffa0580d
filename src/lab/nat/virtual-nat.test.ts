// Every pair of NATs that RFC 4787 describes, on the virtual internet, and what happens to a path afterwards. The promises: no
// pair fails; a pair that can be direct is; nothing is lost when a better path takes over; a broken path is found again.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BLOCKED, canBeDirect, describeNat, NATS, type PairWorld, pairWorld, runPair } from './nat-pairs.ts'
import { type NatOptions, VirtualInternet, VirtualNat, VirtualRelay } from './virtual-nat.ts'
import { VirtualPeer } from './virtual-peer.ts'

const EASY: NatOptions = { mapping: 'independent', filtering: 'independent', ports: 'preserving' }
const PORT_RESTRICTED: NatOptions = { mapping: 'independent', filtering: 'port', ports: 'random' }
const SYMMETRIC: NatOptions = { mapping: 'port', filtering: 'port', ports: 'random' }
const SEQUENTIAL: NatOptions = { mapping: 'port', filtering: 'port', ports: 'sequential' }

test('no pair of NATs fails, each that can be direct is, and both come in time', () => {
  const first: number[] = []
  const direct: number[] = []
  const all = [...NATS, BLOCKED]
  for (const [i, natA] of all.entries()) {
    for (const [j, natB] of all.entries()) {
      if (j < i) continue
      const world = pairWorld(`matrix ${i} ${j}`, natA, natB)
      const isPossible = canBeDirect(natA, natB)
      const result = runPair(world, isPossible ? 15_000 : 2_000, ({ firstByteMs, directMs }) => {
        return firstByteMs !== undefined && isPossible && directMs !== undefined
      })
      const pair = `${describeNat(natA)} and ${describeNat(natB)}`
      assert.notEqual(result.outcome, 'failed', pair)
      if (isPossible) assert.equal(result.outcome, 'direct', pair)
      first.push(result.firstByteMs ?? Number.POSITIVE_INFINITY)
      if (result.directMs !== undefined) direct.push(result.directMs)
    }
  }
  assert.ok(percentile(first, 0.95) < 1_000, `95 % of first bytes within ${percentile(first, 0.95)} ms`)
  assert.ok(percentile(direct, 0.95) < 3_000, `95 % of direct paths within ${percentile(direct, 0.95)} ms`)
})

test('with one datagram in ten lost on the internet no pair fails', () => {
  for (const natA of [EASY, PORT_RESTRICTED, SYMMETRIC, SEQUENTIAL, BLOCKED]) {
    for (const natB of [EASY, PORT_RESTRICTED, SYMMETRIC]) {
      const isPossible = canBeDirect(natA, natB)
      const world = pairWorld('loss', natA, natB, { lossRate: 0.1 })
      const { outcome } = runPair(world, 20_000, ({ outcome }) => outcome === (isPossible ? 'direct' : 'relayed'))
      assert.equal(outcome, isPossible ? 'direct' : 'relayed', `${describeNat(natA)} and ${describeNat(natB)}`)
    }
  }
})

test('a symmetric NAT against a port-restricted one is direct within 3 s in 95 of 100 cases', () => {
  const times: number[] = []
  for (let i = 0; i < 60; i++) {
    const world = pairWorld(`birthday ${i}`, SYMMETRIC, PORT_RESTRICTED)
    const { directMs } = runPair(world, 15_000, ({ directMs }) => directMs !== undefined)
    times.push(directMs ?? Number.POSITIVE_INFINITY)
  }
  assert.ok(percentile(times, 0.95) < 3_000, `95 % within ${percentile(times, 0.95)} ms`)
})

test('carrier NAT in front of home NAT is direct, unless the carrier is symmetric on both sides', () => {
  for (const [carrier, expected] of [
    [PORT_RESTRICTED, 'direct'],
    [{ ...PORT_RESTRICTED, lifetimeMs: 30_000 }, 'direct'],
    [SYMMETRIC, 'relayed'],
  ] as const) {
    for (const home of [EASY, PORT_RESTRICTED]) {
      const world = pairWorld('carrier', home, PORT_RESTRICTED, { carrier })
      assert.equal(runPair(world, 6_000, ({ outcome }) => outcome === 'direct').outcome, expected)
    }
  }
})

test('two hosts of one home meet there; two homes of one carrier meet if it hairpins, and at a relay if not', () => {
  for (const [hairpin, expected] of [
    [false, 'relayed'],
    [true, 'direct'],
  ] as const) {
    const net = new VirtualInternet('hairpin')
    const relays = ['198.51.100.1', '198.51.101.1'].map(host => new VirtualRelay(net, host))
    const carrier = new VirtualNat(net, net.root, '203.0.113.1', { ...PORT_RESTRICTED, hairpin })
    const homes = ['100.64.0.2', '100.64.0.3'].map(wan => new VirtualNat(net, carrier.inside, wan, PORT_RESTRICTED))
    const peer = (home: VirtualNat | undefined, host: string, relay: VirtualRelay | undefined) => {
      assert.ok(home && relay)
      return new VirtualPeer(net, { host, realm: home.inside, relay, stunServers: relays.map(({ stun }) => stun) })
    }
    const meet = (a: VirtualPeer, b: VirtualPeer) => {
      a.connect(b, true)
      b.connect(a, false)
      net.run(5_000)
      return [a.path, b.path]
    }
    const atHome = meet(peer(homes[0], '192.168.1.5', relays[0]), peer(homes[0], '192.168.1.6', relays[1]))
    assert.deepEqual(
      atHome.map(path => path?.to.host),
      ['192.168.1.6', '192.168.1.5'],
    )
    const atCarrier = meet(peer(homes[0], '192.168.1.7', relays[0]), peer(homes[1], '192.168.1.8', relays[1]))
    assert.deepEqual(
      atCarrier.map(path => path?.kind),
      [expected, expected],
    )
  }
})

test('no packet is lost when the direct path takes over from the relay', () => {
  for (let i = 0; i < 20; i++) {
    const world = pairWorld(`upgrade ${i}`, i % 2 === 0 ? PORT_RESTRICTED : SYMMETRIC, PORT_RESTRICTED)
    const { net, a, b } = world
    runPair(world, 15_000, ({ directMs }) => directMs !== undefined)
    net.run(1_000)
    assert.ok(
      a.paths.some(({ path }) => path?.kind === 'relayed'),
      'a relay was used first',
    )
    a.isSending = false
    b.isSending = false
    net.run(1_000)
    assert.equal(a.received.size, b.sent)
    assert.equal(b.received.size, a.sent)
  }
})

test('when NATs forget every mapping, packets flow again within 3 s, and directly soon after', () => {
  for (const [natA, natB] of [
    [PORT_RESTRICTED, PORT_RESTRICTED],
    [SYMMETRIC, PORT_RESTRICTED],
    [EASY, SEQUENTIAL],
  ] as const) {
    for (const who of ['a', 'b', 'both'] as const) {
      const world = pairWorld(`reboot ${who}`, natA, natB)
      settle(world)
      if (who !== 'b') world.natA.reboot()
      if (who !== 'a') world.natB.reboot()
      const names = `${describeNat(natA)} and ${describeNat(natB)}, ${who} rebooted`
      assert.ok(longestGap(world, 12_000) < 3_000, names)
      assert.deepEqual([world.a.path?.kind, world.b.path?.kind], ['direct', 'direct'], names)
    }
  }
})

test('a NAT that comes back with another address, too', () => {
  const world = pairWorld('renumbered', PORT_RESTRICTED, PORT_RESTRICTED)
  settle(world)
  world.natA.reboot('203.0.113.77')
  assert.ok(longestGap(world, 8_000) < 3_000)
  assert.equal(world.b.path?.to.host, '203.0.113.77')
})

test('a machine that moves to another network is found again within 3 s', () => {
  for (const next of [PORT_RESTRICTED, SYMMETRIC]) {
    const world = pairWorld('move', PORT_RESTRICTED, PORT_RESTRICTED)
    settle(world)
    const elsewhere = new VirtualNat(world.net, world.net.root, '203.0.113.99', next)
    world.a.move(elsewhere.inside, '10.0.0.5')
    assert.ok(longestGap(world, 8_000) < 3_000)
    assert.equal(world.b.path?.to.host, '203.0.113.99')
    assert.equal(world.b.path?.kind, 'direct')
  }
})

test('when the direct path dies the relay carries packets within 3 s, and the direct one again when it is back', () => {
  for (const relaying of ['flows', 'meeting', 'turn'] as const) {
    const world = pairWorld('cut', PORT_RESTRICTED, PORT_RESTRICTED, { relaying })
    settle(world)
    world.net.cut = ['203.0.113.1', '192.0.2.1']
    assert.ok(longestGap(world, 20_000) < 3_000, relaying)
    assert.notEqual(world.a.path?.kind, 'direct')
    world.net.cut = undefined
    const lost = (a: VirtualPeer, b: VirtualPeer) => a.sent - b.received.size
    const before = [lost(world.a, world.b), lost(world.b, world.a)]
    world.net.run(130_000)
    assert.deepEqual([world.a.path?.kind, world.b.path?.kind], ['direct', 'direct'], relaying)
    world.a.isSending = false
    world.b.isSending = false
    world.net.run(1_000)
    const after = [lost(world.a, world.b), lost(world.b, world.a)]
    assert.ok(
      after.every((count, i) => count <= (before[i] ?? 0)),
      'and nothing is lost on the way back',
    )
  }
})

test('without a relay and without signalling a rebooted NAT that keeps its ports is survived', () => {
  const preserving: NatOptions = { mapping: 'independent', filtering: 'port', ports: 'preserving' }
  const world = pairWorld('alone', preserving, preserving, { relaying: 'none' })
  settle(world)
  world.a.canSignal = false
  world.b.canSignal = false
  world.natA.reboot()
  assert.ok(longestGap(world, 8_000) < 3_000)
})

test('a meeting or a TURN server carries packets at once and until the direct path is there, and after a reboot', () => {
  const pairs = [
    [PORT_RESTRICTED, PORT_RESTRICTED],
    [SYMMETRIC, SYMMETRIC],
    [SEQUENTIAL, PORT_RESTRICTED],
  ] as const
  const cases = pairs.flatMap(([natA, natB]) => (['meeting', 'turn'] as const).map(by => ({ natA, natB, by })))
  for (const { natA, natB, by } of cases) {
    const world = pairWorld('turn', natA, natB, { relaying: by })
    const names = `${describeNat(natA)} and ${describeNat(natB)} by ${by}`
    const isPossible = canBeDirect(natA, natB)
    const result = runPair(world, 15_000, ({ directMs, firstByteMs }) => {
      return isPossible ? directMs !== undefined : firstByteMs !== undefined
    })
    assert.ok((result.firstByteMs ?? Number.POSITIVE_INFINITY) < 1_000, names)
    assert.equal(result.outcome, isPossible ? 'direct' : 'relayed', names)
    world.net.run(4_000)
    world.natA.reboot()
    world.natB.reboot()
    assert.ok(longestGap(world, 10_000) < 3_000, names)
  }
})

test('an idle path lives behind NATs of 30 s, and keepalives become as rare as the NAT allows', () => {
  for (const [lifetimeMs, keepaliveMs] of [
    [30_000, 20_000],
    [90_000, 50_000],
    [300_000, 110_000],
  ] as const) {
    const nat = { ...PORT_RESTRICTED, lifetimeMs }
    const world = pairWorld('idle', nat, nat, { learnsLifetime: true })
    settle(world)
    world.a.isSending = false
    world.b.isSending = false
    const told = world.a.paths.length
    world.net.run(1_200_000)
    assert.equal(world.a.endpoint.keepaliveMs, keepaliveMs)
    assert.equal(world.a.paths.length, told, 'the path never changed')
    const before = world.b.received.size
    world.a.isSending = true
    world.net.run(500)
    assert.ok(world.b.received.size > before, 'and carries a packet at once')
  }
})

test('sockets that were opened for punching are closed again', () => {
  const world = pairWorld('close', SYMMETRIC, PORT_RESTRICTED)
  settle(world)
  world.net.run(5_000)
  const opened = world.a.commands.filter(({ kind }) => kind === 'openSockets')
  const closed = world.a.commands.filter(({ kind }) => kind === 'closeSocket')
  assert.equal(opened.length, 1)
  assert.ok(closed.length >= 254, `${closed.length} of 256 closed`)
})

function settle(world: PairWorld): void {
  runPair(world, 15_000, ({ directMs }) => directMs !== undefined)
  world.net.run(3_000)
}

/** The longest time without a packet on either side, from now on. */
function longestGap({ net, a, b }: PairWorld, forMs: number): number {
  const from = net.now
  net.run(forMs)
  let longest = 0
  for (const { received } of [a, b]) {
    let last = from
    for (const atMs of [...received.values(), net.now].toSorted((x, y) => x - y)) {
      if (atMs < from) continue
      longest = Math.max(longest, atMs - last)
      last = atMs
    }
  }
  return longest
}

function percentile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? Number.POSITIVE_INFINITY
}
