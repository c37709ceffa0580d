// A data plane that failed is started again with the node around it: its sessions are gone, so little else is worth keeping.
// Failures that follow each other close are no accident, and then it is left alone.

import { HopliteError } from '#api/errors.ts'
import { own } from './log.ts'
import type { RunOptions } from './node.ts'

const FIRST_WAIT_MS = 200
const MAX_WAIT_MS = 10_000
/** As many failures within this time are a crash loop. */
const WINDOW_MS = 120_000
const MAX_FAILURES = 5

export interface KeepRunningOptions {
  /** Whether a node that fails again and again goes on, switched off and answering; otherwise its failure is thrown. */
  readonly canBeOff: boolean
  /** Milliseconds on a clock that never goes back. */
  readonly now: () => number
  /** From 0 up to 1. */
  readonly jitter: () => number
  /** Resolves after that time, or at once when the signal is aborted. */
  readonly wait: (ms: number, signal: AbortSignal) => Promise<void>
}

/** Runs `main` until it ends without DATA_PLANE_FAILED. Throws what else it throws. */
export async function keepRunning(
  main: (options: RunOptions) => Promise<void>,
  options: RunOptions,
  { canBeOff, now, jitter, wait }: KeepRunningOptions,
): Promise<void> {
  let failures: number[] = []
  let run = options
  while (!options.signal.aborted) {
    try {
      return await main(run)
    } catch (error) {
      if (!(error instanceof HopliteError && error.code === 'DATA_PLANE_FAILED')) throw error
      failures = [...failures.filter(at => now() - at < WINDOW_MS), now()]
      options.log.error('data plane failed', { error: own(error.message), failures: failures.length })
      const isLoop = failures.length >= MAX_FAILURES
      if (isLoop && !canBeOff) throw error
      if (isLoop) options.log.error('safe mode', { failures: failures.length })
      run = isLoop ? { ...options, startsOff: true, problem: error } : options
      const ms = Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** (failures.length - 1))
      await wait(ms * (0.5 + jitter()), options.signal)
    }
  }
}
