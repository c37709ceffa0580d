// How much a relay has shown that it can carry: the highest rate over ten seconds, in the last day. Clients draw relays by
// this, so a relay that says it has a fast line and has a slow one is not drowned. Pure.
//
// One peak is kept for each of the last 24 hours. A relay that has carried nothing yet counts as MIN_KBIT.

export const SAMPLE_MS = 10_000
export const MIN_KBIT = 1_000
const HOUR_MS = 3_600_000
const HOURS = 24

export class CapacityMeter {
  /** Peak rate by hour, newest last; kbit/s. */
  readonly #peaks: { readonly hour: number; kbit: number }[] = []
  #last: { readonly bytes: number; readonly atMs: number } | undefined

  /** Takes the bytes carried since the start; call it about every ten seconds. */
  sample(bytes: number, now: number): void {
    const last = this.#last
    if (last !== undefined && now - last.atMs < SAMPLE_MS) return
    this.#last = { bytes, atMs: now }
    if (last === undefined || bytes < last.bytes) return
    const kbit = ((bytes - last.bytes) * 8) / (now - last.atMs)
    const hour = Math.floor(now / HOUR_MS)
    const current = this.#peaks.at(-1)
    if (current?.hour === hour) current.kbit = Math.max(current.kbit, kbit)
    else this.#peaks.push({ hour, kbit })
    while ((this.#peaks[0]?.hour ?? hour) <= hour - HOURS) this.#peaks.shift()
  }

  /** What to tell others: the highest rate shown, at least MIN_KBIT and at most `limitKbit`. */
  kbit(limitKbit: number): number {
    const shown = Math.max(MIN_KBIT, ...this.#peaks.map(({ kbit }) => Math.round(kbit)))
    return Math.min(shown, limitKbit)
  }
}
