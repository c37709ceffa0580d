// One subject after another: each on a network of its own, built for it and taken down after it.

import type { Figures, Outcome, Row } from './figures.ts'
import { firstByte, firstByteAfterStart } from './measurements/first-byte.ts'
import type { Measurement } from './measurements/measurement.ts'
import { roundTrip } from './measurements/round-trip.ts'
import { stall } from './measurements/stall.ts'
import { throughput } from './measurements/throughput.ts'
import { udpRate } from './measurements/udp-rate.ts'
import { type Usage, usageOf } from './process-usage.ts'
import type { RunningSubject, Subject } from './subject.ts'
import { PeerLab } from './topology.ts'

const READY_MS = 45_000

/** The gentle ones first: queues that a throughput run leaves behind would be measured by what follows. */
const MEASUREMENTS: readonly Measurement[] = [firstByte, roundTrip, udpRate, throughput]
/** They end processes, so what those have used is read before. */
const DISRUPTIONS: readonly Measurement[] = [firstByteAfterStart, stall]

export interface MeasureOptions {
  /** How long each TCP run takes; other measurements are in proportion. */
  readonly seconds: number
  /** Hears of progress. */
  readonly say?: (text: string) => void
  /** Instead of all of them. */
  readonly measurements?: readonly Measurement[]
}

/** Measures a subject; whatever goes wrong is in the row. */
export async function measure(subject: Subject, options: MeasureOptions): Promise<Row> {
  const reason = subject.missing()
  const row = { name: subject.name, title: subject.title, hops: subject.hops }
  if (reason !== undefined) return { ...row, version: '', outcome: { kind: 'missing', reason } }
  const version = await subject.version().catch(() => '')
  const outcome = await measureAll(subject, options).catch(
    (error): Outcome => ({ kind: 'failed', reason: messageOf(error) }),
  )
  return { ...row, version, outcome }
}

async function measureAll(subject: Subject, options: MeasureOptions): Promise<Outcome> {
  const { seconds, say = () => undefined, measurements = MEASUREMENTS } = options
  await using lab = await PeerLab.build()
  const figures: Figures = {}
  const failures: string[] = []
  const started = await subject.start(lab)
  await ready(lab, started)
  const take = async (measurement: Measurement) => {
    say(`  ${measurement.name}`)
    try {
      Object.assign(figures, await measurement({ lab, subject: started, seconds }))
    } catch (error) {
      failures.push(`${measurement.name}: ${messageOf(error)}`)
      say(`  ${failures.at(-1)}`)
    }
  }
  for (const measurement of measurements) await take(measurement)
  const processes = usageOf(started.processes())
  Object.assign(figures, memoryOf(processes))
  for (const measurement of DISRUPTIONS) await take(measurement)
  return { kind: 'measured', figures, failures, processes }
}

async function ready(lab: PeerLab, { access }: RunningSubject): Promise<void> {
  await lab.probe(access, { verb: 'await', limitMs: READY_MS }, READY_MS + 5_000)
}

/** The most memory that a process of the client, and that any process, has had. */
function memoryOf(processes: readonly Usage[]): Figures {
  const most = (some: readonly Usage[]) => Math.max(...some.map(({ peakMemoryBytes }) => peakMemoryBytes))
  const ofClient = processes.filter(({ name }) => name.startsWith('client'))
  return {
    ...(ofClient.length > 0 && { clientPeakMemoryBytes: most(ofClient) }),
    ...(processes.length > 0 && { largestPeakMemoryBytes: most(processes) }),
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
