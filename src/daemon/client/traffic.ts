// Bytes carried in each second, for five minutes. The oldest second goes first.

import type { Output } from '#api/table.ts'

const MAX_SAMPLES = 300

export class Traffic {
  readonly #inward: number[] = []
  readonly #outward: number[] = []
  #before: { readonly inward: number; readonly outward: number } | undefined
  #atMs = 0

  /** Takes the counters as they stand; gives what was added since the last call. */
  sample(atMs: number, inward: number, outward: number): { readonly inward: number; readonly outward: number } {
    const before = this.#before ?? { inward, outward }
    const added = { inward: Math.max(inward - before.inward, 0), outward: Math.max(outward - before.outward, 0) }
    this.#before = { inward, outward }
    this.#atMs = atMs
    this.#inward.push(added.inward)
    this.#outward.push(added.outward)
    if (this.#inward.length > MAX_SAMPLES) {
      this.#inward.shift()
      this.#outward.shift()
    }
    return added
  }

  history(): Output<'traffic'> {
    return { at: this.#atMs, inward: [...this.#inward], outward: [...this.#outward] }
  }
}
