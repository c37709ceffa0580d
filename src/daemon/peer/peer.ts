// What a peer lends, kept within what its operator gives: counts what the data plane carries, ends everything when the day's
// volume is used or the hours are over, and keeps the day's volume in a file, so that a restart does not lend it twice.

import path from 'node:path'
import type { PeerStatus } from '#api/table.ts'
import type { Counters } from '#forward/counters.ts'
import type { Engine } from '#platform/engine.ts'
import { readStateFile, setAside, writeStateFile } from '#platform/state/state-file.ts'
import { decodeUsage, encodeUsage, MAX_USAGE_BYTES } from '#relay/day-usage.ts'
import { type Closed, calendarAt, type DayUsage, WireGuardGate, type WireGuardLimits } from '#relay/wireguard-gate.ts'
import type { ExitPolicy } from '#stream/exit-policy.ts'
import { type Config, parseHours } from '../config.ts'
import { type Log, own } from '../log.ts'

const SAMPLE_MS = 1_000
/** A crash loses at most this much of the count; addresses of this machine are looked up anew as often. */
const SAVE_MS = 60_000
/** A client has one flow to each server that it reaches through us. */
const MAX_FLOWS_PER_CLIENT = 8
const MIB = 2 ** 20

export interface PeerOptions {
  readonly limits: Config['peer']
  readonly stateDir: string
  readonly log: Log
  /** Where WireGuard servers may be; asked again as this machine's addresses change. */
  readonly makePolicy: () => ExitPolicy
  /** Whether flows to other hops are lent too: the node does nothing else. */
  readonly lendsHops: boolean
  /** Milliseconds of the clock that the hop machine runs by. */
  readonly now: () => number
  readonly unixNow: () => number
  /** Ends every flow that was admitted. */
  readonly end: () => void
}

export class Peer {
  readonly gate: WireGuardGate
  readonly #options: PeerOptions
  #limits: Config['peer']
  #engine: Pick<Engine, 'counters' | 'send'> | undefined
  #policy: ExitPolicy
  #counters: Counters | undefined
  #timer: NodeJS.Timeout | undefined
  #counted = 0
  #closed: Closed
  #saved: DayUsage | undefined
  #savedMs: number

  constructor(options: PeerOptions) {
    const { limits, makePolicy, now } = options
    this.#options = options
    this.#limits = limits
    this.#policy = makePolicy()
    this.#saved = this.#load()
    this.#savedMs = now()
    this.gate = new WireGuardGate(
      {
        limits: gateLimits(limits),
        mayReach: ({ host, port }) => this.#policy.allows(host, port),
        calendar: at => this.#calendar(at),
      },
      now(),
      this.#saved,
    )
  }

  /** Begins to count what `engine` carries, and bounds its rate. */
  start(engine: Pick<Engine, 'counters' | 'send'>): void {
    this.#engine = engine
    this.#counters = engine.counters
    this.#limitRate()
    this.#timer = setInterval(() => this.sample(), SAMPLE_MS)
    this.sample()
  }

  /** Lends within these limits from now on. */
  relimit(limits: Config['peer']): void {
    this.#limits = limits
    this.gate.relimit(gateLimits(limits))
    this.#limitRate()
    if (this.#engine !== undefined) this.sample()
  }

  /** Counts what was carried since the last call, and ends or begins lending when it is time. */
  sample(): void {
    const now = this.#options.now()
    const carried = this.#carried()
    this.gate.handleCarried(Math.max(0, carried - this.#counted), now)
    this.#counted = carried
    const closed = this.gate.closed(now)
    if (closed !== this.#closed) this.#change(closed)
    if (now - this.#savedMs < SAVE_MS) return
    this.#savedMs = now
    this.#save()
    this.#policy = this.#options.makePolicy()
  }

  status(): PeerStatus {
    const { now } = this.#options
    const limits = this.#limits
    const closed = this.gate.closed(now())
    return {
      clients: this.gate.clients,
      maxClients: limits.max_clients,
      flows: this.gate.flows,
      bytesOut: this.#counters?.get('lentBytesOut') ?? 0,
      bytesIn: this.#counters?.get('lentBytesIn') ?? 0,
      bytesToday: this.gate.carried.bytes,
      bytesPerDay: limits.volume_mib_per_day * MIB,
      rateKbit: limits.rate_kbit,
      hours: limits.hours,
      ...(closed && { closed }),
      refused: Object.fromEntries(this.gate.refused),
    }
  }

  /** Stops counting, and keeps the count. */
  close(): void {
    clearInterval(this.#timer)
    if (this.#counters === undefined) return
    this.gate.handleCarried(Math.max(0, this.#carried() - this.#counted), this.#options.now())
    this.#save()
  }

  #limitRate(): void {
    const bytesPerSecond = (this.#limits.rate_kbit * 1000) / 8
    this.#engine?.send({ kind: 'limitLent', bytesPerSecond, hops: this.#options.lendsHops })
  }

  #change(closed: Closed): void {
    this.#closed = closed
    if (closed === undefined) return this.#options.log.info('lending again')
    this.#options.log.info('lending nothing until later', { why: own(closed) })
    this.#options.end()
    this.#save()
  }

  #carried(): number {
    const counters = this.#counters
    if (counters === undefined) return 0
    return counters.get('lentBytesOut') + counters.get('lentBytesIn')
  }

  /** The operator's wall clock, when the hop's shows `at`. */
  #calendar(at: number): { readonly hour: number; readonly day: string } {
    const unix = this.#options.unixNow() + at - this.#options.now()
    return calendarAt(-new Date(unix).getTimezoneOffset() * 60_000)(unix)
  }

  #load(): DayUsage | undefined {
    const bytes = readStateFile(this.#file, MAX_USAGE_BYTES)
    if (bytes === undefined) return undefined
    const usage = decodeUsage(Buffer.from(bytes).toString('utf8'))
    if (usage === undefined) {
      setAside(this.#file)
      this.#options.log.warn('damaged state file set aside')
    }
    return usage
  }

  /** A full disk costs the count, not the service. */
  #save(): void {
    const usage = this.gate.carried
    if (usage.day === this.#saved?.day && usage.bytes === this.#saved.bytes) return
    try {
      writeStateFile(this.#file, encodeUsage(usage))
      this.#saved = usage
    } catch {
      this.#options.log.error('state file not written')
    }
  }

  get #file(): string {
    return path.join(this.#options.stateDir, 'peer-usage.json')
  }
}

function gateLimits(limits: Config['peer']): WireGuardLimits {
  const hours = parseHours(limits.hours)
  return {
    maxClients: limits.max_clients,
    maxFlowsPerClient: MAX_FLOWS_PER_CLIENT,
    bytesPerDay: limits.volume_mib_per_day * MIB,
    ...(hours && { hours }),
  }
}
