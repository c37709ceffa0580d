// How long to wait before a remote is asked again that did not answer: twice as long each time up to a bound, and never the
// same for two nodes, so that those that lost it together do not come back together.

import type { Random } from '#crypto/random.ts'

export interface BackoffOptions {
  readonly firstMs: number
  readonly mostMs: number
  readonly random: Random
}

export class Backoff {
  readonly #options: BackoffOptions
  #nextMs: number

  constructor(options: BackoffOptions) {
    this.#options = options
    this.#nextMs = options.firstMs
  }

  /** The wait after a failure: from a half of its step up to one and a half. */
  fail(): number {
    const { mostMs, random } = this.#options
    const step = this.#nextMs
    this.#nextMs = Math.min(step * 2, mostMs)
    return jittered(step, random)
  }

  succeed(): void {
    this.#nextMs = this.#options.firstMs
  }
}

/** From a half of a time up to one and a half. */
export function jittered(ms: number, random: Random): number {
  return Math.round(ms * (0.5 + (random(1)[0] ?? 0) / 255))
}
