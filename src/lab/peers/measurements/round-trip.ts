// Round trips while nothing else moves, and while four TCP streams fill the path towards the client.

import type { Figures } from '../figures.ts'
import { percentile } from '../percentile.ts'
import type { Measured } from './measurement.ts'
import { transfer } from './throughput.ts'

/** Seldom enough to be no load: some schedulers gather what comes within ten milliseconds. */
const IDLE = { durationMs: 4_000, everyMs: 20 } as const
const LOADED_EVERY_MS = 2
const GRACE_MS = 10_000
const LOAD_LEAD_MS = 1_000

/** Median and 99th percentile; a message that never comes back counts as the longest. */
export async function roundTrip(measured: Measured): Promise<Figures> {
  const idle = await roundTrips(measured, IDLE)
  const [loaded] = await Promise.all([
    new Promise(resolve => setTimeout(resolve, LOAD_LEAD_MS)).then(() =>
      roundTrips(measured, { durationMs: measured.seconds * 1_000 - 500, everyMs: LOADED_EVERY_MS }),
    ),
    transfer(measured, { streams: 4, isInward: true }),
  ])
  return {
    ...(idle && { idleMedianMs: idle.median, idleP99Ms: idle.p99 }),
    ...(loaded && { loadedMedianMs: loaded.median, loadedP99Ms: loaded.p99 }),
  }
}

async function roundTrips({ lab, subject }: Measured, pace: { readonly durationMs: number; readonly everyMs: number }) {
  const limitMs = pace.durationMs + GRACE_MS
  const request = { verb: 'roundTrips', ...pace } as const
  const { sent, samplesMs } = await lab.probe<{ sent: number; samplesMs: number[] }>(subject.access, request, limitMs)
  const lost = Array.from({ length: sent - samplesMs.length }, () => Infinity)
  const [median, p99] = [percentile([...samplesMs, ...lost], 50), percentile([...samplesMs, ...lost], 99)]
  return median === undefined || p99 === undefined ? undefined : { median, p99 }
}
