// Keeps what a tunnel has changed of the network as it is, while somebody runs it. Others change firewall and rules too: a
// firewall service that starts again flushes every table, a network manager takes rules away that it does not know. Each such
// change is news of the kernel; what is there is then compared with what should be, and put back.

import type { ChangeNews } from './change-news.ts'

const EVERY_MS = 200
/** Whoever changes much of their own does not keep us busy. */
const LEAST_MS = 1_000

export interface NetworkGuardOptions {
  readonly news: ChangeNews
  /** What there is of ours, as a text; what others do beside it is not in it. */
  readonly look: () => Promise<string>
  /** Puts it back. */
  readonly mend: () => Promise<void>
  /** Runs it when nobody else is changing the network. */
  readonly inTurn: (act: () => Promise<void>) => Promise<void>
  /** Hears that somebody has changed it, and why it could not be put back, if so. */
  readonly onChanged: (error?: unknown) => void
}

export class NetworkGuard implements Disposable {
  readonly #options: NetworkGuardOptions
  readonly #timer: NodeJS.Timeout
  #expected = ''
  #hasNews = false
  #isLooking = false
  #lookedMs = Number.NEGATIVE_INFINITY

  constructor(options: NetworkGuardOptions) {
    this.#options = options
    this.#timer = setInterval(() => void this.#check(), EVERY_MS)
    this.#timer.unref()
  }

  /** What is there now is as it should be. */
  async settle(): Promise<void> {
    this.#expected = await this.#options.look()
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
    this.#options.news[Symbol.dispose]()
  }

  async #check(): Promise<void> {
    if (this.#options.news.take()) this.#hasNews = true
    const now = performance.now()
    if (!this.#hasNews || this.#isLooking || now - this.#lookedMs < LEAST_MS) return
    this.#hasNews = false
    this.#isLooking = true
    this.#lookedMs = now
    const { inTurn, onChanged } = this.#options
    await inTurn(() => this.#compare()).catch(onChanged)
    this.#isLooking = false
  }

  async #compare(): Promise<void> {
    const { look, mend, onChanged } = this.#options
    if ((await look()) === this.#expected) return
    await mend()
    onChanged()
    await this.settle()
  }
}
