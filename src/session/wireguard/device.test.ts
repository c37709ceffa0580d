import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { sealInPlace } from '#crypto/aead.ts'
import { seededRandom } from '#crypto/random.ts'
import { x25519FromPrivate } from '#crypto/x25519.ts'
import { inside4, inside6, ipPacket, WireGuardNet, type WireGuardNode } from '#lab/wireguard/wireguard-net.ts'
import { writeTransportHeader } from '#wire/transport.ts'
import { decodeWireGuardInitiation, encodeTimestamp } from '#wire/wireguard.ts'
import { addMacs, mac1Key } from '../cookie.ts'
import { makeIdentity, readResponse, writeInitiation } from './handshake.ts'

const FROM_A = ipPacket(inside4(1), inside4(2), 100)
const FROM_B = ipPacket(inside4(2), inside4(1), 100)
const keyOf = (node: WireGuardNode) => node.device.publicKey

/** A pair with keys that both ends have used. */
function connected(seed: string, psk?: Uint8Array): readonly [WireGuardNet, WireGuardNode, WireGuardNode] {
  const net = new WireGuardNet(seed)
  const [a, b] = net.pair(psk)
  a.send(FROM_A)
  net.run(100)
  b.send(FROM_B)
  net.run(100)
  assert.deepEqual([a.inbox.length, b.inbox.length], [1, 1])
  return [net, a, b]
}

/** A peer of `node` made of parts: it has keys with it, and seals what counter it likes. */
function stranger(net: WireGuardNet, node: WireGuardNode, host: number) {
  const privateKey = net.random(32)
  const identity = makeIdentity(privateKey)
  node.device.setPeer({ publicKey: identity.publicKey, allowedIps: [{ address: inside4(host), bits: 32 }] }, net.now)
  const initiation = (unixMs: number) => {
    const options = { identity, remoteStatic: keyOf(node), psk: new Uint8Array(32), localIndex: 7, random: net.random }
    const sent = writeInitiation({ ...options, timestamp: encodeTimestamp(unixMs).bytes })
    assert.ok(sent)
    addMacs(sent.message, mac1Key(keyOf(node)))
    return sent
  }
  const sent = initiation(1)
  assert.equal(node.receive(sent.message, 'stranger'), undefined)
  const answer = net.wire.at(-1)
  const keys = readResponse(sent, answer?.bytes ?? new Uint8Array(0))
  assert.ok(keys)
  const seal = (counter: number, packet: Uint8Array) => {
    const datagram = new Uint8Array(packet.length + 32)
    writeTransportHeader(datagram, 0, keys.remoteIndex, counter)
    datagram.set(packet, 16)
    sealInPlace(keys.sendKey, counter, datagram, 16, packet.length)
    return datagram
  }
  return { initiation, seal, publicKey: identity.publicKey, identity }
}

test('one packet costs one handshake: initiation, response, the packet, and nothing else for ten seconds', () => {
  const net = new WireGuardNet('one handshake')
  const [a, b] = net.pair()
  assert.equal(a.send(FROM_A), undefined)
  net.run(9_000)
  assert.equal(net.types(), 'a1 b2 a4')
  assert.deepEqual(
    b.inbox.map(({ packet }) => Buffer.from(packet)),
    [Buffer.from(FROM_A)],
  )
  assert.deepEqual([a.handshakes, b.handshakes], [1, 1])
})

test('with a peer that is held no handshake is begun; what waited goes once one may be', () => {
  const net = new WireGuardNet('held')
  const [a, b] = net.pair()
  a.device.setPeer({ publicKey: keyOf(b), isHeld: true }, net.now)
  assert.equal(a.send(FROM_A), undefined)
  a.device.keepalive(keyOf(b), net.now)
  net.run(20_000)
  assert.equal(net.types(), '')
  a.device.setPeer({ publicKey: keyOf(b), isHeld: false }, net.now)
  a.device.initiate(keyOf(b), net.now)
  net.run(100)
  assert.equal(net.types(), 'a1 b2 a4')
  assert.equal(b.inbox.length, 1)
})

test('what is sealed is a multiple of 16 long, up to the MTU, and comes out as long as it went in', () => {
  const [net, a, b] = connected('x16')
  const lengths = [20, 21, 31, 32, 33, 1_279, 1_404, 1_405, 1_419, 1_420]
  const from = net.wire.length
  for (const length of lengths) assert.equal(a.send(ipPacket(inside4(1), inside4(2), length)), undefined)
  net.run(100)
  const sealed = net.wire.slice(from, from + lengths.length).map(({ bytes }) => bytes.length - 32)
  assert.deepEqual(sealed, [32, 32, 32, 32, 48, 1_280, 1_408, 1_408, 1_420, 1_420])
  assert.deepEqual(
    b.inbox.slice(1).map(({ packet }) => packet.length),
    lengths,
  )
})

test('an IPv6 packet passes, and padding carries nothing of the buffer', () => {
  const [net, a, b] = connected('padding')
  const packet = ipPacket(inside6(1), inside6(2), 41)
  a.send(packet)
  net.run(100)
  assert.deepEqual(Buffer.from(b.inbox.at(-1)?.packet ?? []), Buffer.from(packet))
  const spy = new WireGuardNet('padding seen')
  const [c, d] = spy.pair()
  c.send(FROM_A)
  spy.run(100)
  // A length that the header does not tell shows the padding to the tunnel.
  const long = ipPacket(inside4(1), inside4(2), 96)
  long.set([0, 96], 2)
  c.send(long.subarray(0, 81))
  spy.run(100)
  const opened = d.inbox.at(-1)?.packet
  assert.deepEqual([...(opened?.subarray(81) ?? [])], new Array<number>(15).fill(0))
})

test('a keepalive is answered by nothing', () => {
  const [net, a, b] = connected('keepalive')
  net.run(30_000)
  const from = net.now
  assert.equal(a.device.keepalive(keyOf(b), net.now), undefined)
  net.run(60_000)
  assert.equal(net.types(from), 'a4')
  assert.equal(net.wire.at(-1)?.bytes.length, 32)
})

test('data that is not answered is answered by one empty packet after ten seconds', () => {
  const [net, a] = connected('passive')
  net.run(30_000)
  const from = net.now
  a.send(FROM_A)
  net.run(9_900)
  assert.equal(net.types(from), 'a4')
  net.run(50_000)
  assert.equal(net.types(from), 'a4 b4')
})

test('a cookie reply moves no endpoint, whoever sends it, and neither does a forged handshake or packet', () => {
  const net = new WireGuardNet('cookie roaming')
  const a = net.add('a')
  const b = net.add('b', { maxHandshakesPerSecond: 0 })
  net.introduce(a, b, 2)
  net.introduce(b, a, 1)
  a.send(FROM_A)
  net.run(5)
  b.receive(net.wire[0]?.bytes ?? new Uint8Array(0), 'a')
  const reply = net.wire.at(-1)?.bytes ?? new Uint8Array(0)
  assert.equal(reply[0], 3)
  assert.equal(a.receive(reply, 'elsewhere'), undefined, 'it is a true one')
  assert.equal(a.device.peers(net.now)[0]?.endpoint, 'b')
  const [, c, d] = connected('forged roaming')
  for (const { bytes } of net.wire) {
    for (const node of [c, d]) assert.notEqual(node.receive(bytes, 'elsewhere'), undefined)
  }
  assert.deepEqual(
    [...c.events, ...d.events].filter(({ kind }) => kind === 'endpointMoved'),
    [],
  )
})

test('authenticated packets move the endpoint, the newest only; a fixed peer stays', () => {
  const [net, a, b] = connected('roaming')
  const endpoint = () => b.device.peers(net.now)[0]?.endpoint
  a.send(FROM_A)
  const old = net.wire.at(-1)?.bytes ?? new Uint8Array(0)
  net.delays = () => [5]
  a.address = 'a2'
  a.send(FROM_A)
  net.run(5)
  assert.equal(endpoint(), 'a2')
  b.receive(old, 'a3')
  assert.equal(endpoint(), 'a2', 'an older packet moves nothing')
  b.send(FROM_B)
  net.run(100)
  assert.equal(net.wire.at(-1)?.to, 'a2')
  b.device.setPeer({ publicKey: keyOf(a), roaming: 'fixed' }, net.now)
  a.address = 'a4'
  a.send(FROM_A)
  a.device.initiate(keyOf(b), net.now)
  net.run(100)
  assert.equal(endpoint(), 'a2')
  assert.equal(a.handshakes, 2, 'the response goes to where the initiation came from all the same')
})

test('packets under older keys move nothing once one under newer keys has come', () => {
  const [net, a, b] = connected('old keys')
  const hold = () => {
    net.delays = () => []
    a.send(FROM_A)
    net.delays = () => [10]
    return net.wire.at(-1)?.bytes ?? new Uint8Array(0)
  }
  const [first, second] = [hold(), hold()]
  net.delays = ({ from, bytes }) => (from === 'a' && bytes[0] === 4 ? [] : [10])
  a.device.initiate(keyOf(b), net.now)
  net.run(100)
  assert.equal(b.receive(first, 'a2'), undefined)
  assert.equal(b.device.peers(net.now)[0]?.endpoint, 'a2', 'new keys that nobody has used yet change nothing')
  net.delays = () => [10]
  a.send(FROM_A)
  net.run(100)
  assert.equal(b.device.peers(net.now)[0]?.endpoint, 'a')
  assert.equal(b.receive(second, 'mallory'), undefined, 'opened, for it is the first of its counter')
  assert.equal(b.device.peers(net.now)[0]?.endpoint, 'a')
})

test('a handshake tried at another endpoint leaves the own one until it is answered from there', () => {
  const [net, a, b] = connected('elsewhere')
  a.device.initiate(keyOf(b), net.now, 'nowhere')
  net.run(1_000)
  assert.equal(net.wire.at(-1)?.to, 'nowhere')
  assert.equal(a.device.peers(net.now)[0]?.endpoint, 'b')
  a.send(FROM_A)
  net.run(100)
  assert.equal(net.wire.at(-1)?.to, 'b')
  b.address = 'b2'
  a.device.initiate(keyOf(b), net.now, 'b2')
  net.run(1_000)
  assert.equal(a.device.peers(net.now)[0]?.endpoint, 'b2')
})

test('counters end before the nonce does: no packet is opened at 2^48, and none is sealed beyond the limit', () => {
  const net = new WireGuardNet('counters')
  const a = net.add('a')
  const { seal } = stranger(net, a, 9)
  const packet = ipPacket(inside4(9), inside4(1), 64)
  assert.equal(a.receive(seal(2 ** 48 - 1, packet), 'stranger'), undefined)
  assert.equal(a.receive(seal(2 ** 48, packet), 'stranger'), 'replayedCounter')
  assert.equal(a.receive(seal(2 ** 53 - 1, packet), 'stranger'), 'replayedCounter')
  assert.equal(a.receive(seal(2 ** 48 - 2, packet), 'stranger'), undefined)

  const limited = new WireGuardNet('limit')
  const [c] = limited.pair(undefined, { maxMessagesPerKey: 160 })
  c.send(FROM_A)
  limited.run(6_000)
  limited.delays = ({ bytes }) => ((bytes[0] ?? 0) < 4 ? [] : [10])
  const from = limited.now
  for (let i = 0; i < 300; i++) c.send(FROM_A)
  const types = limited.types(from).split(' ')
  assert.equal(types.filter(type => type === 'a4').length, 159)
  assert.equal(types.indexOf('a1'), 9, 'new keys are asked for at a sixteenth')
  limited.delays = () => [10]
  const most = Math.max(...limited.wire.map(({ bytes }) => (bytes[0] === 4 ? Buffer.from(bytes).readUInt32LE(8) : 0)))
  assert.equal(most, 159)
  limited.run(6_000)
  assert.equal(c.handshakes, 2, 'and what waited goes under new keys')
})

test('datagrams that are too long, and lengths beyond the buffer, end nothing', () => {
  const [net, a, b] = connected('oversized')
  for (const length of [149, 1_500, 65_507, 65_535, 1_000_000]) {
    for (const type of [1, 2, 3, 4, 9]) {
      const bytes = new Uint8Array(length).fill(type, 0, 1)
      assert.notEqual(b.receive(bytes, 'a'), undefined)
      const small = new Uint8Array(40).fill(type, 0, 1)
      assert.notEqual(b.device.receive(small, 0, length, 'a', net.now), undefined)
      assert.notEqual(a.device.send(small, 16, length, net.now), undefined)
    }
  }
  assert.equal(a.device.send(new Uint8Array(70_000).fill(0x45), 16, 66_000, net.now), 'innerMalformed')
  a.send(FROM_A)
  net.run(100)
  assert.equal(b.inbox.length, 2)
})

test('the longest prefix over all peers decides, for what is sent and for what is believed', () => {
  const net = new WireGuardNet('longest')
  const [a, b, c] = [net.add('a'), net.add('b'), net.add('c')]
  const wide = { address: Uint8Array.of(10, 0, 0, 0), bits: 8 }
  const narrow = { address: Uint8Array.of(10, 1, 0, 0), bits: 16 }
  a.device.setPeer({ publicKey: keyOf(b), endpoint: 'b', allowedIps: [wide] }, net.now)
  a.device.setPeer({ publicKey: keyOf(c), endpoint: 'c', allowedIps: [narrow] }, net.now)
  for (const node of [b, c]) {
    node.device.setPeer({ publicKey: keyOf(a), endpoint: 'a', allowedIps: [{ address: inside4(1), bits: 0 }] }, net.now)
  }
  const at = (second: number) => Uint8Array.of(10, second, 0, 9)
  a.send(ipPacket(inside4(1), at(1), 60))
  a.send(ipPacket(inside4(1), at(2), 60))
  net.run(100)
  assert.deepEqual([b.inbox.length, c.inbox.length], [1, 1])
  b.send(ipPacket(at(2), inside4(1), 60))
  b.send(ipPacket(at(1), inside4(1), 60))
  c.send(ipPacket(at(1), inside4(1), 60))
  net.run(100)
  assert.deepEqual(
    a.inbox.map(({ peer }) => peer),
    [keyOf(b), keyOf(c)].map(key => Buffer.from(key).toString('base64')),
  )
  assert.equal(a.device.drops.sourceNotAllowed, 1)
  a.device.removePeer(keyOf(c))
  b.send(ipPacket(at(1), inside4(1), 60))
  net.run(100)
  assert.equal(a.inbox.length, 3)
})

test('an inner packet that is none, or that tells more than there is, goes nowhere', () => {
  const net = new WireGuardNet('inner')
  const a = net.add('a')
  const { seal } = stranger(net, a, 9)
  const packet = ipPacket(inside4(9), inside4(1), 64)
  const telling = (length: number) => Uint8Array.from(packet).fill(length, 3, 4)
  let counter = 0
  const refused = [Uint8Array.of(0), packet.subarray(0, 19), telling(65), telling(19), new Uint8Array(64).fill(0x50)]
  for (const bytes of refused) assert.equal(a.receive(seal(counter++, bytes), 'stranger'), 'innerMalformed')
  assert.equal(a.receive(seal(counter++, telling(20)), 'stranger'), undefined)
  assert.equal(a.inbox[0]?.packet.length, 20, 'padding is cut off')
})

test('a pre-shared key must be the same; it is never told as text', () => {
  const psk = seededRandom('psk')(32)
  const [, a] = connected('psk', psk)
  const [status] = a.device.peers(0)
  assert.deepEqual(status?.presharedKey?.bytes, Uint8Array.from(psk))
  assert.match(inspect(status), /\[secret\]/)
  const net = new WireGuardNet('other psk')
  const [c, d] = net.pair(psk)
  d.device.setPeer({ publicKey: keyOf(c), presharedKey: new Uint8Array(32) }, net.now)
  assert.equal(d.device.peers(0)[0]?.presharedKey, undefined)
  c.send(FROM_A)
  net.run(20_000)
  assert.deepEqual([c.handshakes, d.handshakes], [0, 0])
  assert.ok(c.device.drops.forgedHandshake > 0)
})

test('an initiation is taken once, one with an older timestamp never, and not two within 20 ms', () => {
  const net = new WireGuardNet('replay')
  const a = net.add('a')
  const { initiation } = stranger(net, a, 9)
  net.run(1_000)
  const second = initiation(60_000)
  assert.equal(a.receive(second.message, 'x'), undefined)
  net.run(1_000)
  assert.equal(a.receive(second.message, 'x'), 'replayedInitiation')
  assert.equal(a.receive(initiation(50_000).message, 'x'), 'replayedInitiation')
  assert.equal(a.receive(initiation(60_000).message, 'x'), 'replayedInitiation')
  assert.equal(a.receive(initiation(61_000).message, 'x'), undefined)
  net.run(19)
  assert.equal(a.receive(initiation(62_000).message, 'x'), 'initiationFlood')
  net.run(1)
  assert.equal(a.receive(initiation(62_000).message, 'x'), undefined)
})

test('a responder goes on under the keys of before until a packet under the new ones has come', () => {
  const [net, a, b] = connected('confirm')
  const keyUsed = () => Buffer.from(net.wire.at(-1)?.bytes ?? []).readUInt32LE(4)
  b.send(FROM_B)
  const before = keyUsed()
  net.delays = ({ bytes, from }) => (from === 'a' && bytes[0] === 4 ? [] : [10])
  a.device.initiate(keyOf(b), net.now)
  net.run(100)
  assert.equal(a.handshakes, 2)
  b.send(FROM_B)
  assert.equal(keyUsed(), before)
  net.delays = () => [10]
  a.send(FROM_A)
  net.run(100)
  assert.equal(b.handshakes, 2)
  b.send(FROM_B)
  assert.notEqual(keyUsed(), before)
  net.run(100)
  assert.equal(a.inbox.length, 4)
})

test('two who begin at the same moment end with keys that work both ways', () => {
  const net = new WireGuardNet('both begin')
  const [a, b] = net.pair()
  a.send(FROM_A)
  b.send(FROM_B)
  net.run(1_000)
  for (let i = 0; i < 20; i++) {
    a.send(FROM_A)
    b.send(FROM_B)
    net.run(50)
  }
  assert.deepEqual([a.inbox.length, b.inbox.length], [21, 21])
})

test('under load a cookie is demanded, and a handshake with it is answered; each address has its rate', () => {
  const net = new WireGuardNet('load')
  const a = net.add('a')
  const b = net.add('b', { maxHandshakesPerSecond: 0 })
  net.introduce(a, b, 2)
  net.introduce(b, a, 1)
  a.send(FROM_A)
  net.run(4_000)
  assert.equal(net.types(), 'a1 b3')
  assert.equal(b.device.isUnderLoad(net.now - 3_500), true)
  net.run(2_000)
  assert.equal(net.types(), 'a1 b3 a1 b2 a4')
  assert.equal(b.inbox.length, 1)
  const withCookie = net.wire.find(({ bytes, atMs }) => bytes[0] === 1 && atMs > 1_004_000)?.bytes ?? new Uint8Array(0)
  net.delays = () => []
  const verdicts = new Map<string | undefined, number>()
  for (let i = 0; i < 12; i++) {
    const verdict = b.receive(withCookie, 'a')
    verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + 1)
  }
  assert.deepEqual(
    [...verdicts],
    [
      ['replayedInitiation', 5],
      ['rateLimited', 7],
    ],
  )
  assert.equal(b.receive(withCookie, 'elsewhere'), 'cookieDemanded', 'a cookie is for one address')
  net.run(121_000)
  assert.equal(b.receive(withCookie, 'a'), 'cookieDemanded', 'and for two minutes')
})

test('load is more than so many handshakes in a second, and is over a second after', () => {
  const net = new WireGuardNet('bound')
  const a = net.add('a', { maxHandshakesPerSecond: 10 })
  const { initiation } = stranger(net, a, 9)
  const { message } = initiation(0)
  for (let i = 0; i < 9; i++) assert.equal(a.receive(message, 'x'), 'replayedInitiation')
  assert.equal(a.receive(message, 'x'), 'cookieDemanded')
  net.run(1_000)
  assert.equal(a.device.isUnderLoad(net.now), false)
  assert.equal(a.receive(message, 'x'), 'replayedInitiation')
})

test('packets that wait for keys are bounded, the oldest goes first, and all of them when nobody answers', () => {
  const net = new WireGuardNet('staged')
  const [a, b] = net.pair()
  net.delays = () => []
  for (let i = 0; i < 200; i++) a.send(ipPacket(inside4(1), inside4(2), 60, i))
  assert.equal(a.device.drops.stagedOverflow, 72)
  net.delays = () => [10]
  net.run(10_000)
  assert.equal(b.inbox.length, 128)
  assert.deepEqual([b.inbox[0]?.packet[30], b.inbox.at(-1)?.packet[30]], [72, 199])

  const alone = new WireGuardNet('gave up')
  const [c] = alone.pair()
  alone.delays = () => []
  c.send(FROM_A)
  alone.run(200_000)
  assert.equal(c.device.drops.gaveUp, 1)
  assert.deepEqual(
    c.events.map(({ kind }) => kind),
    ['gaveUp'],
  )
  const last = alone.wire.at(-1)?.atMs ?? 0
  assert.ok(last - 1_000_000 < 90_000, 'after 90 s nothing is sent')
  c.send(FROM_A)
  assert.equal(alone.wire.at(-1)?.atMs, alone.now, 'a new packet begins anew')
})

test('large packets that wait are bounded in bytes', () => {
  const net = new WireGuardNet('staged bytes')
  const [a, b] = net.pair()
  net.delays = () => []
  for (let i = 0; i < 30; i++) a.send(ipPacket(inside4(1), inside4(2), 60_000))
  assert.equal(a.device.drops.stagedOverflow, 26)
  net.delays = () => [10]
  net.run(10_000)
  assert.equal(b.inbox.length, 4)
})

test('the initiator renews its keys after 120 s when it sends', () => {
  const [net, a, b] = connected('renewal')
  net.run(119_000)
  a.send(FROM_A)
  net.run(100)
  assert.equal(a.handshakes, 1)
  net.run(1_000)
  a.send(FROM_A)
  net.run(100)
  assert.equal(a.handshakes, 2)
  assert.equal(b.handshakes, 2)
})

test('the initiator renews its keys after 165 s when it only receives', () => {
  const [net, a, b] = connected('renewal on receive')
  net.run(164_700)
  b.send(FROM_B)
  net.run(100)
  assert.equal(a.handshakes, 1)
  net.run(200)
  b.send(FROM_B)
  net.run(100)
  assert.equal(a.handshakes, 2)
  assert.equal(b.events.at(-1)?.kind, 'handshakeCompleted')
})

test('keys of 180 s seal and open nothing, and after 540 s they are gone', () => {
  const [net, a, b] = connected('expiry')
  a.send(FROM_A)
  const late = net.wire.at(-1)?.bytes ?? new Uint8Array(0)
  net.run(180_000)
  assert.equal(b.receive(late, 'a'), 'expiredKeys')
  net.delays = () => []
  const from = net.now
  assert.equal(a.send(FROM_A), undefined)
  assert.equal(net.types(from), 'a1', 'it waits for a handshake')
  net.run(600_000)
  assert.ok(a.events.some(({ kind }) => kind === 'keysWiped'))
  assert.equal(b.receive(late, 'a'), 'unknownIndex')
})

test('a persistent keepalive begins at once and goes on, through new keys', () => {
  const net = new WireGuardNet('persistent')
  const [a, b] = net.pair()
  a.device.setPeer({ publicKey: keyOf(b), persistentKeepaliveSeconds: 25 }, net.now)
  net.run(100)
  assert.equal(net.types(), 'a1 b2 a4')
  net.run(600_000)
  const packets = net.wire.filter(({ bytes, from }) => bytes[0] === 4 && from === 'a')
  for (let i = 1; i < packets.length; i++) {
    assert.ok((packets[i]?.atMs ?? 0) - (packets[i - 1]?.atMs ?? 0) <= 25_000)
  }
  assert.equal(a.device.peers(net.now)[0]?.persistentKeepaliveSeconds, 25)
  a.device.setPeer({ publicKey: keyOf(b), persistentKeepaliveSeconds: 0 }, net.now)
  const from = net.now + 1
  net.run(100_000)
  assert.equal(net.types(from), '')
})

test('reasons are told: no peer, no endpoint, no room, no IP packet', () => {
  const net = new WireGuardNet('reasons')
  const [a, b] = net.pair()
  assert.equal(a.send(ipPacket(inside4(1), inside4(3), 60)), 'noPeer')
  const other = x25519FromPrivate(net.random(32)).publicKey
  a.device.setPeer({ publicKey: other, allowedIps: [{ address: inside4(3), bits: 32 }] }, net.now)
  assert.equal(a.send(ipPacket(inside4(1), inside4(3), 60)), 'noEndpoint')
  assert.equal(a.device.initiate(other, net.now), 'noEndpoint')
  assert.equal(a.device.initiate(net.random(32), net.now), 'unknownPeer')
  assert.equal(a.device.send(Buffer.from(FROM_A), 0, FROM_A.length, net.now), 'noRoom')
  assert.equal(a.send(new Uint8Array(60)), 'innerMalformed')
  a.device.setEndpoint(other, 'c')
  assert.equal(a.send(ipPacket(inside4(1), inside4(3), 60)), undefined)
  assert.equal(a.device.drops.noPeer, 1)
  assert.ok(b)
})

test('settings that cannot be are refused, and then nothing has changed', () => {
  const net = new WireGuardNet('settings')
  const a = net.add('a', { maxPeers: 2, maxAllowedIps: 2 })
  const key = () => x25519FromPrivate(net.random(32)).publicKey
  const set = (settings: object) => a.device.setPeer({ publicKey: key(), ...settings }, net.now)
  assert.equal(set({ publicKey: keyOf(a) }), 'ownKey')
  assert.equal(set({ publicKey: new Uint8Array(32) }), 'unusableKey')
  assert.equal(set({ publicKey: new Uint8Array(31) }), 'unusableKey')
  assert.equal(set({ presharedKey: new Uint8Array(31) }), 'malformed')
  assert.equal(set({ allowedIps: [{ address: new Uint8Array(4), bits: 33 }] }), 'malformed')
  for (const seconds of [-1, 65_536, 0.5]) assert.equal(set({ persistentKeepaliveSeconds: seconds }), 'malformed')
  assert.deepEqual(a.device.peers(0), [])
  const prefixes = [1, 2].map(host => ({ address: inside4(host), bits: 32 }))
  assert.equal(set({ allowedIps: prefixes }), undefined)
  assert.equal(set({ allowedIps: [{ address: inside4(3), bits: 32 }] }), 'tooManyAllowedIps')
  assert.equal(set({}), undefined)
  assert.equal(set({}), 'tooManyPeers')
})

test('allowed addresses are added, or replaced when asked, and move between peers', () => {
  const net = new WireGuardNet('allowed')
  const [a, b] = net.pair()
  const c = x25519FromPrivate(net.random(32)).publicKey
  const hosts = () => a.device.peers(0).map(({ allowedIps }) => allowedIps.map(({ address }) => address.at(-1)))
  a.device.setPeer({ publicKey: keyOf(b), allowedIps: [{ address: inside4(5), bits: 32 }] }, net.now)
  assert.deepEqual(hosts(), [[2, 5, 2]])
  a.device.setPeer({ publicKey: c, allowedIps: [{ address: inside4(5), bits: 32 }] }, net.now)
  assert.deepEqual(hosts(), [[2, 2], [5]])
  a.device.setPeer(
    { publicKey: keyOf(b), allowedIps: [{ address: inside4(7), bits: 32 }], replaceAllowedIps: true },
    net.now,
  )
  assert.deepEqual(hosts(), [[7], [5]])
})

test('what `wg show` tells: bytes of both directions as they were on the wire, and the time of the last handshake', () => {
  const [net, a, b] = connected('status')
  const bytes = (from: string) =>
    net.wire.filter(datagram => datagram.from === from).reduce((sum, datagram) => sum + datagram.bytes.length, 0)
  const [ofB] = a.device.peers(net.now)
  assert.deepEqual([ofB?.txBytes, ofB?.rxBytes], [bytes('a'), bytes('b')])
  assert.equal(ofB?.latestHandshakeUnixMs, 1_700_000_000_000 + 1_000_020)
  assert.equal(ofB?.hasKeys, true)
  assert.deepEqual(ofB?.publicKey, keyOf(b))
})

test('another private key ends every session; the own key is never a peer', () => {
  const [net, a, b] = connected('identity')
  const privateKey = net.random(32)
  b.device.setPrivateKey(privateKey)
  assert.equal(b.device.peers(net.now)[0]?.hasKeys, false)
  assert.deepEqual(b.device.publicKey, Uint8Array.from(x25519FromPrivate(privateKey).publicKey))
  a.send(FROM_A)
  net.run(100)
  assert.equal(b.inbox.length, 1)
  net.introduce(a, b, 2)
  a.send(FROM_A)
  b.send(FROM_B)
  net.run(100)
  assert.deepEqual([a.inbox.length, b.inbox.length], [2, 2], 'new sessions begin at once')
  const future = net.random(32)
  a.device.setPeer({ publicKey: x25519FromPrivate(future).publicKey }, net.now)
  const before = a.device.peers(0).length
  a.device.setPrivateKey(future)
  assert.equal(a.device.peers(0).length, before - 1)
})

test('after close nothing is pending, nothing is sent and nothing is taken', () => {
  const [net, a, b] = connected('close')
  a.device.setPeer({ publicKey: keyOf(b), persistentKeepaliveSeconds: 5 }, net.now)
  b.send(FROM_B)
  net.run(5)
  a.device.initiate(keyOf(b), net.now)
  a.device.close()
  a.device.close()
  assert.equal(a.device.deadline(), Number.POSITIVE_INFINITY)
  const from = net.wire.filter(datagram => datagram.from === 'a').length
  net.run(1_000_000)
  assert.equal(a.send(FROM_A), 'closed')
  assert.equal(a.device.setPeer({ publicKey: keyOf(b) }, net.now), 'closed')
  assert.equal(a.device.initiate(keyOf(b), net.now), 'unknownPeer')
  assert.equal(net.wire.filter(datagram => datagram.from === 'a').length, from)
  assert.deepEqual(a.device.peers(net.now), [])
  assert.equal(a.inbox.length, 1)
})

test('no key is shown by printing a device, its events or its peers', () => {
  const psk = seededRandom('printed')(32)
  const [net, a] = connected('printed', psk)
  const printed = inspect([a.device, a.events, a.device.peers(net.now)], { depth: 20, showHidden: true })
  assert.doesNotMatch(printed, /sendKey|receiveKey|privateKey/)
  assert.ok(!printed.includes([...psk.subarray(0, 4)].join(', ')))
})

test('every initiation has an index of its own', () => {
  const net = new WireGuardNet('indices')
  const [a, b] = net.pair()
  net.delays = () => []
  for (let i = 0; i < 50; i++) {
    a.device.initiate(keyOf(b), net.now)
    net.run(20)
  }
  const indices = net.wire.map(({ bytes }) => decodeWireGuardInitiation(bytes)?.senderIndex)
  assert.equal(new Set(indices).size, 50)
})

test('a handshake tried at many endpoints at once is one handshake, and is answered from where one of them is right', () => {
  const net = new WireGuardNet('many')
  const a = net.add('a')
  const b = net.add('b')
  a.device.setPeer({ publicKey: keyOf(b), allowedIps: [{ address: inside4(2), bits: 32 }] }, net.now)
  net.introduce(b, a, 1)
  for (const endpoint of ['x', 'b', 'y', 'b']) a.device.initiate(keyOf(b), net.now, endpoint)
  assert.equal(a.device.peers(net.now)[0]?.endpoint, undefined)
  net.run(100)
  assert.equal(new Set(net.wire.slice(0, 4).map(({ bytes }) => Buffer.from(bytes).toString('hex'))).size, 1)
  assert.equal(a.device.peers(net.now)[0]?.endpoint, 'b')
  assert.equal(net.types(), 'a1 a1 a1 a1 b2 a4')
  assert.equal(b.device.drops.replayedInitiation, 1)
  a.send(FROM_A)
  net.run(100)
  assert.equal(b.inbox.length, 1)
})

test('a peer that is removed by what hears of it is gone', () => {
  const net = new WireGuardNet('removed')
  const a = net.add('a')
  const other = x25519FromPrivate(net.random(32)).publicKey
  a.device.setPeer({ publicKey: other, endpoint: 'nobody', persistentKeepaliveSeconds: 60_000 }, net.now)
  a.events.push = () => {
    a.device.removePeer(other)
    return 0
  }
  net.run(200_000)
  assert.deepEqual(a.device.peers(net.now), [])
  assert.equal(a.device.deadline(), Number.POSITIVE_INFINITY)
  assert.ok((net.wire.at(-1)?.atMs ?? 0) < 1_091_000)
})
