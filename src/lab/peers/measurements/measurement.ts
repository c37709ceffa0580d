import type { Figures } from '../figures.ts'
import type { RunningSubject } from '../subject.ts'
import type { PeerLab } from '../topology.ts'

export interface Measured {
  readonly lab: PeerLab
  readonly subject: RunningSubject
  /** How long each TCP run lasts after its warm-up; other measurements are in proportion. */
  readonly seconds: number
}

/** Takes some figures of a running subject. One whose means a subject does not have gives none. */
export type Measurement = (measured: Measured) => Promise<Figures>
