// The data plane as the control plane sees it: commands in, reports out, counters in shared memory.

import { Worker } from 'node:worker_threads'
import type { Command, Report } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { siblingModule } from './module-url.ts'

export interface EngineOptions {
  /** Where the node's own UDP socket is bound. Port 0 takes any. */
  readonly host: string
  readonly port: number
  /** The longest stream datagram that a tap takes, in bytes. */
  readonly maxStreamDatagram: number
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

/** What the worker is given at its start. */
export interface EngineWorkerData {
  readonly host: string
  readonly port: number
  readonly maxStreamDatagram: number
  readonly counters: SharedArrayBuffer
}

/** Starts the portable engine (`node:dgram` in one worker); the first report is `listening` or `failed`. */
export function startPortableEngine(options: EngineOptions): Engine {
  const counters = new Counters()
  const workerData: EngineWorkerData = {
    host: options.host,
    port: options.port,
    maxStreamDatagram: options.maxStreamDatagram,
    counters: counters.shared,
  }
  const worker = new Worker(siblingModule(import.meta.url, './portable-worker'), {
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: 192, maxYoungGenerationSizeMb: 4 },
  })
  let isClosed = false
  worker.on('message', (reports: Report[]) => {
    for (const report of reports) if (!isClosed) options.onReport(report)
  })
  worker.on('error', error => {
    if (!isClosed) options.onFailure(error instanceof Error ? error : new Error(String(error)))
  })
  return {
    counters,
    send(...commands) {
      if (!isClosed && commands.length > 0) worker.postMessage(commands)
    },
    async close() {
      isClosed = true
      worker.postMessage([])
      await worker.terminate()
    },
  }
}
