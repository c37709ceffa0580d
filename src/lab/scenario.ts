// What a scenario is: it drives a network, measures, and says which promises held.

export interface Bench {
  /** Tells a person what is going on. */
  say(text: string): void
  /** Records a measurement; the key has its unit at the end. */
  figure(key: string, value: number | string): void
  /** Records whether a promise held. */
  promise(text: string, held: boolean): void
  /** Bytes to move, where the caller wants another amount than usual. */
  readonly size: number | undefined
  /** How long, where the caller wants it longer or shorter than usual. */
  readonly minutes: number | undefined
}

export type Scenario = (bench: Bench) => Promise<void>

export interface Report {
  readonly failed: string[]
  readonly figures: Record<string, number | string>
}
