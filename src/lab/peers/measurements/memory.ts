import type { Figures } from '../figures.ts'
import { usageOf } from '../process-usage.ts'
import type { Measured } from './measurement.ts'

/** The most memory that a process of the client, and that any process, has had since it was started. */
export async function memory({ subject }: Measured): Promise<Figures> {
  const usage = usageOf(subject.processes())
  const most = (some: typeof usage) => Math.max(...some.map(({ peakMemoryBytes }) => peakMemoryBytes))
  const ofClient = usage.filter(({ name }) => name.startsWith('client'))
  return {
    ...(ofClient.length > 0 && { clientPeakMemoryBytes: most(ofClient) }),
    ...(usage.length > 0 && { largestPeakMemoryBytes: most(usage) }),
  }
}
