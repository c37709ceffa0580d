// A data plane that failed is started again with the node around it: its sessions are gone, so little else is worth keeping.
// Failures that follow each other close are no accident, and then it is left alone.

import { HopliteError } from '#api/errors.ts'
import { Failures } from '#platform/failures.ts'
import { own } from './log.ts'
import type { RunOptions } from './node.ts'

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
  const failures = new Failures()
  let run = options
  while (!options.signal.aborted) {
    try {
      return await main(run)
    } catch (error) {
      if (!(error instanceof HopliteError && error.code === 'DATA_PLANE_FAILED')) throw error
      const { count, isLoop, waitMs } = failures.add(now())
      options.log.error('data plane failed', { error: own(error.message), failures: count })
      if (isLoop && !canBeOff) throw error
      if (isLoop) options.log.error('safe mode', { failures: count })
      run = isLoop ? { ...options, startsOff: true, problem: error } : options
      await wait(waitMs * (0.5 + jitter()), options.signal)
    }
  }
}
