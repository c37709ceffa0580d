// Laboratory: what several workers saw, put together as one observation.

import type { Observation, Report } from '#forward/commands.ts'

type ObservationReport = Extract<Report, { readonly kind: 'observation' }>

export class ObservationRound {
  readonly #report: (report: ObservationReport) => void
  readonly #open = new Map<number, { readonly missing: Set<number>; seen: Observation }>()

  constructor(report: (report: ObservationReport) => void) {
    this.#report = report
  }

  /** These workers are asked. */
  begin(request: number, workers: readonly number[]): void {
    const seen = { addresses: [], markerOnWire: false, markerInside: false }
    this.#open.set(request, { missing: new Set(workers), seen })
  }

  handle({ request, observation }: ObservationReport, worker: number): void {
    const round = this.#open.get(request)
    if (round === undefined) return this.#report({ kind: 'observation', request, observation })
    const { seen } = round
    round.seen = {
      addresses: [...new Set([...seen.addresses, ...observation.addresses])],
      markerOnWire: seen.markerOnWire || observation.markerOnWire,
      markerInside: seen.markerInside || observation.markerInside,
    }
    round.missing.delete(worker)
    this.#finish(request)
  }

  /** A worker that died will not answer. */
  leave(worker: number): void {
    for (const [request, { missing }] of this.#open) if (missing.delete(worker)) this.#finish(request)
  }

  #finish(request: number): void {
    const round = this.#open.get(request)
    if (round === undefined || round.missing.size > 0) return
    this.#open.delete(request)
    this.#report({ kind: 'observation', request, observation: round.seen })
  }
}
