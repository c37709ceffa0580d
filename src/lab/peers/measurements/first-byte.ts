// Time to first byte: of a new connection, and of the first one after the client has been started.

import type { Figures } from '../figures.ts'
import { percentile } from '../percentile.ts'
import { monotonicMs } from '../probes/first-byte.ts'
import type { Measured } from './measurement.ts'

const TIMES = 20
const LIMIT_MS = 30_000
const PROBE_START_MS = 5_000

/** The median of 20 new connections through a client that has been up for a while. */
export async function firstByte({ lab, subject }: Measured): Promise<Figures> {
  const request = { verb: 'firstBytes', times: TIMES } as const
  const { samplesMs } = await lab.probe<{ samplesMs: number[] }>(subject.access, request, LIMIT_MS)
  const median = percentile(samplesMs, 50)
  return median === undefined ? {} : { firstByteMs: median }
}

/** From the start of the client's processes, with what they had kept on disk, to the first byte from the origin. */
export async function firstByteAfterStart({ lab, subject }: Measured): Promise<Figures> {
  if (subject.client === undefined) return {}
  await subject.client.stop()
  const probe = lab.startProbe(subject.access, { verb: 'await', limitMs: LIMIT_MS })
  await probe.says(/asking/, PROBE_START_MS)
  const startedMs = monotonicMs()
  await subject.client.start()
  const { atMs } = JSON.parse(await probe.lastLine(LIMIT_MS + PROBE_START_MS)) as { atMs: number }
  return { firstByteAfterStartMs: atMs - startedMs }
}
