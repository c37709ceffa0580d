import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addClient, addHop, type VirtualClient, VirtualNet } from '#lab/virtual-net.ts'
import { Failures } from './failures.ts'
import type { RouteHop } from './way.ts'

/** Three hops; of those that are not known to have failed, at random, never one for two purposes. */
function begin(seed: string, { guards = 4, middles = 6, exits = 3 } = {}) {
  const net = new VirtualNet(seed)
  const add = (count: number, first: number, isExit: boolean) =>
    Array.from({ length: count }, (_, i) => addHop(net, `10.${first + i}.0.1`, { isExit }))
  const all = { guards: add(guards, 1, false), middles: add(middles, 21, false), exits: add(exits, 41, true) }
  const failures = new Failures()
  let heard = 0
  const learn = () => {
    for (const { event } of client.events.slice(heard)) {
      if (event.kind === 'hopFailed') failures.handleFailure(event.hop.id, event.isDoubtful, net.now)
      if (event.kind === 'spareReady') failures.handleSuccess(event.hops.map(({ id }) => id))
    }
    heard = client.events.length
  }
  const draw = (list: readonly RouteHop[], avoid: readonly RouteHop[]) => {
    learn()
    const failed = failures.avoided(net.now)
    const free = list.filter(({ id }) => !failed.has(id) && !avoid.some(hop => hop.id === id))
    const pool = free.length > 0 ? free : list
    return pool[(net.random(1)[0] ?? 0) % pool.length] as RouteHop
  }
  const pickWay = (_exit: RouteHop, avoid: readonly RouteHop[]) => [draw(all.guards, avoid), draw(all.middles, avoid)]
  const pickRoute = () => ({ hops: pickWay({} as RouteHop, []), exit: draw(all.exits, []) })
  const client: VirtualClient = addClient(net, '10.100.0.1', pickRoute, pickWay)
  client.routes.want('', net.now)
  client.node.settle()
  const route = () => client.routes.find('')
  assert.ok(net.run(10_000, () => route()?.spareHops !== undefined && route()?.state === 'ready'))
  net.run(2_000)
  return {
    net,
    all,
    route,
    client,
    hops: () => route()?.hops.map(({ id }) => id) ?? [],
    spare: () => route()?.spareHops?.map(({ id }) => id) ?? [],
    kinds: () => client.events.map(({ event }) => event.kind),
    failures: () => client.events.flatMap(({ event }) => (event.kind === 'hopFailed' ? [event] : [])),
    /** Nothing reaches or leaves the client. */
    cut: (isCut: boolean) => {
      const isMine = (text: string) => text.startsWith('10.100.')
      net.loses = ({ from, to }) => isCut && (isMine(from) || isMine(to))
    },
    /** How long it takes from now until a route is ready that none of `dead` is in. */
    healed: (dead: readonly string[], limitMs: number) => {
      for (const id of dead) net.kill(id)
      const beganMs = net.now
      const isHealed = () =>
        route()?.state === 'ready' && net.now - beganMs > 50 && !route()?.hops.some(({ id }) => dead.includes(id))
      return net.run(limitMs, isHealed) ? net.now - beganMs : undefined
    },
  }
}

const LOST_TOGETHER: readonly (readonly [string, readonly number[]])[] = [
  ['guard and middle', [0, 1]],
  ['guard and exit', [0, 2]],
  ['middle and exit', [1, 2]],
  ['all three hops', [0, 1, 2]],
]

for (const [name, positions] of LOST_TOGETHER) {
  test(`${name} die together: traffic has a route again within 4 s`, () => {
    for (let seed = 0; seed < 4; seed++) {
      const world = begin(`${name} ${seed}`)
      const dead = positions.map(at => world.hops()[at] ?? '')
      const tookMs = world.healed(dead, 200_000)
      assert.ok(tookMs !== undefined && tookMs < 4_000, `${tookMs} ms`)
    }
  })

  test(`${name} die together, and the spare's guard with them: within 10 s`, () => {
    for (let seed = 0; seed < 4; seed++) {
      const world = begin(`${name} and spare ${seed}`)
      const dead = [...positions.map(at => world.hops()[at] ?? ''), world.spare()[0] ?? '']
      const tookMs = world.healed(dead, 200_000)
      assert.ok(tookMs !== undefined && tookMs < 10_000, `${tookMs} ms`)
    }
  })
}

test('a minute without a network costs neither the exit nor any relay its name', () => {
  for (let seed = 0; seed < 4; seed++) {
    const world = begin(`outage ${seed}`)
    const session = world.route()?.exitLayer.session
    world.cut(true)
    world.net.run(60_000)
    assert.equal(world.kinds().includes('lost'), false)
    assert.ok(world.failures().every(({ isDoubtful }) => isDoubtful))
    world.cut(false)
    const backMs = world.net.now
    assert.ok(world.net.run(10_000, () => world.route()?.state === 'ready' && world.net.now > backMs + 50))
    assert.ok(world.net.now - backMs < 4_000, `${world.net.now - backMs} ms`)
    assert.equal(world.route()?.exitLayer.session, session)
  }
})

test('a network that comes and goes for a minute costs no exit either', () => {
  for (let seed = 0; seed < 4; seed++) {
    const world = begin(`flapping ${seed}`)
    for (let i = 0; i < 20; i++) {
      world.cut(true)
      world.net.run(1_700 + 170 * i)
      world.cut(false)
      world.net.run(60 * (i % 4))
    }
    world.net.run(5_000)
    assert.equal(world.kinds().includes('lost'), false, `${seed}`)
    assert.equal(world.route()?.state, 'ready')
  }
})

test('five minutes without a network cost the exit, and a new route is there 6 s after', () => {
  const world = begin('long outage')
  world.cut(true)
  world.net.run(300_000)
  assert.ok(world.failures().every(({ isDoubtful }) => isDoubtful))
  world.cut(false)
  const backMs = world.net.now
  assert.ok(world.net.run(20_000, () => world.route()?.state === 'ready'))
  assert.ok(world.net.now - backMs < 6_000, `${world.net.now - backMs} ms`)
})

test('a relay that dies while others are heard is not excused', () => {
  const world = begin('not excused')
  const guard = world.hops()[0] ?? ''
  world.healed([guard], 10_000)
  assert.deepEqual(
    world.failures().map(({ hop, isDoubtful }) => [hop.id, isDoubtful]),
    [[guard, false]],
  )
})

test('a route whose relays answer and lead nowhere is given up after 6 s', () => {
  const world = begin('nowhere', { guards: 4, middles: 2, exits: 2 })
  for (const { id } of world.all.middles) world.net.kill(id)
  const beganMs = world.net.now
  assert.ok(world.net.run(20_000, () => world.kinds().includes('lost')))
  assert.ok(world.net.now - beganMs < 8_000, `${world.net.now - beganMs} ms`)
})

test('after a sleep of a minute and a half, whatever the clock did, the route is as it was and nobody is blamed', () => {
  for (const stoodStill of [true, false]) {
    const world = begin(`short sleep ${stoodStill}`)
    const [session, before] = [world.route()?.exitLayer.session, world.kinds().length]
    if (!stoodStill) world.net.now += 90_000
    world.client.routes.handleWake(world.net.now, stoodStill ? 90_000 : 0)
    world.client.node.settle()
    world.net.run(5_000)
    assert.deepEqual(world.kinds().slice(before), [])
    assert.equal(world.route()?.exitLayer.session, session)
    assert.equal(world.route()?.state, 'ready')
  }
})

test('after a sleep that outlived the keys a new route is there within a second, and nobody is blamed', () => {
  for (const stoodStill of [true, false]) {
    const world = begin(`long sleep ${stoodStill}`)
    if (!stoodStill) world.net.now += 500_000
    const wokeMs = world.net.now
    world.client.routes.handleWake(world.net.now, stoodStill ? 500_000 : 0)
    world.client.node.settle()
    const isBack = () => world.kinds().includes('lost') && world.route()?.state === 'ready'
    assert.ok(world.net.run(20_000, isBack), 'back')
    assert.ok(world.net.now - wokeMs < 1_000, `${world.net.now - wokeMs} ms`)
    assert.deepEqual(world.failures(), [])
  }
})
