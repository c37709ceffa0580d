import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addPeer, VirtualTunnel, VirtualWireGuard } from '#lab/entry/virtual-entry.ts'
import { VirtualNet } from '#lab/virtual-net.ts'
import { BASE_MTU } from './path-mtu.ts'

const HEADERS = 28
const LINK = 1_500
/** A multiple of 16, with headers of IPv4, UDP, one peer's layer and WireGuard. */
const LONGEST = 1_392
const FLOOR = 1_120

/** A tunnel over one peer, with others to spare, through parts that lose, without a word, what is longer than they carry. */
function begin(seed: string, { sendsBack = true, offered = LONGEST } = {}) {
  const net = new VirtualNet(seed)
  const peers = [1, 2, 3, 4].map(n => addPeer(net, `10.${n}.0.1`))
  const server = new VirtualWireGuard(net, { host: '30.1.0.1', port: 51_820 })
  server.sendsBack = sendsBack
  let [toPeers, behind] = [LINK, LINK]
  net.loses = ({ from, to, bytes }) => {
    const isNear = [from, to].some(text => text.startsWith('10.100.'))
    return bytes.length + HEADERS > (isNear ? toPeers : behind)
  }
  const tunnel = new VirtualTunnel(net, '10.100.0.1', server, (avoid, failed) => {
    const hop = peers.find(({ id }) => !failed.has(id) && !avoid.some(other => other.id === id))
    return hop === undefined ? { problem: 'none' } : { hops: [hop] }
  })
  const { routes, events } = tunnel.client
  routes.searchMtu(1, { offered })
  const route = () => routes.find(1) ?? assert.fail('no route')
  assert.ok(net.run(10_000, () => route().isProven))
  return {
    net,
    server,
    route,
    /** The sizes that were told of in this time. */
    sizes(forMs: number) {
      const seen = events.length
      net.run(forMs)
      return events.slice(seen).flatMap(event => (event.kind === 'resized' ? event.mtu : []))
    },
    carry(sizes: { readonly toPeers?: number; readonly behind?: number }) {
      toPeers = sizes.toPeers ?? toPeers
      behind = sizes.behind ?? behind
    },
  }
}

test('through a server that sends back, the longest packet that the link carries is known in a few round trips', () => {
  const { net, sizes } = begin('wide')
  assert.deepEqual(sizes(1_000), [BASE_MTU, LONGEST])
  assert.deepEqual(sizes(300_000), [])
  const longest = Math.max(...net.wire.map(({ bytes }) => bytes.length))
  assert.ok(longest + HEADERS <= LINK, `${longest}`)
})

for (const [where, part, fits] of [
  ['on the way to the peer', 'toPeers', (size: number) => size - HEADERS - 36 - 32],
  ['behind the peer', 'behind', (size: number) => size - HEADERS - 32],
] as const) {
  test(`a black hole of 1,296 bytes ${where} leaves what passes it, and its end is noticed`, () => {
    const { carry, sizes } = begin(`hole ${where}`)
    carry({ [part]: 1_296 })
    assert.deepEqual(sizes(20_000), [], 'what holds from the first packet on')
    assert.ok(FLOOR <= fits(1_296))
    carry({ [part]: LINK })
    assert.equal(sizes(700_000).at(-1), LONGEST)
  })

  test(`a narrow part ${where} is found to 32 bytes`, () => {
    const { carry, sizes } = begin(`narrow ${where}`)
    carry({ [part]: 1_440 })
    const found = sizes(30_000).at(-1) ?? 0
    const most = Math.min(fits(1_440), LONGEST)
    assert.ok(found <= fits(1_440) && found > most - 32, `${found} of ${most}`)
  })
}

test('where the server sends nothing back the peer is probed, and what lies behind it is beyond knowing', () => {
  const { carry, sizes } = begin('mute', { sendsBack: false })
  assert.deepEqual(sizes(10_000), [BASE_MTU, LONGEST])
  carry({ behind: 1_296 })
  assert.deepEqual(sizes(100_000), [])
  carry({ toPeers: 1_296 })
  assert.deepEqual(sizes(40_000), [FLOOR])
})

test('a server that sends nothing back any more is no black hole: the peer is probed instead', () => {
  const { server, sizes } = begin('grown mute')
  assert.deepEqual(sizes(1_000), [BASE_MTU, LONGEST])
  server.sendsBack = false
  const found = sizes(120_000)
  assert.deepEqual(found.slice(0, 1), [FLOOR])
  assert.equal(found.at(-1), LONGEST)
  assert.deepEqual(sizes(500_000), [])
})

test('over another peer the base holds at once, and the search begins anew', () => {
  const { net, route, sizes } = begin('moved')
  assert.deepEqual(sizes(30_000), [BASE_MTU, LONGEST])
  net.kill(route().hops[0]?.id ?? '')
  assert.deepEqual(sizes(10_000), [BASE_MTU, LONGEST])
})

test('what is offered bounds the search', () => {
  const { sizes } = begin('bounded', { offered: 1_312 })
  assert.deepEqual(sizes(60_000), [BASE_MTU, 1_312])
})
