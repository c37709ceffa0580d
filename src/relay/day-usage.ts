// How much was carried on a day, as it is kept across restarts: one line of JSON.

import type { DayUsage } from './wireguard-gate.ts'

/** More than this is read from no such file. */
export const MAX_USAGE_BYTES = 256

/** The file's text. */
export function encodeUsage({ day, bytes }: DayUsage): string {
  return `${JSON.stringify({ version: 1, day, bytes })}\n`
}

/** Reads what `encodeUsage` wrote; `undefined` when it is anything else. */
export function decodeUsage(text: string): DayUsage | undefined {
  try {
    const { version, day, bytes } = (JSON.parse(text) ?? {}) as { version?: unknown; day?: unknown; bytes?: unknown }
    if (version !== 1 || typeof day !== 'string' || !/^\d{4}-\d{2}-\d{2}$/.test(day)) return undefined
    return Number.isSafeInteger(bytes) && (bytes as number) >= 0 ? { day, bytes: bytes as number } : undefined
  } catch {
    return undefined
  }
}
