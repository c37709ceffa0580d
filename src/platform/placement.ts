// Which worker is to own the next session. A pure function.

export interface WorkerLoad {
  /** Whether it takes sessions: not while it is started again. */
  readonly isUp: boolean
  readonly sessions: number
  /** The part of a core that it uses: 0 to 1. */
  readonly busy: number
}

/** A worker takes megabytes: another is started for what one cannot do, or for clients who may all want something at once. */
const BUSY = 0.25
const SESSIONS_EACH = 2
/** More than these run only where there is work. */
const MOST_IDLE = 4
/** Differences in work below this are chance. */
const STEP = 0.1

/** The number of a worker: of those that there are the idlest, or the next one, to be started; there are at most `most`. */
export function place(workers: readonly WorkerLoad[], most: number): number {
  let best = -1
  for (const [i, load] of workers.entries()) {
    const than = workers[best]
    if (load.isUp && (than === undefined || compare(load, than) < 0)) best = i
  }
  const idlest = workers[best]
  const isSpread = workers.length >= MOST_IDLE || (idlest !== undefined && idlest.sessions < SESSIONS_EACH)
  const isEnough = isSpread && idlest !== undefined && idlest.busy < BUSY
  if (!isEnough && workers.length < most) return workers.length
  return Math.max(best, 0)
}

function compare(a: WorkerLoad, b: WorkerLoad): number {
  return Math.round(a.busy / STEP) - Math.round(b.busy / STEP) || a.sessions - b.sessions
}
