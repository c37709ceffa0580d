// When a pair that works is asked whether it still does, and when it is taken for dead. Each answer is consent to be sent to
// (RFC 7675), each question keeps the NAT's mapping.
//
//   in use, with traffic     every 400 ms: a dead path is left within two seconds
//   kept, with traffic       every 4 s
//   kept, idle               as often as the NAT needs
//   not kept                 never again; forgotten after 20 s

import type { Pair } from './checklist.ts'

/** A pair in use is asked this often while there is traffic, or while it does not answer. */
export const BUSY_CHECK_MS = 400
/** Pairs that are not in use, while there is traffic. */
const SPARE_CHECK_MS = 4_000
/** Pairs that work and are not kept are forgotten after this long. */
const UNUSED_MS = 20_000
/** A pair is dead after this long without an answer and this many questions. */
const SILENT_MS = 1_400
export const SILENT_CHECKS = 4

export interface Keeping {
  /** The pairs that are kept, the one in use first. */
  readonly kept: readonly (Pair | undefined)[]
  /** There is traffic until then. */
  readonly busyUntilMs: number
  readonly keepaliveMs: number
}

/** When a pair that works is asked, or let go of if it is none of those that are kept. */
export function nextAskMs(pair: Pair, { kept, busyUntilMs, keepaliveMs }: Keeping): number {
  if (!kept.includes(pair)) return pair.heardMs + UNUSED_MS
  if (pair.unanswered > 0) return pair.askedMs + BUSY_CHECK_MS
  if (pair.askedMs >= busyUntilMs) return pair.askedMs + keepaliveMs
  return pair.askedMs + (pair === kept[0] ? BUSY_CHECK_MS : SPARE_CHECK_MS)
}

/** Whether it was asked often enough, for long enough, for nothing. */
export function isSilent(pair: Pair, now: number): boolean {
  const deadAfterMs = Math.max(SILENT_MS, 3 * (pair.rttMs ?? 0))
  return pair.unanswered >= SILENT_CHECKS && now - pair.silentSinceMs >= deadAfterMs
}
