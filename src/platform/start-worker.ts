// Threads of a data plane.

import { Worker } from 'node:worker_threads'
import type { EngineWorkerData } from './engine.ts'
import { siblingModule } from './module-url.ts'

const MOST_MIB = 192

/** What a thread died of, as an error of ours. */
export function deathOf(cause: unknown): Error {
  const error = cause instanceof Error ? cause : new Error(String(cause))
  if ((error as NodeJS.ErrnoException).code !== 'ERR_WORKER_OUT_OF_MEMORY') return error
  return new OutOfMemoryError(`it had all the memory that it may, ${MOST_MIB} MiB`, { cause })
}

/** A thread of the data plane held more than it may. */
export class OutOfMemoryError extends Error {}

/** Starts one, by the name of its module without an ending. */
export function startWorker<T extends EngineWorkerData>(name: string, workerData: T): Worker {
  return new Worker(siblingModule(import.meta.url, name), {
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: MOST_MIB, maxYoungGenerationSizeMb: 4 },
  })
}
