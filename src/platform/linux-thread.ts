// One worker of the linux engine as a thread: started, spoken to, and heard of when it died.

import type { Worker } from 'node:worker_threads'
import type { Command, Report } from '#forward/commands.ts'
import type { LinuxWorkerData } from './engine.ts'
import { type EventDescriptor, openEvent } from './linux/plane/event-descriptor.ts'
import { deathOf, startWorker } from './start-worker.ts'

export interface LinuxThreadHandlers {
  readonly onReport: (report: Report) => void
  /** It died of a bug. Called once, when nothing of it runs any more; not after `close`. */
  readonly onDeath: (error: Error) => void
}

export class LinuxThread {
  readonly #worker: Worker
  readonly #wake: EventDescriptor
  readonly #exited: Promise<void>
  #isClosed = false

  constructor(data: Omit<LinuxWorkerData, 'wakeFd'>, { onReport, onDeath }: LinuxThreadHandlers) {
    this.#wake = openEvent()
    this.#worker = startWorker<LinuxWorkerData>('./linux-worker', { ...data, wakeFd: this.#wake.fd })
    let died = new Error('the thread ended')
    this.#worker.on('message', (reports: Report[]) => {
      for (const report of reports) if (!this.#isClosed) onReport(report)
    })
    this.#worker.on('error', error => (died = deathOf(error)))
    this.#exited = new Promise(resolve =>
      this.#worker.once('exit', () => {
        this.#wake.close()
        resolve()
        if (!this.#isClosed) onDeath(died)
      }),
    )
  }

  send(commands: readonly Command[]): void {
    this.#worker.postMessage(commands)
    this.#wake.signal()
  }

  /** Asks it to end. A thread that sleeps in the kernel cannot be ended otherwise. */
  end(): void {
    this.#worker.postMessage('close')
    this.#wake.signal()
  }

  /** Ends it; nothing is reported afterwards. */
  async close(): Promise<void> {
    if (!this.#isClosed) this.end()
    this.#isClosed = true
    await this.#exited
  }
}
