// The data plane as the control plane sees it: commands in, reports out, counters in shared memory.

import type { Worker } from 'node:worker_threads'
import type { Command, Report } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import type { WorkerMemoryData } from './linux/plane/worker-memory.ts'
import { LinuxEngine } from './linux-engine.ts'
import { deathOf, startWorker } from './start-worker.ts'

export interface EngineOptions {
  /** Where the node's own UDP socket is bound. Port 0 takes any. */
  readonly host: string
  readonly port: number
  /** The longest stream datagram that a tap takes, in bytes. */
  readonly maxStreamDatagram: number
  /** How many workers there may be, 1 to 8 (linux engine alone). Default 1: sessions that hang together are of one worker. */
  readonly workers?: number
  /**
   * Descriptors of sockets for the node's address, not bound yet; the engine closes them (linux engine alone). Without them it opens
   * its own. One, or for several workers one more than workers.
   */
  readonly sockets?: readonly number[]
  /** Whether workers begin with packets of their own (linux engine alone). Default true; for engines that live for seconds it is a waste. */
  readonly warmsUp?: boolean
  readonly onReport: (report: Report) => void
  /** It died of a bug, with every session: the engine is of no more use. */
  readonly onFailure: (error: Error) => void
}

export interface Engine {
  readonly counters: Counters
  /** Whether it takes descriptors of sockets that are open already. */
  readonly takesSockets: boolean
  send(...commands: readonly Command[]): void
  /** Which worker is to own the next session: its index is made by `indexOf` (forward/workers.ts). */
  place(): number
  /** Ends the workers and closes every socket and device; nothing is reported afterwards. */
  close(): Promise<void>
}

/** What a worker is given at its start. */
export interface EngineWorkerData {
  readonly host: string
  readonly port: number
  readonly maxStreamDatagram: number
  readonly counters: SharedArrayBuffer
  /** The node's own socket, where it is open already. */
  readonly socketFd?: number
}

export interface LinuxWorkerData extends EngineWorkerData {
  /** Which one this is. */
  readonly worker: number
  readonly memory: WorkerMemoryData
  /** Event descriptors of all workers, for what they hand to each other. */
  readonly bells: readonly number[]
  readonly warmsUp: boolean
  /** An event descriptor: written to, it wakes the worker. */
  readonly wakeFd: number
}

export type EngineKind = 'linux' | 'portable'

/** Starts an engine; the first report is `listening` or `failed`. Throws FFI_MISSING where `linux` cannot be. */
export function startEngineOf(kind: EngineKind, options: EngineOptions): Engine {
  return kind === 'linux' ? new LinuxEngine(options) : startPortableEngine(options)
}

/** The portable engine: `node:dgram` in one worker. */
function startPortableEngine(options: EngineOptions): Engine {
  const counters = new Counters()
  const worker = startWorker('./portable-worker', { ...settingsOf(options), counters: counters.shared })
  return engineOf(worker, options, counters, message => worker.postMessage(message))
}

function settingsOf({ host, port, maxStreamDatagram }: EngineOptions): Omit<EngineWorkerData, 'counters'> {
  return { host, port, maxStreamDatagram }
}

function engineOf(
  worker: Worker,
  options: EngineOptions,
  counters: Counters,
  post: (message: readonly Command[] | 'close') => void,
): Engine {
  let isClosed = false
  worker.on('message', (reports: Report[]) => {
    for (const report of reports) if (!isClosed) options.onReport(report)
  })
  worker.on('error', error => {
    if (!isClosed) options.onFailure(deathOf(error))
  })
  const exited = new Promise<void>(resolve => worker.once('exit', () => resolve()))
  return {
    counters,
    takesSockets: false,
    send(...commands) {
      if (!isClosed && commands.length > 0) post(commands)
    },
    place: () => 0,
    async close() {
      if (!isClosed) post('close')
      isClosed = true
      await exited
    },
  }
}
