// The data plane as the control plane sees it: commands in, reports out, counters in shared memory.

import { Worker } from 'node:worker_threads'
import type { Command, Report } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { openEvent } from './linux/event-descriptor.ts'
import { siblingModule } from './module-url.ts'

export interface EngineOptions {
  /** Where the node's own UDP socket is bound. Port 0 takes any. */
  readonly host: string
  readonly port: number
  /** The longest stream datagram that a tap takes, in bytes. */
  readonly maxStreamDatagram: number
  /** Descriptors of the engine's own sockets, not bound yet; it closes them (linux engine alone). Without them it opens its own. */
  readonly sockets?: readonly number[]
  readonly onReport: (report: Report) => void
  /** The worker died of a bug: the engine is of no more use. */
  readonly onFailure: (error: Error) => void
}

export interface Engine {
  readonly counters: Counters
  send(...commands: readonly Command[]): void
  /** Ends the worker and closes every socket; nothing is reported afterwards. */
  close(): Promise<void>
}

/** What a worker is given at its start. */
export interface EngineWorkerData {
  readonly host: string
  readonly port: number
  readonly maxStreamDatagram: number
  readonly counters: SharedArrayBuffer
}

export interface LinuxWorkerData extends EngineWorkerData {
  /** An event descriptor: written to, it wakes the worker. */
  readonly wakeFd: number
  readonly sockets: readonly number[]
}

export type EngineKind = 'linux' | 'portable'

/** Starts an engine; the first report is `listening` or `failed`. */
export function startEngineOf(kind: EngineKind, options: EngineOptions): Engine {
  return kind === 'linux' ? startLinuxEngine(options) : startPortableEngine(options)
}

/** The portable engine: `node:dgram` in one worker. */
function startPortableEngine(options: EngineOptions): Engine {
  const counters = new Counters()
  const worker = startWorker('./portable-worker', { ...settingsOf(options), counters: counters.shared })
  return engineOf(worker, options, counters, message => worker.postMessage(message))
}

/** The linux engine: batched calls through node:ffi in one worker. Throws FFI_MISSING where they cannot be made. */
function startLinuxEngine(options: EngineOptions): Engine {
  const counters = new Counters()
  const wake = openEvent()
  const workerData: LinuxWorkerData = {
    ...settingsOf(options),
    counters: counters.shared,
    wakeFd: wake.fd,
    sockets: options.sockets ?? [],
  }
  const worker = startWorker('./linux-worker', workerData)
  worker.once('exit', () => wake.close())
  return engineOf(worker, options, counters, message => {
    worker.postMessage(message)
    wake.signal()
  })
}

function settingsOf({ host, port, maxStreamDatagram }: EngineOptions): Omit<EngineWorkerData, 'counters'> {
  return { host, port, maxStreamDatagram }
}

function startWorker(name: string, workerData: EngineWorkerData): Worker {
  return new Worker(siblingModule(import.meta.url, name), {
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: 192, maxYoungGenerationSizeMb: 4 },
  })
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
    if (!isClosed) options.onFailure(error instanceof Error ? error : new Error(String(error)))
  })
  // A worker that sleeps in the kernel cannot be ended from outside: it is woken when the process ends.
  const end = () => post('close')
  process.once('exit', end)
  const exited = new Promise<void>(resolve =>
    worker.once('exit', () => {
      process.off('exit', end)
      resolve()
    }),
  )
  return {
    counters,
    send(...commands) {
      if (!isClosed && commands.length > 0) post(commands)
    },
    async close() {
      if (!isClosed) post('close')
      isClosed = true
      await exited
    },
  }
}
