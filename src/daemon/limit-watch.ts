// Limits that a node has reached, in plain words: which one, and what to do. Pure: readings and counters go in. What is counted stays
// told for some minutes after it was counted last, so that whoever looks at the trouble finds its cause.

import type { Status } from '#api/table.ts'
import type { ProcessReadings, Share } from '#platform/process-limits.ts'

export type Limit = NonNullable<Status['limits']>[number]

export interface LimitReadings extends ProcessReadings {
  readonly counters: Readonly<Record<string, number>>
}

const TOLD_MS = 5 * 60_000
/** What comes and goes is told once. */
const LASTS_MS = 60_000
const MIB = 2 ** 20
/** Near enough to the end that the next burst meets it. */
const NEARLY = 0.95
const NEARLY_FULL_HEAP = 0.9
const LEAST_DISK = 4 * MIB

const FILES_ADVICE = 'raise it: ulimit -n 65536 before the start, or LimitNOFILE=65536 in the service'

/** What is refused for want of room, by the counter of it. */
const COUNTED: Readonly<Record<string, { readonly name: string; readonly what: string; readonly advice: string }>> = {
  noDescriptor: {
    name: 'open files',
    what: 'sockets that could not be opened, as the process has all the files that it may',
    advice: FILES_ADVICE,
  },
  dropSessionLimit: {
    name: 'sessions',
    what: 'clients that were turned away, as max_sessions are here',
    advice: 'raise max_sessions in [relay], if the machine can carry more',
  },
  refusedFlowLimit: {
    name: 'flows',
    what: 'flows that were refused, as max_flows are open',
    advice: 'raise max_flows in [relay], if the machine can carry more',
  },
  refusedMeetingLimit: {
    name: 'meetings',
    what: 'flows to be joined that were refused, as max_meetings are here',
    advice: 'raise max_meetings in [relay]',
  },
  refusedAddressLimit: {
    name: 'tunnel addresses',
    what: 'tunnels that were refused, as every address is given to somebody',
    advice: 'set a larger network for the tunnel in [exit]',
  },
  'proxy.dropped': {
    name: 'proxy connections',
    what: 'connections to the proxy that were turned away, as it serves no more at once',
    advice: 'find the program that keeps so many open',
  },
  'proxy.outOfFiles': {
    name: 'open files',
    what: 'connections to the proxy that were turned away, as the process has nearly all the files that it may',
    advice: FILES_ADVICE,
  },
  refusedForFiles: {
    name: 'open files',
    what: 'flows and streams that were refused, as the process has nearly all the files that it may',
    advice: FILES_ADVICE,
  },
}

export class LimitWatch {
  #counted: Readonly<Record<string, number>> = {}
  readonly #measured = new Map<string, { readonly limit: Limit; readonly atMs: number }>()
  /** By counter: when it grew last, and by how much since it was told first. */
  readonly #grew = new Map<string, { atMs: number; by: number }>()

  /** Every limit that is reached now, or was within the last minutes. */
  look(readings: LimitReadings, now: number): Limit[] {
    const { counters } = readings
    for (const name of Object.keys(COUNTED)) {
      const by = (counters[name] ?? 0) - (this.#counted[name] ?? 0)
      const before = this.#grew.get(name)
      if (before !== undefined && now - before.atMs >= TOLD_MS) this.#grew.delete(name)
      if (by > 0) this.#grew.set(name, { atMs: now, by: (this.#grew.get(name)?.by ?? 0) + by })
    }
    this.#counted = counters
    const counted = [...this.#grew].map(([counter, { by }]): Limit => {
      const { name, what, advice } = COUNTED[counter] ?? { name: counter, what: counter, advice: '' }
      return { name, problem: `${by} ${what}`, advice }
    })
    for (const limit of measure(readings)) this.#measured.set(limit.name, { limit, atMs: now })
    for (const [name, { atMs }] of this.#measured) if (now - atMs >= LASTS_MS) this.#measured.delete(name)
    const names = new Set(this.#measured.keys())
    return [
      ...[...this.#measured.values()].map(({ limit }) => limit),
      ...counted.filter(({ name }) => !names.has(name)),
    ]
  }
}

function measure({ files, heap, memory, diskFree }: ProcessReadings): Limit[] {
  const found: Limit[] = []
  if (files?.isFull)
    found.push({
      name: 'open files',
      problem: `${files.used} of the ${files.limit} files and sockets that the process may have are open: nobody is let in who needs one more`,
      advice: FILES_ADVICE,
    })
  if (memory !== undefined && isNearly(memory, NEARLY))
    found.push({
      name: 'memory',
      problem: `the process has ${inMib(memory)} of memory that it may use: beyond that the system ends it`,
      advice: 'give it more (MemoryMax= in the service, or of the container), or lower max_sessions in [relay]',
    })
  if (isNearly(heap, NEARLY_FULL_HEAP))
    found.push({
      name: 'heap',
      problem: `the control plane has ${inMib(heap)} of objects that it may have: beyond that it ends`,
      advice: 'lower max_sessions in [relay], or set NODE_OPTIONS=--max-old-space-size=4096; then report it',
    })
  if (diskFree !== undefined && diskFree < LEAST_DISK)
    found.push({
      name: 'disk',
      problem: `${(diskFree / MIB).toFixed(1)} MiB are left on the disk where the state is: what changes is not kept`,
      advice: 'make room on it, or move the state to another with --state-dir',
    })
  return found
}

function isNearly({ used, limit }: Share, share: number): boolean {
  return used >= limit * share
}

function inMib({ used, limit }: Share): string {
  return `${Math.round(used / MIB)} of the ${Math.round(limit / MIB)} MiB`
}
