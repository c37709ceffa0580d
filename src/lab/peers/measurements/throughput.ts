// TCP with one and with four streams, both ways, and the CPU time that all processes of the subject spend on it.

import type { FigureName, Figures } from '../figures.ts'
import { iperfTcp, type TcpResult } from '../iperf3.ts'
import { cpuSecondsOf } from '../process-usage.ts'
import type { Measured } from './measurement.ts'

const WARM_UP_SECONDS = 1
const GRACE_MS = 15_000

const RUNS: readonly { readonly figure: FigureName; readonly streams: number; readonly isInward: boolean }[] = [
  { figure: 'oneInwardBitsPerSecond', streams: 1, isInward: true },
  { figure: 'fourInwardBitsPerSecond', streams: 4, isInward: true },
  { figure: 'oneOutwardBitsPerSecond', streams: 1, isInward: false },
  { figure: 'fourOutwardBitsPerSecond', streams: 4, isInward: false },
]

/** Throughput of each run; the CPU seconds per gigabyte (10^9 bytes received) are of the two with a single stream. */
export async function throughput(measured: Measured): Promise<Figures> {
  const figures: Figures = {}
  const spent = { cpuSeconds: 0, bytes: 0 }
  for (const { figure, ...run } of RUNS) {
    const before = cpuSecondsOf(measured.subject.processes())
    const { bitsPerSecond, bytes } = await transfer(measured, run)
    figures[figure] = bitsPerSecond
    if (run.streams > 1) continue
    spent.cpuSeconds += cpuSecondsOf(measured.subject.processes()) - before
    spent.bytes += bytes
  }
  if (spent.cpuSeconds > 0) figures.cpuSecondsPerGigabyte = (spent.cpuSeconds * 1e9) / spent.bytes
  return figures
}

/** One run with its warm-up. */
export function transfer(
  { lab, subject, seconds }: Measured,
  run: { readonly streams: number; readonly isInward: boolean },
): Promise<TcpResult> {
  if (subject.access.kind === 'ip') return iperfTcp(lab, { ...run, seconds, warmUpSeconds: WARM_UP_SECONDS })
  const durations = { durationMs: seconds * 1_000, warmUpMs: WARM_UP_SECONDS * 1_000 }
  const limitMs = durations.durationMs + durations.warmUpMs + GRACE_MS
  return lab.probe<TcpResult>(subject.access, { verb: 'throughput', ...run, ...durations }, limitMs)
}
