import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { x25519FromPrivate } from '#crypto/x25519.ts'
import { WireGuardDevice } from '#session/wireguard/device.ts'
import { parseIp } from '#wire/address.ts'
import { echoRequest } from '#wire/icmp-echo.ts'
import { Mesh, type MeshPeer, type Origin } from './mesh.ts'

const [HEADROOM, TAILROOM] = [16, 32]
const PSK = new Uint8Array(32).fill(9)
const ORIGIN: Origin = { local: 1, from: { host: '203.0.113.9', port: 9 } }

interface Side {
  readonly mesh: Mesh
  readonly sent: { readonly peer: number; readonly bytes: Uint8Array }[]
  readonly answered: Origin[]
  readonly inside: Uint8Array[]
  /** What was told of the secret. */
  readonly secrets: boolean[]
  readonly peer: (presharedKey?: Uint8Array) => MeshPeer
}

/** A device with the address fd68::`number`, known to others as that number. */
function device(number: number, hasTunnel = false): Side {
  const { privateKey, publicKey } = x25519FromPrivate(seededRandom(`device ${number}`)(32))
  const address = `fd68::${number}`
  const sent: Side['sent'] = []
  const answered: Origin[] = []
  const inside: Uint8Array[] = []
  const secrets: boolean[] = []
  const mesh = new Mesh({
    ...{ privateKey, addresses: [address], random: seededRandom(`mesh ${number}`), unixOffsetMs: 1_700_000_000_000 },
    toPeer: (peer, buffer, offset, length) =>
      sent.push({ peer, bytes: Uint8Array.from(buffer.subarray(offset, offset + length)) }),
    toOrigin: origin => answered.push(origin),
    onSecret: (_peer, isAgreed) => secrets.push(isAgreed),
    ...(hasTunnel && {
      toTunnel: (buffer: Uint8Array, offset: number, length: number) =>
        inside.push(Uint8Array.from(buffer.subarray(offset, offset + length))),
    }),
  })
  const peer = (presharedKey: Uint8Array = PSK) => ({
    peer: number,
    publicKey,
    presharedKey,
    addresses: [address],
    rules: [],
  })
  return { mesh, sent, answered, inside, secrets, peer }
}

function take(mesh: Mesh, bytes: Uint8Array, origin: Origin, now: number): void {
  mesh.receive(bytes, 0, bytes.length, origin, now)
}

/** Carries what each sends to the other until both are silent. */
function carry(a: Side, b: Side, now: number): void {
  for (let i = 0; i < 20; i++) {
    const [fromA, fromB] = [a.sent.splice(0), b.sent.splice(0)]
    for (const { bytes } of fromA) take(b.mesh, bytes, ORIGIN, now)
    for (const { bytes } of fromB) take(a.mesh, bytes, ORIGIN, now)
  }
}

function pair(a: Side, b: Side, now = 1_000): void {
  a.mesh.setPeers([b.peer()], now)
  b.mesh.setPeers([a.peer()], now)
}

function packetFrom(a: number, b: number): Uint8Array {
  return echoRequest(parseIp(`fd68::${a}`) as Uint8Array, parseIp(`fd68::${b}`) as Uint8Array, 7, 80)
}

function send(side: Side, packet: Uint8Array, now: number): void {
  const buffer = new Uint8Array(HEADROOM + packet.length + TAILROOM)
  buffer.set(packet, HEADROOM)
  side.mesh.send(buffer, HEADROOM, packet.length, now)
}

test('when a path comes up there is a session, and an echo tells the round trip without any interface', () => {
  const [a, b] = [device(1), device(2)]
  pair(a, b)
  a.mesh.handlePath(2, 1_000)
  b.mesh.handlePath(1, 1_000)
  carry(a, b, 1_010)
  assert.deepEqual(
    a.mesh.status(1_010).map(({ peer, isUp }) => [peer, isUp]),
    [[2, true]],
  )
  let rttMs: number | undefined
  a.mesh.ping(2, 1_020, rtt => (rttMs = rtt))
  carry(a, b, 1_030)
  assert.equal(rttMs, 10)
})

for (const first of ['a', 'b'] as const) {
  test(`what ${first} sends before a secret is agreed waits for it, and no handshake comes before it`, () => {
    const [a, b] = [device(1, true), device(2, true)]
    pair(a, b)
    a.mesh.handlePath(2, 1_000)
    b.mesh.handlePath(1, 1_000)
    if (first === 'a') send(a, packetFrom(1, 2), 1_001)
    else send(b, packetFrom(2, 1), 1_001)
    const kinds = [...a.sent, ...b.sent].map(({ bytes }) => bytes[0])
    assert.deepEqual([...new Set(kinds)], [0x48], 'messages of the renewal alone')
    carry(a, b, 1_010)
    assert.deepEqual([a.inside.length, b.inside.length], first === 'a' ? [0, 1] : [1, 0])
  })
}

test('an echo that nobody answers ends after five seconds', () => {
  const [a, b] = [device(1), device(2)]
  pair(a, b)
  let told: unknown = 'not yet'
  a.mesh.ping(2, 1_000, rtt => (told = rtt))
  assert.equal(a.mesh.deadline() <= 6_000, true)
  a.mesh.handleDeadline(6_000)
  assert.equal(told, undefined)
  a.mesh.ping(3, 6_000, rtt => (told = rtt ?? 'nobody'))
  assert.equal(told, 'nobody')
})

test('packets go through; one with the address of another device is dropped', () => {
  const [a, b] = [device(1), device(2, true)]
  pair(a, b)
  a.mesh.handlePath(2, 1_000)
  carry(a, b, 1_000)
  send(a, packetFrom(1, 2), 1_100)
  carry(a, b, 1_100)
  assert.deepEqual(
    b.inside,
    [Buffer.from(packetFrom(1, 2))].map(bytes => Uint8Array.from(bytes)),
  )
  send(a, packetFrom(3, 2), 1_200)
  carry(a, b, 1_200)
  assert.equal(b.inside.length, 1)
})

test('nothing is let in that no rule allows, and it is counted', () => {
  const [a, b] = [device(1), device(2, true)]
  pair(a, b)
  a.mesh.handlePath(2, 1_000)
  carry(a, b, 1_000)
  const syn = Buffer.from(packetFrom(1, 2))
  syn[6] = 6
  syn[40 + 13] = 0x02
  syn.writeUInt16BE(22, 42)
  send(a, syn, 1_100)
  carry(a, b, 1_100)
  assert.deepEqual([b.inside.length, b.mesh.refused], [0, 1])
  b.mesh.setPeers([{ ...a.peer(), rules: [{ protocol: 'tcp', fromPort: 22, toPort: 22 }] }], 1_200)
  send(a, syn, 1_200)
  carry(a, b, 1_200)
  assert.equal(b.inside.length, 1)
})

/** A TCP segment or, of protocol 17, a datagram to port 22. */
function segment(from: string, to: string, { protocol = 6, flags = 0x02 } = {}): Uint8Array {
  const packet = Buffer.from(echoRequest(parseIp(from) as Uint8Array, parseIp(to) as Uint8Array, 7, 80))
  packet[6] = protocol
  packet[40 + 13] = flags
  packet.writeUInt16BE(22, 40)
  packet.writeUInt16BE(22, 42)
  return packet
}

const LAN = { address: 'fd01:2::', prefix: 64 }
const SSH = [{ protocol: 'tcp', fromPort: 22, toPort: 22 }] as const

test('a device reaches networks behind another only as far as that one lets it, and only in its own name', () => {
  const [a, b] = [device(1), device(2, true)]
  a.mesh.setPeers([{ ...b.peer(), networks: [{ address: '::', prefix: 0 }] }], 1_000)
  b.mesh.setPeers([{ ...a.peer(), rules: SSH }], 1_000)
  a.mesh.handlePath(2, 1_000)
  carry(a, b, 1_000)
  const arrives = (from: string, to: string) => {
    b.inside.splice(0)
    send(a, segment(from, to), 1_100)
    carry(a, b, 1_100)
    return b.inside.length === 1
  }
  assert.equal(arrives('fd68::1', 'fd68::2'), true)
  for (const to of ['fd01:2::7', '2001:4860::1', 'fd68::3', 'fd68::1', 'ff02::1', '::1'])
    assert.equal(arrives('fd68::1', to), false, `${to} without leave`)
  b.mesh.setPeers([{ ...a.peer(), rules: SSH, reaches: [LAN] }], 1_200)
  assert.equal(arrives('fd68::1', 'fd01:2::7'), true)
  for (const to of ['fd01:3::7', '2001:4860::1', 'fd68::3'])
    assert.equal(arrives('fd68::1', to), false, `${to} was not offered`)
  // A device that is the way to networks has their addresses too: they open nothing here, and reach nothing behind us.
  b.mesh.setPeers([{ ...a.peer(), rules: SSH, reaches: [LAN], networks: [{ address: 'fd05::', prefix: 16 }] }], 1_300)
  assert.equal(arrives('fd05::9', 'fd01:2::7'), false)
  assert.equal(arrives('fd05::9', 'fd68::2'), false)
  b.mesh.setPeers([{ ...a.peer(), rules: SSH }], 1_400)
  assert.equal(arrives('fd68::1', 'fd01:2::7'), false, 'withdrawn')
})

test('what lies behind a device may answer and begin nothing, whatever the device itself may', () => {
  const [a, b] = [device(1, true), device(2, true)]
  a.mesh.setPeers([{ ...b.peer(), rules: SSH, networks: [LAN] }], 1_000)
  b.mesh.setPeers([{ ...a.peer(), reaches: [LAN] }], 1_000)
  a.mesh.handlePath(2, 1_000)
  carry(a, b, 1_000)
  const arrives = (packet: Uint8Array) => {
    a.inside.splice(0)
    send(b, packet, 1_100)
    carry(a, b, 1_100)
    return a.inside.length === 1
  }
  assert.equal(arrives(segment('fd68::2', 'fd68::1')), true)
  assert.equal(arrives(segment('fd01:2::7', 'fd68::1')), false)
  assert.equal(arrives(segment('fd01:2::7', 'fd68::1', { flags: 0x12 })), true)
  assert.equal(arrives(segment('fd01:3::7', 'fd68::1', { flags: 0x12 })), false, 'not accepted')
  assert.equal(arrives(segment('fd01:2::7', 'fd68::1', { protocol: 17 })), false)
  send(a, segment('fd68::1', 'fd01:2::7', { protocol: 17 }), 1_200)
  assert.equal(arrives(segment('fd01:2::7', 'fd68::1', { protocol: 17 })), true)
})

test('without the secret of their conversation two have no tunnel', () => {
  const [a, b] = [device(1), device(2)]
  a.mesh.setPeers([b.peer(new Uint8Array(32).fill(8))], 1_000)
  b.mesh.setPeers([a.peer()], 1_000)
  a.mesh.handlePath(2, 1_000)
  carry(a, b, 1_000)
  assert.equal(a.mesh.status(1_000)[0]?.isUp, false)
})

test('a device that was removed is out at once: what it sends is dropped, and nothing goes to it', () => {
  const [a, b] = [device(1), device(2, true)]
  pair(a, b)
  a.mesh.handlePath(2, 1_000)
  carry(a, b, 1_000)
  b.mesh.setPeers([], 1_100)
  send(a, packetFrom(1, 2), 1_100)
  carry(a, b, 1_100)
  assert.equal(b.inside.length, 0)
  send(b, packetFrom(2, 1), 1_100)
  b.mesh.handlePath(1, 1_100)
  assert.equal(b.sent.length, 0)
})

test('with new keys of one side a session begins anew', () => {
  const [a, b] = [device(1), device(2)]
  pair(a, b)
  a.mesh.handlePath(2, 1_000)
  carry(a, b, 1_000)
  const renewed = x25519FromPrivate(seededRandom('renewed')(32))
  a.mesh.setPrivateKey(renewed.privateKey)
  b.mesh.setPeers([{ ...a.peer(), publicKey: renewed.publicKey }], 2_000)
  a.mesh.handlePath(2, 2_000)
  carry(a, b, 2_000)
  assert.equal(a.mesh.status(2_000)[0]?.isUp, true)
})

test('a plain WireGuard peer is answered where its authenticated packets come from, and nowhere else', () => {
  const answers: { readonly origin: Origin; readonly bytes: Uint8Array }[] = []
  const server = x25519FromPrivate(seededRandom('device 1')(32))
  const mesh = new Mesh({
    ...{ privateKey: server.privateKey, addresses: ['fd68::1'], random: seededRandom('plain') },
    unixOffsetMs: 1_700_000_000_000,
    toPeer: () => assert.fail('there is no path to it'),
    toOrigin: (origin, buffer, offset, length) =>
      answers.push({ origin, bytes: Uint8Array.from(buffer.subarray(offset, offset + length)) }),
  })
  const sent: Uint8Array[] = []
  const phone = new WireGuardDevice<number>({
    ...{ privateKey: seededRandom('phone')(32), random: seededRandom('of the phone'), unixOffsetMs: 1_700_000_000_000 },
    sameEndpoint: (a, b) => a === b,
    endpointBytes: endpoint => Uint8Array.of(endpoint),
    outlet: {
      toEndpoint: (_peer, _endpoint, buffer, offset, length) =>
        sent.push(Uint8Array.from(buffer.subarray(offset, offset + length))),
      toTunnel: () => {},
    },
  })
  const addresses = ['fd68::2']
  mesh.setPeers(
    [{ peer: 2, publicKey: phone.publicKey, presharedKey: PSK, addresses, rules: [], isPlain: true }],
    1_000,
  )
  phone.setPeer({ publicKey: server.publicKey, presharedKey: PSK, endpoint: 1, allowedIps: [] }, 1_000)
  mesh.ping(2, 1_000, () => undefined)
  assert.equal(answers.length, 0, 'nobody knows where it is')
  phone.initiate(server.publicKey, 1_000)
  for (let i = 0; i < 5; i++) {
    for (const bytes of sent.splice(0)) take(mesh, bytes, ORIGIN, 1_010)
    for (const { bytes } of answers.splice(0)) phone.receive(bytes, 0, bytes.length, 1, 1_010)
  }
  assert.equal(mesh.status(1_010)[0]?.isUp, true)
  const elsewhere: Origin = { local: 1, from: { host: '198.51.100.7', port: 77 } }
  phone.keepalive(server.publicKey, 2_000)
  for (const bytes of sent.splice(0)) take(mesh, bytes, elsewhere, 2_000)
  mesh.ping(2, 2_010, () => undefined)
  assert.deepEqual(
    answers.map(({ origin }) => origin),
    [elsewhere],
  )
})

test('the secret of a tunnel is renewed every two minutes, and without a renewal it stands still and says so', () => {
  const [a, b] = [device(1), device(2)]
  pair(a, b)
  a.mesh.handlePath(2, 1_000)
  carry(a, b, 1_010)
  const isUp = (now: number) => a.mesh.status(now)[0]?.isUp
  assert.equal(isUp(1_010), true)
  assert.deepEqual([a.secrets, b.secrets], [[true], [true]])
  const run = (from: number, to: number, isCut: boolean) => {
    for (let now = from; now < to; now += 500) {
      for (const side of [a, b]) side.mesh.handleDeadline(now)
      if (isCut) for (const side of [a, b]) side.sent.splice(0)
      else carry(a, b, now)
    }
  }
  run(1_500, 130_000, false)
  assert.deepEqual(
    [a.secrets, b.secrets],
    [
      [true, true],
      [true, true],
    ],
    'renewed',
  )
  run(130_000, 320_000, true)
  assert.deepEqual([a.secrets.at(-1), b.secrets.at(-1)], [false, false], 'told, at both ends')
  send(a, packetFrom(1, 2), 320_000)
  run(320_000, 320_500, true)
  assert.equal(isUp(320_500), false)
  a.mesh.handlePath(2, 321_000)
  b.mesh.handlePath(1, 321_000)
  carry(a, b, 321_030)
  assert.equal(isUp(321_030), true, 'agreed again')
  assert.deepEqual([a.secrets.at(-1), b.secrets.at(-1)], [true, true])
})

for (const [gone, stays] of [
  [1, 2],
  [2, 1],
] as const) {
  test(`when device ${gone} has forgotten everything, and the other hears so, both agree again at once`, () => {
    const [a, b] = [device(gone), device(stays)]
    pair(a, b)
    a.mesh.handlePath(stays, 1_000)
    b.mesh.handlePath(gone, 1_000)
    carry(a, b, 1_010)
    assert.equal(b.mesh.status(1_010)[0]?.isUp, true)
    const anew = device(gone)
    anew.mesh.setPeers([b.peer()], 20_000)
    b.mesh.restart(gone, 20_000)
    carry(anew, b, 20_000)
    anew.mesh.handlePath(stays, 20_100)
    b.mesh.handlePath(gone, 20_100)
    carry(anew, b, 20_110)
    assert.equal(anew.mesh.status(20_110)[0]?.isUp, true)
    let rttMs: number | undefined
    anew.mesh.ping(stays, 20_120, rtt => (rttMs = rtt))
    carry(anew, b, 20_130)
    assert.equal(rttMs, 10)
  })
}

test('messages of a renewal that others made, changed or repeated are of no use', () => {
  const [a, b] = [device(1), device(2)]
  pair(a, b)
  const offers = [...a.sent.splice(0), ...b.sent.splice(0)]
  assert.equal(offers.length, 1, 'one of the two begins')
  const bytes = offers[0]?.bytes ?? new Uint8Array(0)
  const [from, to] = offers[0]?.peer === 2 ? [a, b] : [b, a]
  for (let at = 0; at < bytes.length; at += 13) {
    const changed = Uint8Array.from(bytes)
    changed[at] = (changed[at] ?? 0) ^ 0x10
    take(to.mesh, changed, ORIGIN, 1_000 + 100 * at)
    take(to.mesh, bytes.subarray(0, at), ORIGIN, 1_000 + 100 * at)
  }
  take(from.mesh, bytes, ORIGIN, 900_000)
  assert.deepEqual([from.sent.length, to.sent.length], [0, 0])
  for (let i = 0; i < 200; i++) take(to.mesh, bytes, ORIGIN, 950_000)
  assert.ok(to.sent.length > 0 && to.sent.length <= 8, `${to.sent.length} answers to 200 in one second`)
})

test('strangers and garbage cause nothing to be sent to anybody', () => {
  const [a, b, mallory] = [device(1), device(2), device(3)]
  pair(a, b)
  mallory.mesh.setPeers([a.peer()], 1_000)
  mallory.mesh.handlePath(1, 1_000)
  const [initiation] = mallory.sent
  assert.ok(initiation)
  take(a.mesh, initiation.bytes, ORIGIN, 1_000)
  const random = seededRandom('garbage')
  for (let length = 0; length < 300; length++) take(a.mesh, random(length), ORIGIN, 1_000)
  assert.deepEqual([a.sent.length, a.answered.length], [0, 0])
})
