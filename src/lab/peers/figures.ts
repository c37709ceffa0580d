// What is known of a subject after a run. A figure that could not be measured is absent; `Infinity` is "never" or "lost".

import type { Usage } from './process-usage.ts'

/** Units stand at the end of the names; outward is from the client to the origin. */
export const FIGURE_NAMES = [
  'oneOutwardBitsPerSecond',
  'oneInwardBitsPerSecond',
  'fourOutwardBitsPerSecond',
  'fourInwardBitsPerSecond',
  'cpuSecondsPerGigabyte',
  'udpPacketsPerSecond',
  'idleMedianMs',
  'idleP99Ms',
  'loadedMedianMs',
  'loadedP99Ms',
  'firstByteMs',
  'firstByteAfterStartMs',
  'clientPeakMemoryBytes',
  'largestPeakMemoryBytes',
  'longestStallMs',
  'connectionsAfterKill',
] as const
export type FigureName = (typeof FIGURE_NAMES)[number]
export type Figures = Partial<Record<FigureName, number>>

export type Outcome =
  | { readonly kind: 'missing'; readonly reason: string }
  | { readonly kind: 'failed'; readonly reason: string }
  | {
      readonly kind: 'measured'
      readonly figures: Figures
      /** What each process used over the whole run of the subject. */
      readonly processes: readonly Usage[]
      /** Measurements that did not succeed, and why. */
      readonly failures: readonly string[]
    }

/** A row of the table. */
export interface Row {
  readonly name: string
  readonly title: string
  readonly hops: number
  readonly version: string
  readonly outcome: Outcome
}
