// Several workers: each session is one's, what comes to another finds its way, and one that dies takes only its own along.

import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import type { Report, Via } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { indexOf } from '#forward/workers.ts'
import { EngineRig, until } from '#lab/engine-rig.ts'
import { HOP_HANDSHAKE } from '#wire/packet-type.ts'
import { TRANSPORT_OVERHEAD_BYTES } from '#wire/transport.ts'
import { monotonicMs } from './clock.ts'
import { startEngineOf } from './engine.ts'
import { openBusySocket } from './linux/plane/busy-socket.ts'
import { EventLoop } from './linux/plane/event-loop.ts'
import { LinuxDatagrams } from './linux/plane/linux-datagrams.ts'

const WORKERS = 3
const KEY = new Uint8Array(32)
const NOWHERE: Via = { kind: 'socket', address: { host: '127.0.0.1', port: 9 } }
const skip = process.platform === 'linux' ? false : 'the linux engine needs Linux'

/** An engine with a session of each worker: number 10 is worker 0's, 11 worker 1's, 12 worker 2's. */
async function start(): Promise<EngineRig> {
  const rig = await EngineRig.start('linux', WORKERS)
  for (let worker = 0; worker < WORKERS; worker++) await rig.addSession(10 + worker, 8 + worker)
  return rig
}

/** Sends datagrams as one message with segments, which arrives joined as well. All must be of one length. */
function sendJoined(rig: EngineRig, packets: readonly Uint8Array[]): void {
  const loop = new EventLoop()
  const datagrams = new LinuxDatagrams({ counters: new Counters(), loop, now: monotonicMs })
  const socket = datagrams.open({ connect: rig.address, isBusy: false }, { onDatagram: () => {} })
  for (const packet of packets) socket.send(packet, 0, packet.length)
  datagrams.flush()
  datagrams.close()
  loop.close()
}

test('every session is served by its worker, and the kernel steers by its index', { skip }, async () => {
  await using rig = await start()
  const peers = await Promise.all([10, 11, 12].map(session => rig.installFlow(session, 1)))
  for (let i = 0; i < 30; i++) await rig.deliver(rig.packet(10 + (i % 3), 1, `packet ${i}`))
  await until(() => peers.every(({ received }) => received.length === 10))
  await rig.counted({ datagramsIn: 30, handedOver: 0 })
})

test('datagrams of other sessions that come joined to one of a worker reach their own', { skip }, async () => {
  await using rig = await start()
  const peers = await Promise.all([10, 11, 12].map(session => rig.installFlow(session, 1)))
  const texts = Array.from({ length: 30 }, (_, i) => `packet ${String(i).padStart(2, '0')}`)
  sendJoined(
    rig,
    texts.map((text, i) => rig.packet(10 + (i % 3), 1, text)),
  )
  await until(() => peers.every(({ received }) => received.length === 10))
  for (const [i, { received }] of peers.entries())
    assert.deepEqual(
      received,
      texts.filter((_, j) => j % 3 === i),
    )
  await rig.counted({ datagramsIn: 30, handedOver: 20 })
})

test('a packet at the wrong worker with a wrong key, or as a replay, is refused by the right one', {
  skip,
}, async () => {
  await using rig = await start()
  const peer = await rig.installFlow(12, 1)
  const good = rig.packet(12, 1, 'a packet')
  const forged = Uint8Array.from(good)
  forged[20] = (forged[20] ?? 0) ^ 1
  sendJoined(rig, [rig.packet(11, 1, 'a packet'), forged, good, good])
  await until(() => peer.received.length === 1)
  await rig.counted({ datagramsIn: 4, handedOver: 3, dropUnknownFlow: 1, dropForged: 1, dropReplayed: 1 })
})

test('datagrams that name nobody are counted and dropped', { skip }, async () => {
  await using rig = await EngineRig.start('linux', WORKERS)
  rig.installSession(10, 8)
  const peer = await rig.installFlow(10, 1)
  await rig.deliver(rig.packet(10, 1, 'one'))
  // Workers 1 and 2 do not run yet, and index bits 7 are beyond the last.
  const named = [1, 2, 7].map(bits => {
    const packet = Uint8Array.from(rig.packet(10, 1, 'x'))
    packet[4] = bits
    return packet
  })
  const short = [0, 1, 2, 3, 4, 5, 31].map(length => rig.packet(10, 1, 'x').subarray(0, length))
  for (const packet of [...named, ...short]) await rig.deliver(packet)
  sendJoined(rig, [
    rig.packet(10, 1, 'y'),
    ...[1, 2, 7].map(bits => Uint8Array.from(rig.packet(10, 1, 'x')).fill(bits, 4, 5)),
  ])
  await rig.counted({
    datagramsIn: 1 + named.length + short.length + 4,
    dropUnknownSession: 2 * named.length,
    handedOver: 0,
  })
  await until(() => peer.received.length === 2)
})

test('handshakes and STUN are reported once, wherever they come', { skip }, async () => {
  await using rig = await start()
  const initiation = new Uint8Array(HOP_HANDSHAKE.initiationBytes)
  initiation[0] = HOP_HANDSHAKE.initiation
  // As a stranger's datagram that the kernel joined to one of a session: worker 2 gets it.
  const packet = rig.packet(12, 1, 'x'.repeat(HOP_HANDSHAKE.initiationBytes - TRANSPORT_OVERHEAD_BYTES - 4))
  sendJoined(rig, [packet, initiation, initiation])
  for (const bits of [0, 1, 2]) await rig.deliver(Uint8Array.from(initiation).fill(bits, 4, 5))
  await until(() => rig.reports.filter(({ kind }) => kind === 'handshake').length === 5)
  await rig.counted({ handedOver: 2 })
  assert.equal(rig.reports.filter(({ kind }) => kind === 'listening').length, 1)
})

test('a flood at one worker does not disturb another', { skip }, async () => {
  await using rig = await start()
  const peer = await rig.installFlow(12, 1)
  const garbage = Uint8Array.from(rig.packet(11, 1, 'x'.repeat(400)))
  garbage[20] = (garbage[20] ?? 0) ^ 1
  garbage[8] = 99
  for (let i = 0; i < 100; i++) {
    for (let j = 0; j < 40; j++) rig.send(garbage)
    await rig.deliver(rig.packet(12, 1, `packet ${i}`))
  }
  await until(() => peer.received.length === 100)
  assert.ok(rig.count('dropForged') > 0)
  assert.equal(rig.count('handedOver'), 0)
})

test('two clients of different workers meet, and hear nobody else', { skip }, async () => {
  await using rig = await start()
  const { engine } = rig
  for (const session of [10, 11, 12]) engine.send({ kind: 'installMeeting', session, flow: 1, bytesPerSecond: 1e9 })
  engine.send({
    kind: 'joinMeeting',
    flows: [
      { session: 11, flow: 1 },
      { session: 12, flow: 1 },
    ],
  })
  for (const session of [10, 11, 12]) await rig.hasSettled(session)
  await rig.deliver(rig.packet(11, 1, 'from 11'))
  await rig.deliver(rig.packet(12, 1, 'from 12'))
  await rig.deliver(rig.packet(10, 1, 'from one who is not joined'))
  await until(() => rig.opened.length === 2)
  assert.deepEqual(rig.opened.sort(), ['from 11', 'from 12'])
  await rig.counted({ dropUnknownFlow: 1 })
  // 11 meets another: what 12 goes on saying is not for that one.
  engine.send({
    kind: 'joinMeeting',
    flows: [
      { session: 11, flow: 1 },
      { session: 10, flow: 1 },
    ],
  })
  for (const session of [10, 11]) await rig.hasSettled(session)
  await rig.deliver(rig.packet(12, 1, 'nobody is there'))
  await rig.counted({ dropUnknownFlow: 2 })
  await rig.deliver(rig.packet(10, 1, 'from 10'))
  await until(() => rig.opened.includes('from 10'))
  assert.equal(rig.opened.length, 3)
})

test('a client whose session is used up is sent nothing by another worker either', { skip }, async () => {
  await using rig = await start()
  const { engine } = rig
  for (const session of [11, 12]) engine.send({ kind: 'installMeeting', session, flow: 1, bytesPerSecond: 1e9 })
  engine.send({
    kind: 'joinMeeting',
    flows: [
      { session: 11, flow: 1 },
      { session: 12, flow: 1 },
    ],
  })
  engine.send({ kind: 'limitSession', session: 12, bytes: 0 })
  for (const session of [11, 12]) await rig.hasSettled(session)
  await rig.deliver(rig.packet(11, 1, 'for one who did not pay'))
  await rig.counted({ dropUnpaid: 1 })
  assert.deepEqual(rig.opened, [])
})

test('what is lent is one amount for all workers', { skip }, async () => {
  await using rig = await start()
  rig.engine.send({ kind: 'limitLent', bytesPerSecond: 1_000, hops: true })
  const sinceMs = performance.now()
  const nobody = { host: '127.0.0.1', port: 9 }
  // Of a flow that is not proven three initiations pass.
  const initiation = `${String.fromCharCode(HOP_HANDSHAKE.initiation)}\0\0\0`.padEnd(HOP_HANDSHAKE.initiationBytes, 'x')
  for (const session of [10, 11, 12]) {
    for (let flow = 1; flow <= 10; flow++) {
      rig.engine.send({ kind: 'installFlow', session, flow, address: nobody, proof: 'hop', first: new Uint8Array(0) })
      await rig.hasSettled(session)
      for (let i = 0; i < 3; i++) await rig.deliver(rig.packet(session, flow, initiation))
    }
  }
  await until(() => rig.count('framesOpened') === 90)
  const lent = () => rig.count('lentBytesOut')
  await until(() => lent() === (90 - rig.count('dropRateLimit')) * HOP_HANDSHAKE.initiationBytes)
  // What there is at first, and a byte more for each millisecond.
  const atMost = 66_000 + performance.now() - sinceMs
  assert.ok(lent() > 60_000 && lent() <= atMost, `${lent()}`)
})

test('a worker that dies takes only its own sessions along, and is there again soon', { skip }, async () => {
  await using rig = await start()
  const [lost, kept] = await Promise.all([rig.installFlow(11, 1), rig.installFlow(12, 1)])
  await rig.deliver(rig.packet(11, 1, 'before'))
  let sent = 0
  const go = async () => rig.deliver(rig.packet(12, 1, `packet ${sent++}`))
  for (let i = 0; i < 20; i++) await go()
  rig.engine.send({ kind: 'crash', worker: 1 })
  for (let i = 0; i < 200; i++) await go()
  const report = await rig.report('sessionsLost')
  assert.deepEqual(report.sessions, [11])
  assert.match(report.what, /worker 1 of the data plane: told to crash/)
  // The control plane forgets it and makes a new one, which the next worker 1 serves.
  rig.engine.send({ kind: 'removeSession', session: 11 })
  await rig.addSession(21, 8 + 1 + 8)
  const again = await rig.installFlow(21, 1)
  await rig.deliver(rig.packet(21, 1, 'after'))
  await until(() => again.received.length === 1)
  await go()
  await until(() => kept.received.length === sent)
  assert.deepEqual(lost.received, ['before'])
})

test('a worker that had no time for anything leaves no descriptor open', { skip }, async () => {
  await using rig = await start()
  const open = () => readdirSync('/proc/self/fd').length
  const before = open()
  for (let flow = 1; flow <= 50; flow++) {
    const address = { host: '127.0.0.1', port: 9 }
    rig.engine.send({ kind: 'installFlow', session: 11, flow, address, first: new Uint8Array(0) })
  }
  await rig.hasSettled(11)
  assert.equal(open(), before + 50)
  rig.engine.send({ kind: 'crash', worker: 1, isSudden: true })
  assert.deepEqual((await rig.report('sessionsLost')).sessions, [11])
  await rig.addSession(21, 17)
  await until(() => open() === before)
})

test('sessions that are put on a worker which is away are lost at once, and others go on', { skip }, async () => {
  await using rig = await start()
  rig.engine.send({ kind: 'crash', worker: 2 })
  await until(() => rig.reports.some(({ kind }) => kind === 'sessionsLost'))
  rig.installSession(32, 8 + 2)
  await until(() => rig.reports.some(report => report.kind === 'sessionsLost' && report.sessions.includes(32)))
  assert.notEqual(rig.engine.place(), 2)
})

test('a worker that dies again and again is the end of the engine, and so is the last one', { skip }, async () => {
  await using rig = await start()
  let deaths = 0
  let error: Error | undefined
  void rig.failed.then(found => (error = found))
  while (error === undefined) {
    assert.ok(deaths++ < 6)
    const before = rig.reports.length
    rig.engine.send({ kind: 'crash', worker: 2 })
    await until(() => error !== undefined || rig.reports.length > before)
    if (error === undefined) await rig.addSession(100 + deaths, 8 + 2 + 8 * deaths)
  }
  assert.equal(deaths, 5)
  assert.match(error.message, /told to crash/)

  await using other = await start()
  other.engine.send({ kind: 'crash' })
  assert.match((await other.failed).message, /told to crash/)
})

test('nobody else gets the address of an engine with several workers', { skip }, async () => {
  await using rig = await start()
  const { promise, resolve } = Promise.withResolvers<Report>()
  const second = startEngineOf('linux', {
    ...rig.address,
    workers: WORKERS,
    warmsUp: false,
    maxStreamDatagram: 1_000,
    onReport: resolve,
    onFailure: () => {},
  })
  assert.match(((await promise) as { what: string }).what, /EADDRINUSE/)
  await second.close()
})

test('new sessions get a worker each', { skip }, async () => {
  await using rig = await EngineRig.start('linux', WORKERS)
  const owners = [1, 2, 3, 4, 5, 6, 7, 8, 9].map(session => {
    const owner = rig.engine.place()
    rig.installSession(session, session * 8 + owner)
    return owner
  })
  assert.deepEqual(owners, [0, 0, 1, 1, 2, 2, 0, 1, 2])
  for (const session of [3, 4]) rig.engine.send({ kind: 'removeSession', session })
  assert.equal(rig.engine.place(), 1)
})

test("sockets that were given are the workers', and none is left open", { skip }, async () => {
  const open = () => readdirSync('/proc/self/fd').length
  const before = open()
  for (const [count, workers] of [
    [4, [0, 0, 1, 1, 2]],
    [3, [0, 0, 1, 1, 0]],
    [1, [0, 0, 0, 0, 0]],
  ] as const) {
    const { promise, resolve, reject } = Promise.withResolvers<Report>()
    const engine = startEngineOf('linux', {
      host: '0.0.0.0',
      port: 0,
      workers: WORKERS,
      sockets: Array.from({ length: count }, () => openBusySocket(4, 0)),
      warmsUp: false,
      maxStreamDatagram: 1_000,
      onReport: resolve,
      onFailure: reject,
    })
    assert.equal((await promise).kind, 'listening')
    const owners = [1, 2, 3, 4, 5].map(session => {
      const owner = engine.place()
      const keys = { localIndex: indexOf(session * 8, owner), remoteIndex: 1, send: KEY.slice(), receive: KEY.slice() }
      engine.send({ kind: 'installSession', session, role: 'responder', via: NOWHERE, keys })
      return owner
    })
    assert.deepEqual(owners, workers)
    await engine.close()
  }
  assert.equal(open(), before)
})

test('what the laboratory asks of all workers is answered once', { skip }, async () => {
  await using rig = await start()
  rig.engine.send({ kind: 'observe', marker: Buffer.from('a marker to be found') })
  const peer = await rig.installFlow(12, 1)
  await rig.deliver(rig.packet(12, 1, 'here is a marker to be found'))
  await until(() => peer.received.length === 1)
  rig.engine.send({ kind: 'reportObservation', request: 3 })
  const { observation, request } = await rig.report('observation')
  assert.equal(request, 3)
  assert.equal(observation.markerInside, true)
  assert.equal(observation.markerOnWire, false)
  assert.equal(observation.addresses.length, 2)
  assert.equal(rig.reports.filter(({ kind }) => kind === 'observation').length, 1)
})
