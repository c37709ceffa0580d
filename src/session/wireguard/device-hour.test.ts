// Two devices for an hour of virtual time.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { inside4, inside6, ipPacket, WireGuardNet, type WireGuardNode } from '#lab/wireguard/wireguard-net.ts'

const HOUR_S = 3_600

/** A packet that carries its number, of either family. */
function numbered(from: number, to: number, number: number): Uint8Array {
  const inside = number % 2 === 0 ? inside4 : inside6
  const packet = Buffer.from(ipPacket(inside(from), inside(to), 64 + (number % 1_300)))
  packet.writeUInt32BE(number, 44)
  return packet
}

const numbers = (node: WireGuardNode) => node.inbox.map(({ packet }) => Buffer.from(packet).readUInt32BE(44))

test('while the network loses nothing no packet is lost, across thirty renewals of the keys, whoever began', () => {
  for (const jitters of [false, true]) {
    const net = new WireGuardNet(`hour ${jitters}`)
    const random = seededRandom(`hour ${jitters}`)
    // Reordering: every datagram takes its own time.
    net.delays = () => [jitters ? 5 + (random(1)[0] ?? 0) / 3 : 20]
    const [a, b] = net.pair(net.random(32))
    for (let second = 0; second < HOUR_S; second++) {
      for (let i = 0; i < 4; i++) {
        a.send(numbered(1, 2, second * 4 + i))
        b.send(numbered(2, 1, second * 4 + i))
        net.run(250)
      }
    }
    net.run(1_000)
    for (const node of [a, b]) {
      assert.deepEqual(
        numbers(node).sort((x, y) => x - y),
        Array.from({ length: HOUR_S * 4 }, (_, i) => i),
      )
      assert.ok(node.handshakes >= 29 && node.handshakes <= 62, `${node.handshakes} handshakes`)
      const { replayedCounter, expiredKeys, forgedPacket, unknownIndex, gaveUp } = node.device.drops
      assert.deepEqual([replayedCounter, expiredKeys, forgedPacket, unknownIndex, gaveUp], [0, 0, 0, 0, 0])
    }
  }
})

test('each end begins when it is the one that sends: renewals in both roles lose nothing', () => {
  const net = new WireGuardNet('both roles')
  const [a, b] = net.pair()
  let sent = 0
  for (let phase = 0; phase < 12; phase++) {
    // Keys are let die, so that the other one begins.
    net.run(200_000)
    const [sender, from, to] = phase % 2 === 0 ? ([a, 1, 2] as const) : ([b, 2, 1] as const)
    for (let i = 0; i < 300; i++) {
      sender.send(numbered(from, to, sent++))
      net.run(1_000)
    }
  }
  net.run(1_000)
  assert.equal(a.inbox.length + b.inbox.length, sent)
  for (const node of [a, b]) {
    const roles = node.events.flatMap(event => (event.kind === 'handshakeCompleted' ? [event.role] : []))
    assert.ok(roles.includes('initiator') && roles.includes('responder'))
  }
})

test('over a network that loses, repeats and reorders, the same share arrives, each packet once, and keys are renewed', () => {
  const net = new WireGuardNet('lossy')
  const random = seededRandom('lossy')
  const chance = () => (random(1)[0] ?? 0) / 256
  net.delays = () => {
    if (chance() < 0.2) return []
    const delay = 5 + chance() * 200
    return chance() < 0.1 ? [delay, delay + 30] : [delay]
  }
  const [a, b] = net.pair()
  for (let i = 0; i < HOUR_S * 2; i++) {
    a.send(numbered(1, 2, i))
    b.send(numbered(2, 1, i))
    net.run(500)
  }
  net.run(1_000)
  for (const node of [a, b]) {
    const arrived = numbers(node)
    assert.equal(new Set(arrived).size, arrived.length)
    const share = arrived.length / (HOUR_S * 2)
    assert.ok(share > 0.76 && share < 0.84, `${share}`)
    assert.ok(node.handshakes >= 25)
  }
})

test('both roam all the time, and every packet arrives that was sent after the other heard of it', () => {
  const net = new WireGuardNet('roaming hour')
  const [a, b] = net.pair()
  let sent = 0
  for (let minute = 0; minute < 60; minute++) {
    const [mover, other, from, to] = minute % 2 === 0 ? ([a, b, 1, 2] as const) : ([b, a, 2, 1] as const)
    mover.address = `${mover === a ? 'a' : 'b'}${minute}`
    mover.send(numbered(from, to, sent++))
    net.run(100)
    for (let i = 0; i < 30; i++) {
      other.send(numbered(to, from, sent++))
      mover.send(numbered(from, to, sent++))
      net.run(1_950)
    }
  }
  assert.equal(a.inbox.length + b.inbox.length, sent)
  assert.ok(a.events.filter(({ kind }) => kind === 'endpointMoved').length >= 29)
})

test('an idle pair is silent: after the keys have died nothing is sent and nothing is kept', () => {
  const net = new WireGuardNet('idle')
  const [a, b] = net.pair()
  a.send(numbered(1, 2, 0))
  net.run(HOUR_S * 1_000)
  assert.equal(net.types(), 'a1 b2 a4 b4')
  for (const node of [a, b]) {
    assert.equal(node.device.deadline(), Number.POSITIVE_INFINITY)
    assert.equal(node.events.at(-1)?.kind, 'keysWiped')
  }
})
