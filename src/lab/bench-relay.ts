// One relay's data plane under load: source ──► engine (one layer opened) ──► sink, each a thread of this process. The source sends
// as fast as the engine takes packets, so the engine's thread is what limits.

import { readdirSync, readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { systemRandom } from '#crypto/random.ts'
import type { Report } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { type Engine, type EngineKind, startEngineOf } from '#platform/engine.ts'
import { siblingModule } from '#platform/module-url.ts'
import type { Address } from '#wire/address.ts'
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
  /** Per second of CPU time of the engine's thread: what a core of its own would do. */
  readonly packetsPerCpuSecond: number
}

/** Packets through an engine from socket to socket. Linux alone. */
export async function measureRelay(kind: EngineKind, load: keyof typeof LOADS): Promise<RelayFigures> {
  const counted = new Counters()
  const sink = new Worker(siblingModule(import.meta.url, './packet-sink-worker'), { workerData: counted.shared })
  const target = await said<Address>(sink)
  const threads = threadIds()
  const { engine, address } = await startEngine(kind)
  const ofEngine = threadIds().filter(id => !threads.includes(id))
  const key = install(engine, target)
  const plan: PacketSource = {
    to: address,
    key,
    sessions: SESSIONS,
    lengths: LOADS[load],
    limitMs: LIMIT_MS,
    relay: engine.counters.shared,
  }
  const source = new Worker(siblingModule(import.meta.url, './packet-source-worker'), { workerData: plan })
  try {
    await said<'ready'>(source)
    const before = cpuSeconds(ofEngine)
    source.postMessage('start')
    const { seconds } = await said<SourceReport>(source)
    const spent = cpuSeconds(ofEngine) - before
    const forwarded = counted.get('datagramsIn')
    return { packetsPerSecond: forwarded / seconds, packetsPerCpuSecond: forwarded / spent }
  } finally {
    await Promise.all([source.terminate(), sink.terminate(), engine.close()])
  }
}

async function startEngine(kind: EngineKind): Promise<{ engine: Engine; address: Address }> {
  const { promise, resolve, reject } = Promise.withResolvers<Address>()
  const engine = startEngineOf(kind, {
    host: '127.0.0.1',
    port: 0,
    maxStreamDatagram: LENGTH,
    onReport: (report: Report) => {
      if (report.kind === 'listening') resolve(report.address)
    },
    onFailure: reject,
  })
  return { engine, address: await promise }
}

/** Installs the sessions, all with the key that is returned, and their flows to `target`. */
function install(engine: Engine, target: Address): Uint8Array {
  const [key, back] = [new Uint8Array(systemRandom(32)), new Uint8Array(systemRandom(32))]
  const via = { kind: 'socket', address: { host: '127.0.0.1', port: 9 } } as const
  for (let session = 1; session <= SESSIONS; session++) {
    const keys = { localIndex: session, remoteIndex: session, send: back, receive: key }
    engine.send(
      { kind: 'installSession', session, role: 'responder', via, keys },
      { kind: 'installFlow', session, flow: 1, address: target, first: new Uint8Array(0) },
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

/** Time on a processor, of all these threads together. */
function cpuSeconds(threads: readonly string[]): number {
  return threads.reduce((sum, id) => {
    const [nanoseconds] = readFileSync(`/proc/self/task/${id}/schedstat`, 'utf8').split(' ')
    return sum + Number(nanoseconds) / 1e9
  }, 0)
}
