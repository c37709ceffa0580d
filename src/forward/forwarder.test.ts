import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemRandom } from '#crypto/random.ts'
import type { Address } from '#wire/address.ts'
import { HOP_HANDSHAKE } from '#wire/packet-type.ts'
import { encodeStun, STUN_ATTRIBUTE, STUN_METHOD } from '#wire/stun.ts'
import type { Report } from './commands.ts'
import { type Counter, Counters } from './counters.ts'
import { Forwarder, type Outlet } from './forwarder.ts'
import type { HopFlow } from './tables.ts'

interface Sent {
  readonly to: string
  readonly bytes: Uint8Array
}

/** A forwarder whose every exit is recorded. */
function station() {
  const sent: Sent[] = []
  const reports: Report[] = []
  const counters = new Counters()
  const copy = (buffer: Uint8Array, offset: number, length: number) =>
    Uint8Array.from(buffer.subarray(offset, offset + length))
  const outlet: Outlet = {
    toSocket: (to, buffer, offset, length) =>
      sent.push({ to: `socket ${to.host}:${to.port}`, bytes: copy(buffer, offset, length) }),
    toFlow: (flow, buffer, offset, length) =>
      sent.push({ to: `flow ${flow.flow}`, bytes: copy(buffer, offset, length) }),
    toTap: (session, buffer, offset, length) =>
      sent.push({ to: `tap ${session.session}`, bytes: copy(buffer, offset, length) }),
    toAssociation: (flow, buffer, offset, length) =>
      sent.push({ to: `association ${flow.association}`, bytes: copy(buffer, offset, length) }),
    toEntry: (flow, buffer, offset, length) =>
      sent.push({ to: `entry ${flow.entry}`, bytes: copy(buffer, offset, length) }),
    toPort: (flow, buffer, offset, length) =>
      sent.push({ to: `port ${flow.flow}`, bytes: copy(buffer, offset, length) }),
    report: report => reports.push(report),
    nowMs: () => 0,
  }
  const forwarder = new Forwarder(outlet, counters)
  const dropped = () =>
    Object.entries(counters.snapshot()).filter(([name, count]) => name.startsWith('drop') && count > 0)
  return { forwarder, sent, reports, counters, dropped, tables: forwarder.tables }
}

const HERE: Address = { host: '192.0.2.1', port: 1000 }
const THERE: Address = { host: '192.0.2.2', port: 2000 }

/** A client and a hop that share session 1. */
function pair() {
  const [a, b] = [systemRandom(32), systemRandom(32)]
  const client = station()
  const hop = station()
  client.tables.installSession(
    1,
    'initiator',
    { kind: 'socket', address: THERE },
    { localIndex: 5, remoteIndex: 6, send: Uint8Array.from(a), receive: Uint8Array.from(b) },
  )
  hop.tables.installSession(
    1,
    'responder',
    { kind: 'socket', address: HERE },
    { localIndex: 6, remoteIndex: 5, send: Uint8Array.from(b), receive: Uint8Array.from(a) },
  )
  const deliver = (from: Address = HERE) => {
    for (const { bytes } of client.sent.splice(0)) hop.forwarder.receive(bytes, 0, bytes.length, from)
  }
  return { client, hop, deliver }
}

function only(name: Counter, count = 1): [string, number][] {
  return [[name, count]]
}

test('a control message arrives as it was sent, and the first packet confirms the keys', () => {
  const { client, hop, deliver } = pair()
  client.forwarder.sendControl(1, Buffer.from('hello'))
  deliver()
  assert.deepEqual(
    hop.reports.map(({ kind }) => kind),
    ['confirmed', 'control'],
  )
  assert.equal(Buffer.from((hop.reports[1] as { bytes: Uint8Array }).bytes).toString(), 'hello')
  assert.deepEqual(hop.dropped(), [])
})

test('a flipped bit anywhere drops the packet: no hop can mark one', () => {
  const { client, hop } = pair()
  client.forwarder.sendControl(1, Buffer.from('hello'))
  const packet = client.sent[0]?.bytes ?? new Uint8Array(0)
  for (let bit = 0; bit < packet.length * 8; bit++) {
    const flipped = Uint8Array.from(packet)
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    hop.forwarder.receive(flipped, 0, flipped.length, HERE)
  }
  assert.deepEqual(hop.reports, [])
  const total = hop.dropped().reduce((sum, [, count]) => sum + count, 0)
  assert.equal(total, packet.length * 8, 'every one is counted')
  hop.forwarder.receive(packet, 0, packet.length, HERE)
  assert.equal(hop.reports.length, 2, 'the true packet still arrives')
})

test('STUN is reported with where it came from, and a flood of it is not', () => {
  const { forwarder, reports, dropped } = station()
  const attributes = [{ type: STUN_ATTRIBUTE.software, value: new Uint8Array(8) }]
  const stun = () =>
    encodeStun({ class: 'request', method: STUN_METHOD.binding, transaction: systemRandom(12), attributes })
  const bytes = stun()
  forwarder.receive(bytes, 0, bytes.length, HERE)
  assert.deepEqual(reports, [{ kind: 'stun', bytes, from: HERE }])
  for (let i = 0; i < 20_000; i++) forwarder.receive(stun(), 0, bytes.length, HERE)
  assert.ok(reports.length * bytes.length <= 65_536)
  assert.deepEqual(dropped(), [['dropRateLimit', 20_001 - reports.length]])
})

test('every truncation is counted and dropped', () => {
  const { client, hop } = pair()
  client.forwarder.sendControl(1, Buffer.from('hello'))
  const packet = client.sent[0]?.bytes ?? new Uint8Array(0)
  for (let length = 0; length < packet.length; length++) hop.forwarder.receive(packet.slice(0, length), 0, length, HERE)
  assert.equal(
    hop.dropped().reduce((sum, [, count]) => sum + count, 0),
    packet.length,
  )
  assert.deepEqual(hop.reports, [])
})

test('a packet is opened once', () => {
  const { client, hop } = pair()
  client.forwarder.sendControl(1, Buffer.from('hello'))
  const packet = client.sent[0]?.bytes ?? new Uint8Array(0)
  for (let i = 0; i < 3; i++) hop.forwarder.receive(Uint8Array.from(packet), 0, packet.length, HERE)
  assert.deepEqual(hop.dropped(), only('dropReplayed', 2))
})

test('a session moves to the address of the newest packet, and an old packet does not move it back', () => {
  const { client, hop } = pair()
  const via = () => hop.tables.sessions.get(1)?.via
  client.forwarder.sendControl(1, Buffer.from('one'))
  client.forwarder.sendControl(1, Buffer.from('two'))
  const [one, two] = client.sent.map(({ bytes }) => bytes) as [Uint8Array, Uint8Array]
  const elsewhere: Address = { host: '198.51.100.9', port: 9 }
  hop.forwarder.receive(two, 0, two.length, elsewhere)
  assert.deepEqual(via(), { kind: 'socket', address: elsewhere })
  hop.forwarder.receive(one, 0, one.length, HERE)
  assert.deepEqual(via(), { kind: 'socket', address: elsewhere })
})

test('a padded probe has an echo of its own length', () => {
  const { client, hop } = pair()
  const token = Buffer.from('12345678')
  for (const bytes of [0, 8, 9, 1_344, 1_800]) {
    client.forwarder.sendProbe(1, { claims: false, token, bytes })
    const probe = client.sent.at(-1)?.bytes ?? new Uint8Array(0)
    hop.forwarder.receive(probe, 0, probe.length, HERE)
    const echo = hop.sent.at(-1)?.bytes ?? new Uint8Array(0)
    assert.deepEqual([probe.length, echo.length], [Math.max(bytes, 8) + 36, probe.length])
    client.forwarder.receive(echo, 0, echo.length, HERE)
    const report = client.reports.at(-1)
    assert.deepEqual(report?.kind === 'echo' && [report.bytes, Buffer.from(report.token)], [Math.max(bytes, 8), token])
  }
})

test('a probe is echoed to where it came from and moves nothing; a claim moves the session', () => {
  const { client, hop, deliver } = pair()
  const elsewhere: Address = { host: '198.51.100.9', port: 9 }
  client.forwarder.sendProbe(1, { claims: false, token: Buffer.from('12345678') })
  deliver(elsewhere)
  assert.equal(hop.sent.at(-1)?.to, 'socket 198.51.100.9:9')
  assert.deepEqual(hop.tables.sessions.get(1)?.via, { kind: 'socket', address: HERE })
  client.forwarder.sendProbe(1, { claims: true, token: Buffer.from('12345678') })
  deliver(elsewhere)
  assert.deepEqual(hop.tables.sessions.get(1)?.via, { kind: 'socket', address: elsewhere })
  const echo = hop.sent.at(-1)?.bytes ?? new Uint8Array(0)
  client.forwarder.receive(echo, 0, echo.length, THERE)
  assert.deepEqual(
    client.reports.map(({ kind }) => kind),
    ['echo'],
  )
})

test('a hop’s flow carries nothing but initiations until a hop has answered one of them', () => {
  const { client, hop, deliver } = pair()
  const flow = hop.tables.installFlow(1, 7, THERE, 'hop', 0) as HopFlow
  client.tables.sessions.get(1)?.flows.set(7, { kind: 'nesting', via: { kind: 'flow', session: 1, flow: 7 } })
  const send = (bytes: Uint8Array) => {
    client.forwarder.send(1, 7, bytes, 0, bytes.length)
    deliver()
  }
  const initiation = new Uint8Array(HOP_HANDSHAKE.initiationBytes)
  initiation.set([5, 0, 0, 0, 0xaa, 0xbb, 0xcc, 0xdd])
  const answer = new Uint8Array(HOP_HANDSHAKE.responseBytes)
  answer.set([6, 0, 0, 0, 1, 2, 3, 4, 0xaa, 0xbb, 0xcc, 0xdd])
  const transport = new Uint8Array(64)
  transport[0] = 4

  send(Buffer.from('GET / HTTP/1.1\r\n\r\n'))
  send(transport)
  assert.deepEqual(hop.dropped(), only('dropUnproven', 2))
  hop.forwarder.receiveFromFlow(flow, Uint8Array.from(answer), 0, answer.length)
  assert.equal(hop.counters.get('dropFlowType'), 1, 'nothing was asked yet')
  for (let i = 0; i < 5; i++) send(initiation)
  assert.equal(hop.sent.filter(({ to }) => to === 'flow 7').length, 3, 'at most three datagrams before proof')
  const wrong = Uint8Array.from(answer)
  wrong[8] = 0
  hop.forwarder.receiveFromFlow(flow, wrong, 0, wrong.length)
  assert.equal(flow.proof?.isOpen, false, 'the index is wrong')
  hop.forwarder.receiveFromFlow(flow, Uint8Array.from(answer), 0, answer.length)
  assert.equal(flow.proof?.isOpen, true)
  send(transport)
  send(Buffer.from('still not'))
  assert.equal(hop.sent.filter(({ to }) => to === 'flow 7').length, 4)
  hop.forwarder.receiveFromFlow(flow, Buffer.from('nor inward'), 0, 10)
  assert.equal(hop.counters.get('dropFlowType'), 3)
})

test('what goes to and from a WireGuard server is counted by direction, and past the rate it is dropped both ways', () => {
  const { client, hop, deliver } = pair()
  const flow = hop.tables.installFlow(1, 7, THERE, 'wireguard', 0) as HopFlow
  const other = hop.tables.installFlow(1, 8, THERE, undefined, 0) as HopFlow
  const send = (bytes: Uint8Array, number = 7) => {
    client.forwarder.send(1, number, bytes, 0, bytes.length)
    deliver()
  }
  const receive = (bytes: Uint8Array, from = flow) => hop.forwarder.receiveFromFlow(from, bytes, 0, bytes.length)
  const message = (length: number, ...first: number[]) => Buffer.concat([Buffer.from(first)], length)
  hop.forwarder.apply({ kind: 'limitLent', bytesPerSecond: 1_000, hops: false })

  send(message(148, 1, 0, 0, 0, 9, 9, 9, 9))
  receive(message(92, 2, 0, 0, 0, 1, 1, 1, 1, 9, 9, 9, 9))
  assert.deepEqual([hop.counters.get('lentBytesOut'), hop.counters.get('lentBytesIn')], [148, 92])
  for (let i = 0; i < 100; i++) {
    send(message(1_452, 4, 0, 0, 0))
    receive(message(1_452, 4, 0, 0, 0))
  }
  const carried = hop.counters.get('lentBytesOut') + hop.counters.get('lentBytesIn')
  assert.ok(carried > 60_000 && carried <= 65_536, `${carried} bytes: a burst, while the clock stands`)
  const sent = hop.sent.filter(({ to }) => to === 'flow 7').reduce((bytes, one) => bytes + one.bytes.length, 0)
  assert.equal(sent, hop.counters.get('lentBytesOut'), 'what is counted as sent was sent')
  assert.equal(hop.counters.get('dropRateLimit'), 200 - Math.floor((65_536 - 240) / 1_452))
  send(message(1_452, 4, 0, 0, 0), 8)
  receive(message(1_452), other)
  assert.equal(hop.sent.filter(({ to }) => to === 'flow 8').length, 1, 'other flows are not what is lent')
})

test('where flows to other hops are lent too, the rate holds for all of them together', () => {
  const { client, hop, deliver } = pair()
  hop.tables.installFlow(1, 7, THERE, 'hop', 0)
  hop.forwarder.apply({ kind: 'limitLent', bytesPerSecond: 1_000, hops: true })
  const initiation = new Uint8Array(HOP_HANDSHAKE.initiationBytes)
  initiation[0] = HOP_HANDSHAKE.initiation
  for (let i = 0; i < 3; i++) {
    client.forwarder.send(1, 7, initiation, 0, initiation.length)
    deliver()
  }
  assert.equal(hop.counters.get('lentBytesOut'), 3 * initiation.length)
})

test('frames of kinds and flows that nobody installed are dropped under their reasons', () => {
  const { client, hop, deliver } = pair()
  client.forwarder.send(1, 99, Buffer.from('x'), 0, 1)
  const session = client.tables.sessions.get(1)
  assert.ok(session)
  client.forwarder.receiveFromTap(session, Buffer.from('x'), 0, 1, 1_172)
  deliver()
  assert.deepEqual(hop.dropped(), only('dropUnknownFlow', 2))
})

test('where a queue stands one long datagram of a flow is dropped, and what is short or for the node itself is not', () => {
  const { client, hop, deliver } = pair()
  hop.tables.installFlow(1, 9, THERE, undefined, 0)
  const send = (length: number) => client.forwarder.send(1, 9, new Uint8Array(length), 0, length)
  hop.forwarder.shedsNext = true
  client.forwarder.sendControl(1, new Uint8Array(1_000))
  send(100)
  send(1_000)
  send(1_001)
  deliver()
  assert.deepEqual(
    hop.sent.map(({ bytes }) => bytes.length),
    [100, 1_001],
  )
  assert.ok(hop.reports.some(({ kind }) => kind === 'control'))
  assert.deepEqual(hop.dropped(), only('dropStandingQueue'))
  const flow = hop.tables.sessions.get(1)?.flows.get(9) as HopFlow
  hop.forwarder.shedsNext = true
  for (const length of [100, 1_000, 1_001]) hop.forwarder.receiveFromFlow(flow, new Uint8Array(length), 0, length)
  assert.equal(hop.sent.length, 4)
  hop.forwarder.shedsNext = true
  const session = hop.tables.sessions.get(1) ?? assert.fail()
  for (let i = 0; i < 2; i++) hop.forwarder.receiveFromTap(session, new Uint8Array(1_000), 0, 1_000, 1_200)
  assert.equal(hop.sent.length, 5)
  assert.deepEqual(hop.dropped(), only('dropStandingQueue', 3))
})

test('a stream datagram above the limit is dropped at home, where the stream library notices', () => {
  const { client } = pair()
  const session = client.tables.sessions.get(1)
  assert.ok(session)
  client.forwarder.receiveFromTap(session, new Uint8Array(1_200), 0, 1_200, 1_172)
  assert.deepEqual(client.dropped(), only('dropTooLong'))
  assert.equal(client.sent.length, 0)
})

test('handshake packets are reported within a bound until the control plane has dealt with them', () => {
  const { hop } = pair()
  const initiation = new Uint8Array(HOP_HANDSHAKE.initiationBytes)
  initiation[0] = HOP_HANDSHAKE.initiation
  for (let i = 0; i < 1_000; i++) hop.forwarder.receive(Uint8Array.from(initiation), 0, initiation.length, HERE)
  assert.equal(hop.reports.length, 256)
  assert.deepEqual(hop.dropped(), only('dropHandshakeQueue', 744))
  hop.forwarder.grantHandshakes(10)
  for (let i = 0; i < 20; i++) hop.forwarder.receive(Uint8Array.from(initiation), 0, initiation.length, HERE)
  assert.equal(hop.reports.length, 266)
})

test('a responder uses new keys once the other end has, and three pairs are kept at most', () => {
  const { client, hop, deliver } = pair()
  for (let i = 0; i < 6; i++) {
    const [a, b] = [systemRandom(32), systemRandom(32)]
    const [local, remote] = [100 + i, 200 + i]
    hop.tables.installKeys(1, {
      localIndex: remote,
      remoteIndex: local,
      send: Uint8Array.from(b),
      receive: Uint8Array.from(a),
    })
    assert.notEqual(hop.tables.sessions.get(1)?.current.localIndex, remote, 'not before they were used')
    client.tables.installKeys(1, {
      localIndex: local,
      remoteIndex: remote,
      send: Uint8Array.from(a),
      receive: Uint8Array.from(b),
    })
    client.forwarder.sendControl(1, Buffer.from('x'))
    deliver()
    assert.equal(hop.tables.sessions.get(1)?.current.localIndex, remote)
  }
  assert.equal(hop.tables.sessions.get(1)?.keypairs.length, 3)
  assert.equal(hop.tables.keypairs.size, 3)
})

test('removing a session removes its keys and wipes them', () => {
  const { hop } = pair()
  const keys = hop.tables.sessions.get(1)?.current
  hop.tables.removeSession(1)
  assert.equal(hop.tables.keypairs.size, 0)
  assert.ok(keys?.send.every(byte => byte === 0) && keys.receive.every(byte => byte === 0))
})

test('a session that is nested in itself does not loop', () => {
  const { client } = pair()
  const session = client.tables.sessions.get(1)
  assert.ok(session)
  session.via = { kind: 'flow', session: 1, flow: 1 }
  client.forwarder.sendControl(1, Buffer.from('x'))
  assert.deepEqual(client.dropped(), only('dropTooDeep'))
})

test('both ends of a session count the same bytes, and a hop drops what is not paid for', () => {
  const { client, hop, deliver } = pair()
  hop.tables.installFlow(1, 3, THERE, undefined, 0)
  hop.forwarder.apply({ kind: 'limitSession', session: 1, bytes: 250 })
  const datagram = new Uint8Array(100).fill(7)
  for (let i = 0; i < 3; i++) client.forwarder.send(1, 3, datagram, 0, datagram.length)
  const [ours, theirs] = [client.tables.sessions.get(1), hop.tables.sessions.get(1)]
  deliver()
  assert.equal(ours?.sent, 300)
  assert.equal(theirs?.received, 300, 'the third began below the limit')
  client.forwarder.send(1, 3, datagram, 0, datagram.length)
  deliver()
  assert.deepEqual(hop.dropped(), only('dropUnpaid'))
  assert.equal(theirs?.received, 300, 'what is dropped does not count')
  const flow = theirs?.flows.get(3) as HopFlow
  hop.forwarder.receiveFromFlow(flow, datagram, 0, datagram.length)
  assert.deepEqual(hop.dropped(), only('dropUnpaid', 2))
  hop.forwarder.apply({ kind: 'limitSession', session: 1, bytes: 1_000 })
  hop.forwarder.receiveFromFlow(flow, datagram, 0, datagram.length)
  assert.equal(theirs?.sent, 100)
})

test('a client that has used up its limit still gets requests through, payments among them, and then no more', () => {
  const { client, hop, deliver } = pair()
  hop.forwarder.apply({ kind: 'limitSession', session: 1, bytes: 0 })
  const request = new Uint8Array(1_000)
  for (let i = 0; i < 200; i++) {
    client.forwarder.sendControl(1, request)
    deliver()
  }
  assert.equal(hop.reports.filter(({ kind }) => kind === 'control').length, 66)
  assert.deepEqual(hop.dropped(), only('dropUnpaid', 134))
})

test('a client is told once when a session has used what it was given', () => {
  const { client } = pair()
  client.forwarder.apply({ kind: 'limitSession', session: 1, bytes: 150 })
  const datagram = new Uint8Array(100)
  for (let i = 0; i < 4; i++) client.forwarder.send(1, 3, datagram, 0, datagram.length)
  assert.deepEqual(client.reports, [{ kind: 'sessionUse', session: 1, sent: 200, received: 0 }])
  assert.equal(client.sent.length, 4, 'a client stops nothing')
})

test('bytes that nobody asked for count as carried at the hop and as accepted nowhere', () => {
  const { client, hop } = pair()
  const flow = hop.tables.installFlow(1, 3, THERE, undefined, 0) as HopFlow
  client.tables.installNesting(1, 3)
  // A stranger who forges the far end's address: no layer at the client opens it.
  const forged = new Uint8Array(120)
  forged[0] = 4
  hop.forwarder.receiveFromFlow(flow, forged, 0, forged.length)
  for (const { bytes } of hop.sent.splice(0)) client.forwarder.receive(bytes, 0, bytes.length, THERE)
  assert.equal(hop.tables.sessions.get(1)?.sent, 120)
  assert.equal(client.tables.sessions.get(1)?.received, 0)
})
