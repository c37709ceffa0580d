// An engine under test, with sessions whose other ends are here: what is sealed here is delivered to the engine's socket, and what
// the engine sends back is opened.

import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Report, Via } from '#forward/commands.ts'
import { type Counter, Counters } from '#forward/counters.ts'
import { Forwarder, type Outlet } from '#forward/forwarder.ts'
import { type Engine, type EngineKind, startEngineOf } from '#platform/engine.ts'
import type { Address } from '#wire/address.ts'

/** The longest stream datagram, and the length of most packets. */
export const RIG_LENGTH = 1_000
const HOST = '127.0.0.1'
/** Turns of the loop that are waited without a pause. */
const TURNS = 20
const SOMEWHERE: Via = { kind: 'socket', address: { host: HOST, port: 9 } }

type ReportOf<K extends Report['kind']> = Extract<Report, { readonly kind: K }>

export interface RigPeer {
  readonly received: string[]
  send(text: string): void
}

export class EngineRig implements AsyncDisposable {
  readonly reports: Report[] = []
  /** Plaintext of what the engine sent to the other ends of sessions. */
  readonly opened: string[] = []
  readonly engine: Engine
  /** What the engine failed of. */
  readonly failed: Promise<Error>
  readonly #client: Forwarder
  readonly #socket: Socket
  readonly #sockets: Socket[] = []
  #sealed: Uint8Array[] = []
  #nextRequest = 1_000
  #address: Address = { host: HOST, port: 0 }

  private constructor(kind: EngineKind, workers: number, socket: Socket) {
    this.#socket = socket
    const { promise, resolve } = Promise.withResolvers<Error>()
    this.failed = promise
    this.engine = startEngineOf(kind, {
      host: HOST,
      port: 0,
      workers,
      warmsUp: false,
      maxStreamDatagram: RIG_LENGTH,
      onReport: report => this.reports.push(report),
      onFailure: resolve,
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
    socket.on('message', message => this.#client.receive(message, 0, message.length, { host: HOST, port: 1 }))
  }

  static async start(kind: EngineKind, workers = 1): Promise<EngineRig> {
    const rig = new EngineRig(kind, workers, await openSocket())
    rig.#address = (await rig.report('listening')).address
    return rig
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine.close()
    for (const socket of [this.#socket, ...this.#sockets]) socket.close()
  }

  /** Where the engine listens. */
  get address(): Address {
    return this.#address
  }

  /** Installs a session at both ends. The client has flows 1 and 2 of it for whatever comes. */
  installSession(session: number, localIndex: number): void {
    const here = { host: HOST, port: this.#socket.address().port }
    const [out, back] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)]
    const remoteIndex = 1_000 + localIndex
    this.engine.send({
      kind: 'installSession',
      session,
      role: 'responder',
      via: { kind: 'socket', address: here },
      keys: { localIndex, remoteIndex, send: Uint8Array.from(back), receive: Uint8Array.from(out) },
    })
    const keys = { localIndex: remoteIndex, remoteIndex: localIndex, send: out, receive: back }
    this.#client.tables.installSession(session, 'initiator', SOMEWHERE, keys)
    const entry = this.#client.tables.sessions.get(session) ?? assert.fail()
    for (const flow of [1, 2]) entry.flows.set(flow, { kind: 'association', association: 1, header: new Uint8Array(0) })
    entry.hasTap = true
  }

  /** Installs a session and waits until its worker has it; a worker that is away loses it, and then it is tried again. */
  async addSession(session: number, localIndex: number): Promise<void> {
    do {
      this.installSession(session, localIndex)
    } while (!(await this.hasSettled(session)))
  }

  /** Waits until the worker of a session has carried out what it was told; false when it died. */
  async hasSettled(session: number): Promise<boolean> {
    const request = this.#nextRequest++
    const before = this.reports.length
    this.engine.send({ kind: 'reportSession', request, session })
    const find = () =>
      this.reports
        .slice(before)
        .find(
          report =>
            (report.kind === 'sessionReport' && report.request === request) ||
            (report.kind === 'sessionsLost' && report.sessions.includes(session)),
        )
    await until(() => find() !== undefined, 'the session is there')
    return find()?.kind === 'sessionReport'
  }

  async installFlow(session: number, flow: number): Promise<RigPeer> {
    const { peer, address } = await this.#peer()
    this.engine.send({ kind: 'installFlow', session, flow, address, first: Buffer.alloc(0) })
    await this.hasSettled(session)
    return peer
  }

  async installTap(session: number): Promise<RigPeer> {
    const { peer, address, aim } = await this.#peer()
    this.engine.send({ kind: 'installTap', session, address })
    aim((await this.report('tapReady')).address.port)
    return peer
  }

  /** A sealed packet of a session's flow. */
  packet(session: number, flow: number, text: string): Uint8Array {
    const bytes = Buffer.from(text)
    this.#client.send(session, flow, bytes, 0, bytes.length)
    return this.#sealed.splice(0)[0] ?? assert.fail()
  }

  stream(session: number, text: string): Uint8Array {
    const entry = this.#client.tables.sessions.get(session) ?? assert.fail()
    this.#client.receiveFromTap(entry, Buffer.from(text), 0, text.length, RIG_LENGTH)
    return this.#sealed.splice(0)[0] ?? assert.fail()
  }

  /** Sends to the engine, and waits until it has been counted, so that no queue overflows. */
  async deliver(packet: Uint8Array): Promise<void> {
    const before = this.count('datagramsIn')
    this.send(packet)
    await until(() => this.count('datagramsIn') > before)
  }

  send(packet: Uint8Array): void {
    this.#socket.send(packet, this.#address.port, HOST)
  }

  count(counter: Counter): number {
    return this.engine.counters.get(counter)
  }

  /** Waits until exactly so much is counted: workers count a datagram when it comes, and what became of it after that. */
  async counted(expected: Partial<Record<Counter, number>>): Promise<void> {
    const names = Object.keys(expected) as Counter[]
    const actual = () => Object.fromEntries(names.map(name => [name, this.count(name)]))
    await until(
      () => names.every(name => this.count(name) === expected[name]),
      () => `${JSON.stringify(expected)} is counted; it is ${JSON.stringify(actual())}`,
    )
  }

  /** The newest report of that kind, when there is one. */
  async report<K extends Report['kind']>(kind: K): Promise<ReportOf<K>> {
    const find = () => this.reports.findLast((report): report is ReportOf<K> => report.kind === kind)
    await until(() => find() !== undefined, `a report: ${kind}`)
    return find() ?? assert.fail()
  }

  async #peer(): Promise<{ peer: RigPeer; address: Address; aim(port: number): void }> {
    const socket = await openSocket()
    this.#sockets.push(socket)
    const received: string[] = []
    let to: number | undefined
    socket.on('message', (message, from) => {
      to ??= from.port
      received.push(message.toString('latin1').trimEnd())
    })
    const peer = { received, send: (text: string) => socket.send(text, to ?? 0, HOST) }
    return { peer, address: { host: HOST, port: socket.address().port }, aim: port => (to = port) }
  }
}

export async function openSocket(): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 1 << 20 })
  await new Promise<void>(resolve => socket.bind(0, HOST, resolve))
  return socket
}

/** Waits, a minute at most, until what other threads do has happened. */
export async function until(holds: () => boolean, what: string | (() => string) = holds.toString()): Promise<void> {
  const untilMs = performance.now() + 60_000
  for (let turn = 0; !holds(); turn++) {
    if (performance.now() > untilMs) assert.fail(`waited in vain until ${typeof what === 'string' ? what : what()}`)
    // A little at once; what takes longer needs the processor itself.
    await (turn < TURNS ? new Promise(resolve => setImmediate(resolve)) : sleep(1))
  }
}

function textOf(buffer: Uint8Array, offset: number, length: number): string {
  return Buffer.from(buffer.subarray(offset, offset + length))
    .toString('latin1')
    .trimEnd()
}
