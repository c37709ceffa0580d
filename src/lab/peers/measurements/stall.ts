// A hop is killed under a download.

import type { Figures } from '../figures.ts'
import type { Stall } from '../probes/stall.ts'
import type { Measured } from './measurement.ts'

const LIMIT_MS = 12_000
const FLOW_MS = 20_000

/** The longest time without a byte, `Infinity` when none came within 12 s, and how many connections it took. */
export async function stall({ lab, subject }: Measured): Promise<Figures> {
  if (subject.killHop === undefined) return {}
  const probe = lab.startProbe(subject.access, { verb: 'stall', limitMs: LIMIT_MS })
  await probe.says(/flowing/, FLOW_MS)
  await subject.killHop()
  const { longestStallMs, isOver, connections } = JSON.parse(await probe.lastLine(LIMIT_MS + FLOW_MS)) as Stall
  return { longestStallMs: isOver ? longestStallMs : Infinity, connectionsAfterKill: connections - 1 }
}
