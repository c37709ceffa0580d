// Both engines are driven with the same packets, good and bad, and must give the same out and count the same.

import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { test } from 'node:test'
import type { Report, Via } from '#forward/commands.ts'
import { type Counter, Counters } from '#forward/counters.ts'
import { Forwarder, type Outlet } from '#forward/forwarder.ts'
import { FRAME } from '#wire/frame.ts'
import { type Engine, type EngineKind, startEngineOf } from './engine.ts'

const LENGTH = 1_000
const PACKETS = 200
const ANSWERS = 50
const SESSION = 7

test('both engines do the same with the same packets, good and bad', async t => {
  if (process.platform !== 'linux') return t.skip('the linux engine needs Linux')
  assert.deepEqual(await outcome('linux'), await outcome('portable'))
})

for (const kind of ['portable', 'linux'] as const) {
  test(`the ${kind} engine says when its address is taken`, async t => {
    if (kind === 'linux' && process.platform !== 'linux') return t.skip('the linux engine needs Linux')
    const taken = await open()
    const reports: Report[] = []
    const failed = Promise.withResolvers<void>()
    const engine = startEngineOf(kind, {
      host: '127.0.0.1',
      port: taken.address().port,
      maxStreamDatagram: LENGTH,
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
      maxStreamDatagram: LENGTH,
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
        maxStreamDatagram: LENGTH,
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
    maxStreamDatagram: LENGTH,
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
async function outcome(kind: EngineKind): Promise<object> {
  const rig = await Rig.start(kind)
  try {
    rig.installSession()
    const far = await rig.installFlow(1)
    const good = rig.packets(PACKETS)
    for (const packet of good) await rig.deliver(packet)
    await until(() => far.received.length === PACKETS)

    for (const bad of rig.badPackets(good[0] as Uint8Array)) await rig.deliver(bad)
    for (const packet of good.slice(0, 5)) await rig.deliver(packet)
    await until(() => rig.engine.counters.get('datagramsIn') >= PACKETS + 6 + 5)

    for (let i = 0; i < ANSWERS; i++) far.send(`answer ${i}`.padEnd(i % 7 === 0 ? 300 : 700))
    await until(() => rig.opened.length === ANSWERS)

    const tap = await rig.installTap()
    tap.send('from the stream library')
    tap.send('x'.repeat(LENGTH + 1))
    await until(() => rig.opened.length === ANSWERS + 1)
    const sealed = rig.stream('for the stream library')
    await rig.deliver(sealed)
    await until(() => tap.received.length === 1)

    rig.engine.send({ kind: 'removeSession', session: SESSION })
    rig.engine.send({ kind: 'reportSession', request: 1, session: SESSION })
    await until(() => rig.reports.some(report => report.kind === 'sessionReport'))
    await rig.deliver(rig.packets(1)[0] as Uint8Array)
    await until(() => rig.engine.counters.get('dropUnknownSession') >= 2)
    return {
      far: far.received.sort(),
      opened: rig.opened.sort(),
      tap: tap.received,
      reports: rig.reports.map(({ kind }) => kind),
      counters: rig.engine.counters.snapshot(),
    }
  } finally {
    await rig.stop()
  }
}

interface Peer {
  readonly received: string[]
  send(text: string): void
}

/** An engine with one session, and the other end of that session. */
class Rig {
  readonly reports: Report[] = []
  /** Plaintext of what the engine sent to the other end. */
  readonly opened: string[] = []
  readonly engine: Engine
  readonly #client: Forwarder
  readonly #socket: Socket
  readonly #sockets: Socket[] = []
  #sealed: Uint8Array[] = []
  #port = 0
  #waiting = new Map<Report['kind'], (report: Report) => void>()

  private constructor(kind: EngineKind, socket: Socket) {
    this.#socket = socket
    this.engine = startEngineOf(kind, {
      host: '127.0.0.1',
      port: 0,
      maxStreamDatagram: LENGTH,
      onReport: report => {
        this.reports.push(report)
        this.#waiting.get(report.kind)?.(report)
      },
      onFailure: error => assert.fail(error),
    })
    const outlet: Outlet = {
      toSocket: (_to, buffer, offset, length) =>
        this.#sealed.push(Uint8Array.from(buffer.subarray(offset, offset + length))),
      toFlow: () => assert.fail('the client has no flow of a hop'),
      toTap: (_session, buffer, offset, length) => this.opened.push(textOf(buffer, offset, length)),
      toAssociation: (_flow, buffer, offset, length) => this.opened.push(textOf(buffer, offset, length)),
      toEntry: () => assert.fail('the client has no entry'),
      toPort: () => assert.fail('the client has no port'),
      report: () => {},
      nowMs: () => 0,
    }
    this.#client = new Forwarder(outlet, new Counters())
    socket.on('message', message => this.#client.receive(message, 0, message.length, { host: '127.0.0.1', port: 1 }))
  }

  static async start(kind: EngineKind): Promise<Rig> {
    const rig = new Rig(kind, await open())
    const listening = await rig.#report('listening')
    rig.#port = (listening as Extract<Report, { kind: 'listening' }>).address.port
    return rig
  }

  async stop(): Promise<void> {
    await this.engine.close()
    for (const socket of [this.#socket, ...this.#sockets]) socket.close()
  }

  installSession(): void {
    const here = { host: '127.0.0.1', port: this.#socket.address().port }
    const there: Via = { kind: 'socket', address: { host: '127.0.0.1', port: 9 } }
    const [out, back] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)]
    this.engine.send({
      kind: 'installSession',
      session: SESSION,
      role: 'responder',
      via: { kind: 'socket', address: here },
      keys: { localIndex: 5, remoteIndex: 6, send: Uint8Array.from(back), receive: Uint8Array.from(out) },
    })
    const keys = { localIndex: 6, remoteIndex: 5, send: out, receive: back }
    this.#client.tables.installSession(SESSION, 'initiator', there, keys)
    const { flows } = this.#client.tables.sessions.get(SESSION) ?? assert.fail()
    flows.set(1, { kind: 'association', association: 1, header: new Uint8Array(0) })
    ;(this.#client.tables.sessions.get(SESSION) ?? assert.fail()).hasTap = true
  }

  async installFlow(flow: number): Promise<Peer> {
    const { peer, address } = await this.#peer()
    const first = Buffer.alloc(0)
    this.engine.send({ kind: 'installFlow', session: SESSION, flow, address, first })
    return peer
  }

  async installTap(): Promise<Peer> {
    const { peer, address, aim } = await this.#peer()
    this.engine.send({ kind: 'installTap', session: SESSION, address })
    const ready = await this.#report('tapReady')
    aim((ready as Extract<Report, { kind: 'tapReady' }>).address.port)
    return peer
  }

  /** Sealed packets for flow 1, of several lengths. */
  packets(count: number): Uint8Array[] {
    for (let i = 0; i < count; i++) {
      const payload = Buffer.from(`packet ${i}`.padEnd(i % 5 === 0 ? 200 : LENGTH))
      this.#client.send(SESSION, 1, payload, 0, payload.length)
    }
    return this.#sealed.splice(0)
  }

  stream(text: string): Uint8Array {
    const session = this.#client.tables.sessions.get(SESSION) ?? assert.fail()
    this.#client.receiveFromTap(session, Buffer.from(text), 0, text.length, LENGTH)
    return this.#sealed.splice(0)[0] ?? assert.fail()
  }

  badPackets(good: Uint8Array): Uint8Array[] {
    const forged = Uint8Array.from(good)
    forged[20] = (forged[20] ?? 0) ^ 1
    forged[8] = 250
    const unknown = Uint8Array.from(good)
    unknown[4] = 99
    const frame = Buffer.from([FRAME.control + 100, 0, 0, 0])
    return [forged, unknown, good.subarray(0, 20), Buffer.from([1, 2]), Buffer.from([9, 9, 9, 9]), frame]
  }

  /** Sends to the engine, and waits until it has been counted, so that no queue overflows. */
  async deliver(packet: Uint8Array): Promise<void> {
    const before = this.engine.counters.get('datagramsIn' satisfies Counter)
    this.#socket.send(packet, this.#port, '127.0.0.1')
    await until(() => this.engine.counters.get('datagramsIn') > before)
  }

  async #peer(): Promise<{ peer: Peer; address: { host: string; port: number }; aim(port: number): void }> {
    const socket = await open()
    this.#sockets.push(socket)
    const received: string[] = []
    let to: number | undefined
    socket.on('message', (message, from) => {
      to ??= from.port
      received.push(message.toString('latin1').trimEnd())
    })
    const peer = { received, send: (text: string) => socket.send(text, to ?? 0, '127.0.0.1') }
    return { peer, address: { host: '127.0.0.1', port: socket.address().port }, aim: port => (to = port) }
  }

  #report(kind: Report['kind']): Promise<Report> {
    return new Promise(resolve => this.#waiting.set(kind, resolve))
  }
}

function textOf(buffer: Uint8Array, offset: number, length: number): string {
  return Buffer.from(buffer.subarray(offset, offset + length))
    .toString('latin1')
    .trimEnd()
}

async function open(): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 1 << 20 })
  await new Promise<void>(resolve => socket.bind(0, '127.0.0.1', resolve))
  return socket
}

/** Waits, a second at most, until what other threads do has happened. */
async function until(holds: () => boolean): Promise<void> {
  const untilMs = performance.now() + 3_000
  while (!holds()) {
    if (performance.now() > untilMs) assert.fail(`waited in vain until ${holds.toString()}`)
    await new Promise(resolve => setImmediate(resolve))
  }
}
