// The two clocks: one that never jumps, for intervals, and the wall clock, for dates that others see.

import { hrtime } from 'node:process'

/** Milliseconds since some moment; the same clock in every thread of the process. */
export function monotonicMs(): number {
  return Number(hrtime.bigint() / 1000n) / 1000
}
