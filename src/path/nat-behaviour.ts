// How our NAT assigns external ports, from what several servers saw of one socket (RFC 4787 §4.1). Two servers that see
// different ports show an endpoint-dependent ("symmetric") mapping; the steps between ports, in the order the requests were
// sent, show whether the next one can be foretold.

import type { Address } from '#wire/address.ts'
import type { NatBehaviour } from '#wire/path-offer.ts'

/** What one server saw. */
export interface Observation {
  readonly server: string
  readonly mapped: Address
  /** Requests are numbered in the order they were sent. */
  readonly order: number
}

/** A larger step is chance, or too many other users to follow. */
const MAX_STEP = 16

export const UNKNOWN_NAT: NatBehaviour = { mapping: 'unknown', lastPort: 0, step: 0 }

/** What the observations of one socket and family say; servers with the same IP address count once. */
export function natBehaviour(observations: readonly Observation[]): NatBehaviour {
  const seen = observations.toSorted((a, b) => a.order - b.order)
  const last = seen.at(-1)
  if (last === undefined) return UNKNOWN_NAT
  const lastPort = last.mapped.port
  if (new Set(seen.map(({ server }) => server)).size < 2) return { mapping: 'unknown', lastPort, step: 0 }
  const first = seen[0] as Observation
  if (seen.every(({ mapped }) => mapped.port === lastPort && mapped.host === first.mapped.host)) {
    return { mapping: 'independent', lastPort, step: 0 }
  }
  const steps = seen.slice(1).map(({ mapped, order }, i) => {
    const before = seen[i] as Observation
    return (mapped.port - before.mapped.port) / (order - before.order)
  })
  const step = Math.sign(steps[0] ?? 0) * Math.min(...steps.map(Math.abs))
  // Other users' mappings fall between ours: every step is a multiple of the smallest, and small.
  const isSequential = steps.every(
    each => Math.sign(each) === Math.sign(step) && Math.abs(each) <= MAX_STEP && Number.isInteger(each / step),
  )
  return { mapping: 'dependent', lastPort, step: isSequential && Number.isInteger(step) ? step : 0 }
}
