// Both engines, the linux one with several workers too, are driven with the same packets, good and bad, and must give the same out and count the same.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Report, Via } from '#forward/commands.ts'
import { EngineRig, openSocket, RIG_LENGTH, until } from '#lab/engine-rig.ts'
import { FRAME } from '#wire/frame.ts'
import { type EngineKind, startEngineOf } from './engine.ts'

const PACKETS = 200
const ANSWERS = 50
const SESSION = 7

test('both engines do the same with the same packets, good and bad, with one worker and with several', async t => {
  if (process.platform !== 'linux') return t.skip('the linux engine needs Linux')
  const portable = await outcome('portable', 1)
  assert.deepEqual(await outcome('linux', 1), portable)
  assert.deepEqual(await outcome('linux', 3), portable)
})

for (const kind of ['portable', 'linux'] as const) {
  test(`the ${kind} engine says when its address is taken`, async t => {
    if (kind === 'linux' && process.platform !== 'linux') return t.skip('the linux engine needs Linux')
    const taken = await openSocket()
    const reports: Report[] = []
    const failed = Promise.withResolvers<void>()
    const engine = startEngineOf(kind, {
      host: '127.0.0.1',
      port: taken.address().port,
      maxStreamDatagram: RIG_LENGTH,
      onReport: report => {
        reports.push(report)
        failed.resolve()
      },
      onFailure: error => failed.reject(error),
    })
    await failed.promise
    assert.equal(reports[0]?.kind, 'failed')
    assert.match((reports[0] as { what: string }).what, /EADDRINUSE/)
    await engine.close()
    taken.close()
  })
}

for (const kind of ['portable', 'linux'] as const) {
  test(`the ${kind} engine ends a flow that nobody joins, and leaves a fresh one alone`, async t => {
    if (kind === 'linux' && process.platform !== 'linux') return t.skip('the linux engine needs Linux')
    const ended = Promise.withResolvers<Report>()
    const engine = startEngineOf(kind, {
      host: '127.0.0.1',
      port: 0,
      maxStreamDatagram: RIG_LENGTH,
      onReport: report => {
        if (report.kind !== 'listening') ended.resolve(report)
      },
      onFailure: ended.reject,
    })
    const via: Via = { kind: 'socket', address: { host: '127.0.0.1', port: 9 } }
    const keys = { localIndex: 1, remoteIndex: 2, send: new Uint8Array(32), receive: new Uint8Array(32) }
    engine.send({ kind: 'installSession', session: SESSION, role: 'responder', via, keys })
    engine.send({ kind: 'installMeeting', session: SESSION, flow: 1, bytesPerSecond: 1_000 })
    engine.send({ kind: 'sweep', idleMs: 60_000 })
    engine.send({ kind: 'removeFlow', session: SESSION, flow: 1 })
    engine.send({ kind: 'installMeeting', session: SESSION, flow: 2, bytesPerSecond: 1_000 })
    engine.send({ kind: 'sweep', idleMs: -60_000 })
    assert.deepEqual(await ended.promise, { kind: 'flowEnded', session: SESSION, flow: 2, reason: 'idle' })
    await engine.close()
  })
}

for (const kind of ['portable', 'linux'] as const) {
  test(`the ${kind} engine says when its worker died, and leaves its port to the next one`, async t => {
    if (kind === 'linux' && process.platform !== 'linux') return t.skip('the linux engine needs Linux')
    const start = (port: number) => {
      const listening = Promise.withResolvers<number>()
      const died = Promise.withResolvers<Error>()
      const engine = startEngineOf(kind, {
        host: '127.0.0.1',
        port,
        maxStreamDatagram: RIG_LENGTH,
        onReport: report =>
          report.kind === 'listening'
            ? listening.resolve(report.address.port)
            : listening.reject(new Error(report.kind)),
        onFailure: died.resolve,
      })
      return { engine, listening: listening.promise, died: died.promise }
    }
    const first = start(0)
    const port = await first.listening
    first.engine.send({ kind: 'crash' })
    assert.ok((await first.died) instanceof Error)
    await first.engine.close()
    const second = start(port)
    assert.equal(await second.listening, port)
    await second.engine.close()
  })
}

test('the portable engine says that it has no port', async () => {
  const failed = Promise.withResolvers<string>()
  const engine = startEngineOf('portable', {
    host: '127.0.0.1',
    port: 0,
    maxStreamDatagram: RIG_LENGTH,
    onReport: report => {
      if (report.kind === 'failed') failed.resolve(report.what)
    },
    onFailure: failed.reject,
  })
  engine.send({ kind: 'openPort', port: { fd: -1, offload: 'none', mtu: 1_280 } })
  assert.equal(await failed.promise, 'open a port: this engine has none')
  await engine.close()
})

/** What came out where, and what was counted. */
async function outcome(kind: EngineKind, workers: number): Promise<object> {
  await using rig = await EngineRig.start(kind, workers)
  // Of three workers it is the last one's.
  await rig.addSession(SESSION, 5)
  const far = await rig.installFlow(SESSION, 1)
  const good = packets(rig, PACKETS)
  for (const packet of good) await rig.deliver(packet)
  await until(() => far.received.length === PACKETS)

  for (const bad of badPackets(good[0] as Uint8Array)) await rig.deliver(bad)
  for (const packet of good.slice(0, 5)) await rig.deliver(packet)
  await until(() => rig.count('datagramsIn') >= PACKETS + 6 + 5)

  for (let i = 0; i < ANSWERS; i++) far.send(`answer ${i}`.padEnd(i % 7 === 0 ? 300 : 700))
  await until(() => rig.opened.length === ANSWERS)

  const tap = await rig.installTap(SESSION)
  tap.send('from the stream library')
  tap.send('x'.repeat(RIG_LENGTH + 1))
  await until(() => rig.opened.length === ANSWERS + 1)
  const sealed = rig.stream(SESSION, 'for the stream library')
  await rig.deliver(sealed)
  await until(() => tap.received.length === 1)

  rig.engine.send({ kind: 'removeSession', session: SESSION })
  rig.engine.send({ kind: 'reportSession', request: 1, session: SESSION })
  await until(() => rig.reports.some(report => report.kind === 'sessionReport' && report.request === 1))
  await rig.deliver(packets(rig, 1)[0] as Uint8Array)
  await until(() => rig.count('dropUnknownSession') >= 2)
  return {
    far: far.received.sort(),
    opened: rig.opened.sort(),
    tap: tap.received,
    reports: rig.reports.map(({ kind }) => kind),
    counters: rig.engine.counters.snapshot(),
  }
}

/** Sealed packets for flow 1, of several lengths. */
function packets(rig: EngineRig, count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, i) =>
    rig.packet(SESSION, 1, `packet ${i}`.padEnd(i % 5 === 0 ? 200 : RIG_LENGTH)),
  )
}

function badPackets(good: Uint8Array): Uint8Array[] {
  const forged = Uint8Array.from(good)
  forged[20] = (forged[20] ?? 0) ^ 1
  forged[8] = 250
  const unknown = Uint8Array.from(good)
  unknown[4] = 99
  const frame = Buffer.from([FRAME.control + 100, 0, 0, 0])
  return [forged, unknown, good.subarray(0, 20), Buffer.from([1, 2]), Buffer.from([9, 9, 9, 9]), frame]
}
