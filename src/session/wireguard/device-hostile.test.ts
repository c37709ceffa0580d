// What strangers, watchers and broken networks send.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { inside4, ipPacket, WireGuardNet, type WireGuardNode } from '#lab/wireguard/wireguard-net.ts'

const FROM_A = ipPacket(inside4(1), inside4(2), 100)
const FROM_B = ipPacket(inside4(2), inside4(1), 100)

/** Two devices with keys, and every datagram they exchanged, cookie reply included. */
function conversation(seed: string) {
  const net = new WireGuardNet(seed)
  const a = net.add('a')
  const b = net.add('b', { maxHandshakesPerSecond: 0 })
  net.introduce(a, b, 2)
  net.introduce(b, a, 1)
  a.send(FROM_A)
  net.run(6_000)
  b.send(FROM_B)
  net.run(20_000)
  assert.deepEqual(new Set(net.wire.map(({ bytes }) => bytes[0])), new Set([1, 2, 3, 4]))
  return { net, a, b, recorded: net.wire.map(({ bytes }) => bytes) }
}

/** That packets still pass, both ways. */
function assertAlive(net: WireGuardNet, a: WireGuardNode, b: WireGuardNode): void {
  const before = [a.inbox.length, b.inbox.length] as const
  a.send(FROM_A)
  b.send(FROM_B)
  net.run(100)
  assert.deepEqual([a.inbox.length, b.inbox.length], [before[0] + 1, before[1] + 1])
}

test('every truncation and every lengthening of every message is dropped', () => {
  const { net, a, b, recorded } = conversation('truncated')
  for (const bytes of recorded) {
    for (const node of [a, b]) {
      for (let length = 0; length < bytes.length; length++) {
        assert.notEqual(node.receive(bytes.subarray(0, length), 'x'), undefined)
      }
      assert.notEqual(node.receive(Buffer.concat([bytes, Uint8Array.of(0)]), 'x'), undefined)
    }
  }
  assertAlive(net, a, b)
})

test('everything recorded, sent again to both by a stranger, changes nothing', () => {
  const { net, a, b, recorded } = conversation('replayed')
  const events = [a.events.length, b.events.length]
  const inboxes = [a.inbox.length, b.inbox.length]
  for (let round = 0; round < 3; round++) {
    for (const bytes of recorded) {
      for (const node of [a, b]) assert.notEqual(node.receive(bytes, 'mallory'), undefined)
    }
    net.run(1_000)
  }
  assert.deepEqual([a.events.length, b.events.length], events)
  assert.deepEqual([a.inbox.length, b.inbox.length], inboxes)
  assertAlive(net, a, b)
})

test('a flipped bit anywhere in a fresh message is noticed; the true message is still taken afterwards', () => {
  for (const kind of [1, 2, 4]) {
    const net = new WireGuardNet(`flipped ${kind}`)
    const [a, b] = net.pair()
    let held: Uint8Array | undefined
    net.delays = ({ bytes }) => {
      if (bytes[0] !== kind || held !== undefined) return [1]
      held = bytes
      return []
    }
    a.send(FROM_A)
    net.run(50)
    assert.ok(held)
    const receiver = kind === 2 ? a : b
    for (let bit = 0; bit < held.length * 8; bit += 3) {
      const changed = Uint8Array.from(held)
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      const isMac2 = kind < 4 && bit >= (held.length - 16) * 8
      if (!isMac2) assert.notEqual(receiver.receive(changed, 'mallory'), undefined, `kind ${kind}, bit ${bit}`)
    }
    assert.equal(receiver.receive(held, receiver === a ? 'b' : 'a'), undefined, `kind ${kind}`)
    net.run(1_000)
    assert.equal(b.inbox.length, 1)
  }
})

test('any bytes at all, and any change of true messages, give a reason or nothing, never an end', () => {
  const { net, a, b, recorded } = conversation('fuzzed')
  const change = fc.record({ index: fc.nat(), at: fc.nat(), value: fc.nat(255) })
  const datagram = fc.oneof(
    fc.uint8Array({ maxLength: 256 }),
    fc.uint8Array({ maxLength: 200 }).map(bytes => Uint8Array.of((bytes[0] ?? 0) % 6, 0, 0, 0, ...bytes)),
    fc.array(change, { minLength: 1, maxLength: 4 }).map(changes => {
      const bytes = Uint8Array.from(recorded[(changes[0]?.index ?? 0) % recorded.length] ?? [])
      for (const { at, value } of changes) bytes[at % bytes.length] = value
      return bytes
    }),
  )
  const inboxes = [a.inbox.length, b.inbox.length]
  fc.assert(
    fc.property(datagram, fc.boolean(), (bytes, isA) => {
      ;(isA ? a : b).receive(bytes, 'mallory')
    }),
    { numRuns: 2_000, seed: 3 },
  )
  assert.deepEqual([a.inbox.length, b.inbox.length], inboxes)
  assert.equal([...a.events, ...b.events].filter(({ kind }) => kind === 'endpointMoved').length, 0)
  assertAlive(net, a, b)
})

test('any bytes for the tunnel give a reason or a datagram, never an end', () => {
  const { net, a } = conversation('fuzzed tunnel')
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), fc.nat(200), fc.nat(300), (bytes, offset, length) => {
      a.device.send(bytes, offset, length, net.now)
      const isIp = Buffer.concat([Buffer.alloc(16), Buffer.from(FROM_A).subarray(0, 20), bytes, Buffer.alloc(32)])
      assert.equal(a.device.send(isIp, 16, 20 + bytes.length, net.now), undefined)
    }),
    { numRuns: 500, seed: 4 },
  )
})

test('a flood of handshakes from ever new addresses keeps memory bounded, and an honest peer still gets through', () => {
  const net = new WireGuardNet('flood')
  const a = net.add('a')
  const b = net.add('b', {
    maxHandshakesPerSecond: 20,
    endpointBytes: endpoint => Buffer.from(endpoint.padEnd(18, ' ')),
  })
  net.introduce(a, b, 2)
  net.introduce(b, a, 1)
  a.device.initiate(b.device.publicKey, net.now)
  const [first] = net.wire
  assert.ok(first)
  net.delays = () => []
  const replies = () => net.wire.filter(({ from, bytes }) => from === 'b' && bytes[0] === 3).length
  for (let i = 0; i < 3_000; i++) b.receive(first.bytes, `10.0.${i >> 8}.${i & 255}`)
  assert.ok(replies() > 2_900)
  assert.equal(b.device.drops.cookieDemanded, replies())
  assert.ok(
    net.wire.every(({ from, bytes }) => from !== 'b' || bytes.length <= 92),
    'nothing is amplified',
  )
  net.delays = () => [1]
  a.send(FROM_A)
  for (let i = 0; i < 120; i++) {
    for (let j = 0; j < 25; j++) b.receive(first.bytes, 'mallory')
    net.run(100)
  }
  assert.ok(b.device.drops.cookieDemanded > 5_000)
  assert.equal(b.inbox.length, 1)
})
