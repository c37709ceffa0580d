import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { type Random, seededRandom } from '#crypto/random.ts'
import { inside4, ipPacket, WireGuardNet, type WireGuardNode } from '#lab/wireguard/wireguard-net.ts'
import { decodePskMessage, encodePskMessage } from '#wire/psk-exchange.ts'
import { PSK_RENEW_MS, PskInitiator, PskResponder } from './psk-exchange.ts'
import { PSK_LIFETIME_MS, type PskCommand } from './psk-slot.ts'

const KEYS = { a: new Uint8Array(32).fill(1), b: new Uint8Array(32).fill(2) }
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** Both sides over a channel; what each has in its slot, and what each was told. */
class Channel {
  now = 0
  readonly initiator: PskInitiator
  readonly responder: PskResponder
  readonly slots = { initiator: '', responder: '' }
  readonly told: string[] = []
  readonly sent: Uint8Array[] = []
  readonly uses: string[] = []
  loses: (bytes: Uint8Array) => boolean = () => false

  constructor(seed: string, random: Random = seededRandom(seed)) {
    this.initiator = new PskInitiator({ ownPublicKey: KEYS.a, peerPublicKey: KEYS.b, random }, 0)
    this.responder = new PskResponder({ ownPublicKey: KEYS.b, peerPublicKey: KEYS.a, random }, 0)
    this.pump()
  }

  pump(): void {
    for (let moved = true; moved; ) {
      moved = false
      for (const side of ['initiator', 'responder'] as const) {
        for (const command of this[side].take()) {
          moved = true
          this.#perform(side, command)
        }
      }
    }
  }

  #perform(side: 'initiator' | 'responder', command: PskCommand): void {
    if (command.kind === 'use') {
      this.slots[side] = hex(command.psk.bytes)
      this.uses.push(side)
    } else if (command.kind === 'send') {
      this.sent.push(command.bytes)
      if (this.loses(command.bytes)) return
      this[side === 'initiator' ? 'responder' : 'initiator'].handleMessage(command.bytes, this.now)
    } else this.told.push(`${this.now / 1_000} ${side} ${command.kind}`)
  }

  run(forMs: number): void {
    const end = this.now + forMs
    for (;;) {
      this.now = Math.min(end, Math.max(this.now, Math.min(this.initiator.deadline(), this.responder.deadline())))
      this.initiator.handleDeadline(this.now)
      this.responder.handleDeadline(this.now)
      this.pump()
      if (this.now >= end) return
    }
  }
}

test('both sides get the same key, the responder first; every two minutes another', () => {
  const channel = new Channel('psk')
  assert.equal(channel.slots.initiator, channel.slots.responder)
  assert.deepEqual(channel.uses, ['initiator', 'responder', 'responder', 'initiator'], 'random bytes first')
  const keys = new Set([channel.slots.initiator])
  for (let i = 0; i < 10; i++) {
    channel.run(PSK_RENEW_MS)
    assert.equal(channel.slots.initiator, channel.slots.responder)
    keys.add(channel.slots.initiator)
  }
  assert.equal(keys.size, 11)
  assert.equal(channel.told.filter(line => line.includes('failed')).length, 0)
})

test('before the first agreement each slot holds random bytes of its own, never zeros', () => {
  const channel = new Channel('alone')
  const alone = new PskInitiator({ ownPublicKey: KEYS.a, peerPublicKey: KEYS.b, random: seededRandom('x') }, 0)
  const [first] = alone.take()
  assert.ok(first?.kind === 'use' && !first.handshake)
  assert.notEqual(hex(first.psk.bytes), '00'.repeat(32))
  assert.notEqual(hex(first.psk.bytes), channel.slots.initiator)
})

test('an agreement that fails is told, and the old key is replaced by random bytes at the end of its life', () => {
  const channel = new Channel('failing')
  const agreed = channel.slots.initiator
  channel.told.splice(0)
  channel.loses = () => true
  channel.run(PSK_LIFETIME_MS - 1)
  assert.equal(channel.slots.initiator, agreed)
  assert.equal(channel.told.length, 0)
  channel.run(1)
  assert.deepEqual(channel.told, ['180 initiator failed', '180 responder failed'])
  assert.notEqual(channel.slots.initiator, agreed)
  assert.notEqual(channel.slots.responder, agreed)
  assert.notEqual(channel.slots.initiator, channel.slots.responder)
  channel.run(600_000)
  assert.equal(channel.told.length, 2, 'told once')
  channel.loses = () => false
  channel.run(16_000)
  assert.equal(channel.slots.initiator, channel.slots.responder)
  assert.deepEqual(
    channel.told.slice(2).map(line => line.replace(/^\S+ /, '')),
    ['responder agreed', 'initiator agreed'],
  )
})

test('any pattern of losses ends in agreement once the channel carries again', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 60 }), fc.nat(), (losses, seed) => {
      const channel = new Channel(`lossy ${seed}`)
      channel.loses = () => losses.shift() ?? false
      channel.run(300_000)
      assert.equal(channel.slots.initiator, channel.slots.responder)
    }),
    { numRuns: 40, seed: 11 },
  )
})

test('a responder that was restarted in the middle of an exchange is asked anew', () => {
  const channel = new Channel('restart')
  channel.loses = bytes => bytes[0] === 3
  channel.run(PSK_RENEW_MS + 1_000)
  const random = seededRandom('other')
  const restarted = new PskResponder({ ownPublicKey: KEYS.b, peerPublicKey: KEYS.a, random }, channel.now)
  Object.assign(channel, { responder: restarted })
  channel.loses = () => false
  channel.run(20_000)
  assert.equal(channel.slots.initiator, channel.slots.responder)
})

test('the key depends on who the two are: with another key on one side nothing is agreed', () => {
  const random = seededRandom('who')
  const initiator = new PskInitiator({ ownPublicKey: KEYS.a, peerPublicKey: KEYS.b, random }, 0)
  const other = new PskResponder({ ownPublicKey: KEYS.b, peerPublicKey: KEYS.b, random }, 0)
  const offer = initiator.take().find(command => command.kind === 'send')
  assert.equal(other.handleMessage(offer?.bytes ?? new Uint8Array(0), 0), true)
  const answer = other.take().find(command => command.kind === 'send')
  assert.equal(initiator.handleMessage(answer?.bytes ?? new Uint8Array(0), 0), true)
  const confirm = initiator.take().find(command => command.kind === 'send')
  assert.equal(other.handleMessage(confirm?.bytes ?? new Uint8Array(0), 0), false)
  assert.deepEqual(other.take(), [])
})

test('changed, truncated, repeated and foreign messages agree on nothing and end nothing', () => {
  const channel = new Channel('hostile')
  const messages = [...channel.sent]
  const slots = { ...channel.slots }
  for (const message of messages) {
    for (let length = 0; length < message.length; length += 7) {
      assert.equal(channel.initiator.handleMessage(message.subarray(0, length), 0), false)
      assert.equal(channel.responder.handleMessage(message.subarray(0, length), 0), false)
    }
    channel.initiator.handleMessage(message, 0)
    channel.responder.handleMessage(message, 0)
    for (let i = 0; i < message.length; i += 53) {
      const changed = Uint8Array.from(message)
      changed[i] = (changed[i] ?? 0) ^ 1
      channel.initiator.handleMessage(changed, 0)
      channel.responder.handleMessage(changed, 0)
    }
  }
  channel.initiator.take()
  assert.deepEqual(
    channel.responder.take().filter(({ kind }) => kind !== 'send'),
    [],
  )
  assert.deepEqual(channel.slots, slots)
  channel.run(PSK_RENEW_MS + 20_000)
  assert.equal(channel.slots.initiator, channel.slots.responder)
  assert.notEqual(channel.slots.initiator, slots.initiator)
})

test('messages are decoded as they were encoded; lengths are exact', () => {
  const exchange = new Uint8Array(16).fill(5)
  for (const [kind, length] of [
    ['offer', 1184],
    ['answer', 1088],
    ['confirm', 32],
    ['done', 32],
  ] as const) {
    const bytes = encodePskMessage({ kind, exchange, body: new Uint8Array(length).fill(6) })
    assert.deepEqual(decodePskMessage(bytes), { kind, exchange, body: new Uint8Array(length).fill(6) })
    assert.equal(decodePskMessage(Buffer.concat([bytes, Uint8Array.of(0)])), undefined)
    for (let cut = 0; cut < bytes.length; cut++) assert.equal(decodePskMessage(bytes.subarray(0, cut)), undefined)
  }
  for (const type of [0, 5, 255]) assert.equal(decodePskMessage(new Uint8Array(52).fill(type, 0, 1)), undefined)
})

test('after close random bytes are in the slot, nothing is pending and nothing is answered', () => {
  const channel = new Channel('close')
  const agreed = channel.slots.initiator
  for (const side of ['initiator', 'responder'] as const) {
    channel[side].close()
    channel[side].close()
    channel.pump()
    assert.notEqual(channel.slots[side], agreed)
    assert.equal(channel[side].deadline(), Number.POSITIVE_INFINITY)
    for (const message of [...channel.sent]) assert.equal(channel[side].handleMessage(message, 0), false)
    assert.deepEqual(channel[side].take(), [])
  }
})

test('keys are never printed', () => {
  const machine = new PskInitiator({ ownPublicKey: KEYS.a, peerPublicKey: KEYS.b, random: seededRandom('p') }, 0)
  assert.match(inspect(machine.take(), { depth: 9 }), /\[secret\]/)
})

test('two devices for an hour: every handshake is under a fresh key, and no packet is lost', () => {
  const net = new WireGuardNet('psk hour')
  const [a, b] = net.pair()
  const random = seededRandom('psk hour exchange')
  const ends = { ownPublicKey: a.device.publicKey, peerPublicKey: b.device.publicKey, random }
  const initiator = new PskInitiator(ends, net.now)
  const responder = new PskResponder(
    { ownPublicKey: ends.peerPublicKey, peerPublicKey: ends.ownPublicKey, random },
    net.now,
  )
  let isCut = false
  const told: string[] = []
  const drain = (machine: PskInitiator | PskResponder, node: WireGuardNode, other: PskInitiator | PskResponder) => {
    const publicKey = node === a ? b.device.publicKey : a.device.publicKey
    for (const command of machine.take()) {
      if (command.kind === 'send') {
        if (!isCut) net.at(net.now + 15, () => other.handleMessage(command.bytes, net.now))
      } else if (command.kind === 'use') {
        node.device.setPeer({ publicKey, presharedKey: command.psk.bytes }, net.now)
        if (command.handshake) node.device.initiate(publicKey, net.now)
      } else told.push(command.kind)
    }
  }
  let sent = 0
  const second = (carries: boolean) => {
    for (let i = 0; i < 10; i++) {
      initiator.handleDeadline(net.now)
      responder.handleDeadline(net.now)
      drain(initiator, a, responder)
      drain(responder, b, initiator)
      net.run(100)
    }
    if (!carries) return
    a.send(ipPacket(inside4(1), inside4(2), 100))
    b.send(ipPacket(inside4(2), inside4(1), 100))
    sent++
  }
  for (let i = 0; i < 10; i++) second(false)
  for (let i = 0; i < 3_600; i++) second(true)
  net.run(1_000)
  assert.deepEqual([a.inbox.length, b.inbox.length], [sent, sent])
  assert.ok(a.handshakes >= 29, `${a.handshakes} handshakes`)
  assert.equal(told.filter(kind => kind === 'failed').length, 0)

  isCut = true
  for (let i = 0; i < 60; i++) second(true)
  net.run(50)
  assert.equal(a.inbox.length, sent, 'the session outlives a short trouble of the control channel')
  for (let i = 0; i < 400; i++) second(true)
  assert.equal(told.filter(kind => kind === 'failed').length, 2)
  const before = [a.handshakes, a.inbox.length, b.inbox.length]
  for (let i = 0; i < 300; i++) second(true)
  assert.deepEqual([a.handshakes, a.inbox.length, b.inbox.length], before, 'and without an agreed key nothing passes')
})
