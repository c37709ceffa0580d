// Blinding away from the main thread: a token costs some 30 ms, and a wallet takes a hundred at a time while the main thread has
// routes to watch. The thread is started by the first question and ends when none has come for a while.
//
// Bound: the caller's; a wallet asks for one token after the other.

import { Worker } from 'node:worker_threads'
import type { Blinded, TokenKey } from '#crypto/blind-rsa.ts'
import { siblingModule } from './module-url.ts'

const IDLE_MS = 10_000

export interface BlindingQuestion {
  /** The token key as it is published. */
  readonly encoded: Uint8Array
  readonly message: Uint8Array
  /** To be finalized; without it the message is to be blinded. */
  readonly signed?: { readonly signature: Uint8Array; readonly inverse: Uint8Array }
}

export type BlindingAnswer = Blinded | Uint8Array | undefined

interface Waiting {
  readonly resolve: (answer: BlindingAnswer) => void
  readonly reject: (error: unknown) => void
}

/** `blind` and `finalize` of #crypto/blind-rsa.ts, in a worker. */
export class BlindingThread {
  #worker: Worker | undefined
  #waiting: Waiting[] = []
  #idle: NodeJS.Timeout | undefined

  async blind(key: TokenKey, message: Uint8Array): Promise<Blinded> {
    const blinded = await this.#ask({ encoded: key.encoded, message })
    if (blinded === undefined || blinded instanceof Uint8Array) throw new Error('blind: not a token key')
    return blinded
  }

  async finalize(
    key: TokenKey,
    message: Uint8Array,
    signature: Uint8Array,
    inverse: Uint8Array,
  ): Promise<Uint8Array | undefined> {
    const token = await this.#ask({ encoded: key.encoded, message, signed: { signature, inverse } })
    return token instanceof Uint8Array ? token : undefined
  }

  /** Ends the thread; what it was asked is rejected. */
  async close(): Promise<void> {
    clearTimeout(this.#idle)
    await this.#worker?.terminate()
  }

  #ask(question: BlindingQuestion): Promise<BlindingAnswer> {
    clearTimeout(this.#idle)
    const worker = this.#worker ?? this.#start()
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      worker.postMessage(question)
    })
  }

  #start(): Worker {
    const worker = new Worker(siblingModule(import.meta.url, './blinding-worker'))
    let failure: unknown = new Error('blind: the thread ended')
    worker.on('message', (answer: BlindingAnswer) => {
      this.#waiting.shift()?.resolve(answer)
      if (this.#waiting.length > 0) return
      this.#idle = setTimeout(() => void worker.terminate(), IDLE_MS)
      this.#idle.unref()
    })
    worker.on('error', error => {
      failure = error
    })
    worker.once('exit', () => {
      this.#worker = undefined
      for (const { reject } of this.#waiting.splice(0)) reject(failure)
    })
    this.#worker = worker
    return worker
  }
}
