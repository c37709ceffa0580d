// Signs of life from one process to another: whoever is watched says every so often that its loop turns, and whoever watches
// counts how often nothing came. It counts by its own turns and not by a clock, so a machine that slept, or one that is too busy
// for both of them, ends nobody.

/** How often a sign is given. */
export const BEAT_MS = 5_000
/** So many turns without a sign are no accident. */
const MAX_MISSED = 6

export class Heartbeat {
  #missed: number | undefined

  /** A sign came; from the first one on it is waited for the next. */
  handleBeat(): void {
    this.#missed = 0
  }

  /** A turn of `BEAT_MS` has passed: whether it has been silent for too long. Then it begins anew. */
  handleTurn(): boolean {
    if (this.#missed === undefined) return false
    this.#missed++
    if (this.#missed <= MAX_MISSED) return false
    this.#missed = undefined
    return true
  }
}

/** Gives signs until it is disposed of; the next one not before the other side has room for it. Holds no process open. */
export function giveSigns(send: (done: () => void) => void, everyMs = BEAT_MS): Disposable {
  let isUnderWay = false
  const give = () => {
    if (isUnderWay) return
    isUnderWay = true
    send(() => {
      isUnderWay = false
    })
  }
  give()
  const timer = setInterval(give, everyMs).unref()
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

/**
 * Calls `onSilent` when no sign came for too long, until it is disposed of. While the watcher itself is busy with what it was asked,
 * and reads no signs, none is missed. Holds no process open.
 */
export function watchFor(
  heartbeat: Heartbeat,
  onSilent: () => void,
  {
    everyMs = BEAT_MS,
    isBusy = () => false,
  }: { readonly everyMs?: number | undefined; readonly isBusy?: () => boolean } = {},
): Disposable {
  const timer = setInterval(() => {
    if (!isBusy() && heartbeat.handleTurn()) onSilent()
  }, everyMs).unref()
  return { [Symbol.dispose]: () => clearInterval(timer) }
}
