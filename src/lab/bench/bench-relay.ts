// One relay's data plane under load: sources ──► engine (one layer opened) ──► sink, each a thread of this process. The sources send
// as fast as the engine takes packets, so the engine's threads are what limits.

import { readdirSync, readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { systemRandom } from '#crypto/random.ts'
import type { Report } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { type Engine, type EngineKind, startEngineOf } from '#platform/engine.ts'
import { siblingModule } from '#platform/module-url.ts'
import type { Address } from '#wire/address.ts'
import type { PacketSink } from './packet-sink-worker.ts'
import type { PacketSource, SourceReport } from './packet-source-worker.ts'

const SESSIONS = 64
const LIMIT_MS = 2_500
const LENGTH = 1_200

/** Datagrams of a length are joined by GSO and GRO, those that grow from one to the next cannot be; 1,200 bytes either way. */
export const LOADS = {
  joined: [LENGTH],
  apart: Array.from({ length: 65 }, (_, i) => LENGTH - 32 + i),
} as const

export interface RelayFigures {
  readonly packetsPerSecond: number
  /** Per second of CPU time of the engine's threads together: what one core would do. */
  readonly packetsPerCpuSecond: number
  /** Per second of CPU time of the busiest: what the engine would do if each worker had a core of its own. */
  readonly packetsPerBusiestSecond: number
  /** Datagrams that one worker had to hand to another. */
  readonly handedOver: number
}

export interface RelayLoad {
  readonly kind: EngineKind
  readonly load: keyof typeof LOADS
  /** Of the engine; as many sources send, each to sessions of one worker. Default 1. */
  readonly workers?: number
}

/** Packets through an engine from socket to socket. Linux alone. */
export async function measureRelay({ kind, load, workers = 1 }: RelayLoad): Promise<RelayFigures> {
  const counted = new Counters()
  const sinkPlan: PacketSink = { counters: counted.shared, sockets: workers }
  const sink = new Worker(siblingModule(import.meta.url, './packet-sink-worker'), { workerData: sinkPlan })
  const targets = await said<Address[]>(sink)
  const threads = threadIds()
  const { engine, address, settled } = await startEngine(kind, workers)
  const key = install(engine, targets)
  await settled()
  const ofEngine = threadIds().filter(id => !threads.includes(id))
  const progress = new SharedArrayBuffer(workers * 8)
  const sources = Array.from({ length: workers }, (_, source) => {
    const sessions = sessionNumbers().filter(session => session % workers === source)
    const lengths = LOADS[load]
    const relay = engine.counters.shared
    const plan: PacketSource = { to: address, key, sessions, lengths, limitMs: LIMIT_MS, relay, progress, source }
    return new Worker(siblingModule(import.meta.url, './packet-source-worker'), { workerData: plan })
  })
  try {
    await Promise.all(sources.map(source => said<'ready'>(source)))
    const before = ofEngine.map(cpuSeconds)
    const reports = await Promise.all(
      sources.map(source => {
        source.postMessage('start')
        return said<SourceReport>(source)
      }),
    )
    const spent = ofEngine.map((id, i) => cpuSeconds(id) - (before[i] ?? 0))
    const forwarded = counted.get('datagramsIn')
    return {
      packetsPerSecond: forwarded / Math.max(...reports.map(({ seconds }) => seconds)),
      packetsPerCpuSecond: forwarded / spent.reduce((sum, seconds) => sum + seconds, 0),
      packetsPerBusiestSecond: forwarded / Math.max(...spent),
      handedOver: engine.counters.get('handedOver'),
    }
  } finally {
    await Promise.all([...sources.map(source => source.terminate()), sink.terminate(), engine.close()])
  }
}

async function startEngine(kind: EngineKind, workers: number) {
  const { promise, resolve, reject } = Promise.withResolvers<Address>()
  const waiting = new Set<number>()
  const settled = Promise.withResolvers<void>()
  const engine = startEngineOf(kind, {
    host: '127.0.0.1',
    port: 0,
    workers,
    maxStreamDatagram: LENGTH,
    onReport: (report: Report) => {
      if (report.kind === 'listening') resolve(report.address)
      if (report.kind === 'sessionReport' && waiting.delete(report.request) && waiting.size === 0) settled.resolve()
    },
    onFailure: reject,
  })
  return {
    engine,
    address: await promise,
    /** Resolves when every session is in place, and with it every worker. */
    settled: () => {
      for (const session of sessionNumbers()) {
        waiting.add(session)
        engine.send({ kind: 'reportSession', request: session, session })
      }
      return settled.promise
    },
  }
}

/** Their number is their index. */
function sessionNumbers(): number[] {
  return Array.from({ length: SESSIONS }, (_, i) => i + 1)
}

/** Installs the sessions, all with the key that is returned, and their flows to the targets in turn. */
function install(engine: Engine, targets: readonly Address[]): Uint8Array {
  const [key, back] = [new Uint8Array(systemRandom(32)), new Uint8Array(systemRandom(32))]
  const via = { kind: 'socket', address: { host: '127.0.0.1', port: 9 } } as const
  for (const session of sessionNumbers()) {
    const keys = { localIndex: session, remoteIndex: session, send: back, receive: key }
    const address = targets[session % targets.length] as Address
    engine.send(
      { kind: 'installSession', session, role: 'responder', via, keys },
      { kind: 'installFlow', session, flow: 1, address, first: new Uint8Array(0) },
    )
  }
  return key
}

function said<T>(worker: Worker): Promise<T> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
}

/** The threads of this process. */
function threadIds(): string[] {
  return readdirSync('/proc/self/task')
}

/** Time of a thread on a processor. */
function cpuSeconds(thread: string): number {
  const [nanoseconds] = readFileSync(`/proc/self/task/${thread}/schedstat`, 'utf8').split(' ')
  return Number(nanoseconds) / 1e9
}
