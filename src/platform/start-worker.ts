// Threads of a data plane.

import { Worker } from 'node:worker_threads'
import type { EngineWorkerData } from './engine.ts'
import { siblingModule } from './module-url.ts'

/** Starts one, by the name of its module without an ending. */
export function startWorker<T extends EngineWorkerData>(name: string, workerData: T): Worker {
  return new Worker(siblingModule(import.meta.url, name), {
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: 192, maxYoungGenerationSizeMb: 4 },
  })
}
