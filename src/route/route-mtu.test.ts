import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addClient, addHop, VirtualNet } from '#lab/virtual-net.ts'
import { BASE_MTU } from './path-mtu.ts'
import type { Route } from './route.ts'

const HEADERS = 28
const LINK = 1_500
/** With headers of IPv6, UDP and three layers. */
const LONGEST = LINK - 48 - 3 * 36
const FLOOR = 1_280 - 48 - 3 * 36

/** A route of three hops over legs that lose, without a word, what is longer than they carry. */
function begin(seed: string, { offered = 1_416 } = {}) {
  const net = new VirtualNet(seed)
  const hops = [1, 2, 3, 4].map(n => addHop(net, `10.${n}.0.1`))
  const exit = addHop(net, '10.9.0.1', { isExit: true })
  let isBusy = true
  const carries = new Map<string, number>()
  let carriesAll = LINK
  net.loses = ({ from, to, bytes }) => {
    const hosts = [from, to].map(text => text.split(':')[0] ?? '')
    return bytes.length + HEADERS > Math.min(carriesAll, ...hosts.map(host => carries.get(host) ?? LINK))
  }
  const failed = new Set<string>()
  const pick = (avoid: readonly { id: string }[]) => {
    for (const { event } of client.events) if (event.kind === 'hopFailed') failed.add(event.hop.id)
    const free = hops.filter(({ id }) => !failed.has(id) && !avoid.some(hop => hop.id === id))
    return free.length < 2 ? undefined : free.slice(0, 2)
  }
  const pickRoute = () => ({ hops: hops.slice(0, 2), exit })
  const client = addClient(
    net,
    '10.100.0.1',
    pickRoute,
    (_exit, avoid) => pick(avoid),
    () => isBusy,
  )
  client.routes.want('', net.now)
  client.node.settle()
  assert.ok(net.run(10_000, () => client.routes.find('')?.state === 'ready'))
  const route: Route = client.routes.find('') ?? assert.fail('no route')
  const search = () => {
    route.searchMtu({ link: LINK, offered }, net.now)
    client.node.settle()
  }
  /** The sizes that were told of in this time. */
  const sizes = (forMs: number) => {
    const seen = client.events.length
    net.run(forMs)
    return client.events.slice(seen).flatMap(({ event }) => (event.kind === 'resized' ? event.mtu : []))
  }
  return {
    net,
    route,
    search,
    sizes,
    /** From now on, everywhere or at one host. */
    carry(bytes: number, host?: string) {
      if (host === undefined) carriesAll = bytes
      else carries.set(host, bytes)
    },
    be(busy: boolean) {
      isBusy = busy
    },
  }
}

test('over three hops the longest packet that the link carries is known after two round trips', () => {
  const { net, search, sizes } = begin('wide')
  search()
  assert.deepEqual(sizes(2 * 2 * 3 * net.delayMs + 50), [LONGEST])
  assert.deepEqual(sizes(300_000), [])
  const longest = Math.max(...net.wire.map(({ bytes }) => bytes.length))
  assert.ok(longest + HEADERS <= LINK, `${longest}`)
})

test('what the exit takes bounds the search', () => {
  const { search, sizes } = begin('bounded', { offered: 1_300 })
  search()
  assert.deepEqual(sizes(60_000), [1_300])
})

test('a narrow leg far from both ends is found, to 16 bytes, and nothing longer is said to pass', () => {
  const { carry, search, sizes } = begin('narrow')
  carry(1_440, '10.2.0.1')
  search()
  const found = sizes(60_000)
  // Between the first and the second hop a packet is in three layers.
  const fits = 1_440 - HEADERS - 2 * 36
  assert.ok(found.every(size => size <= fits))
  assert.ok((found.at(-1) ?? 0) > Math.min(fits, LONGEST) - 16, `${found}`)
})

test('a black hole of 1,296 bytes on the way leaves what passes it, and its end is noticed', () => {
  const { carry, search, sizes } = begin('black hole')
  carry(1_296)
  search()
  assert.deepEqual(sizes(10_000), [FLOOR])
  carry(LINK)
  assert.deepEqual(sizes(61_000), [BASE_MTU, LONGEST])
})

test('a black hole that comes later is noticed when packets stop, and what still passes holds', () => {
  const { carry, be, search, sizes } = begin('later')
  search()
  assert.deepEqual(sizes(2_000), [LONGEST])
  carry(1_440)
  be(false)
  const [first, second, ...rest] = sizes(20_000)
  assert.deepEqual([first, second], [FLOOR, BASE_MTU])
  assert.ok(rest.every(size => size <= 1_440 - HEADERS - 108))
  carry(1_296)
  be(true)
  sizes(1_000)
  be(false)
  assert.deepEqual(sizes(5_000), [FLOOR])
})

test('while nobody looks a black hole is noticed within 35 s of use', () => {
  const { carry, search, sizes } = begin('unseen')
  search()
  sizes(2_000)
  carry(1_420)
  assert.deepEqual(sizes(35_000).slice(0, 2), [FLOOR, BASE_MTU])
})

test('another way begins at the base at once, and is searched', () => {
  const { net, route, search, sizes } = begin('moved')
  search()
  assert.deepEqual(sizes(3_000), [LONGEST])
  assert.ok(route.spareHops)
  net.kill(route.hops[1]?.id ?? '')
  assert.deepEqual(sizes(5_000), [BASE_MTU, LONGEST])
  assert.equal(route.state, 'ready')
})

test('after a way that carried less than the base another begins with as little', () => {
  const { net, route, carry, search, sizes } = begin('moved small')
  carry(1_296, route.hops[0]?.id)
  search()
  assert.deepEqual(sizes(10_000), [FLOOR])
  net.kill(route.hops[0]?.id ?? '')
  assert.deepEqual(sizes(5_000), [BASE_MTU, LONGEST])
})

test('an outage of the way is no black hole', () => {
  const { net, search, sizes } = begin('outage')
  search()
  sizes(2_000)
  const loses = net.loses
  net.loses = () => true
  net.run(1_000)
  net.loses = loses
  assert.deepEqual(
    sizes(60_000).filter(size => size < BASE_MTU),
    [],
  )
})

test('an exit that echoes less than it was sent is not believed', () => {
  const { net, route, search, sizes } = begin('liar')
  search()
  const { handleEcho } = route
  route.handleEcho = (session, token, bytes, now) => handleEcho.call(route, session, token, Math.min(bytes, 8), now)
  assert.deepEqual(sizes(10_000), [FLOOR])
  assert.ok(net.now > 0)
})
