// Whether somebody is waiting for packets: silence is then noticed sooner.

/** More datagrams than this in a second: somebody is. */
const BUSY_DATAGRAMS = 25
const WINDOW_MS = 1_000

export class BusyMeter {
  #last = { atMs: 0, datagrams: 0, isBusy: false }

  /** Whether datagrams flow, by their count since the start; judged once a second. */
  isBusy(datagrams: number, now: number): boolean {
    const last = this.#last
    if (now - last.atMs < WINDOW_MS) return last.isBusy
    const perSecond = ((datagrams - last.datagrams) * 1_000) / (now - last.atMs)
    this.#last = { atMs: now, datagrams, isBusy: perSecond > BUSY_DATAGRAMS }
    return this.#last.isBusy
  }
}
