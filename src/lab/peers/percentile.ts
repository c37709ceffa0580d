/**
 * The value that the share `percent` (over 0, up to 100) of the values does not exceed, by nearest rank; the values need not be
 * sorted, and `undefined` comes of none.
 */
export function percentile(values: readonly number[], percent: number): number | undefined {
  const rank = Math.ceil((percent / 100) * values.length)
  return values.toSorted((a, b) => a - b)[Math.max(rank, 1) - 1]
}
