// What every role needs: the data plane in its worker, the laboratory's observation, and an orderly end.

import { HopliteError } from '#api/errors.ts'
import type { Status } from '#api/table.ts'
import type { Observation, Report } from '#forward/commands.ts'
import { monotonicMs } from '#platform/clock.ts'
import { type Engine, type EngineKind, type EngineOptions, startEngineOf } from '#platform/engine.ts'
import { hasHelper } from '#platform/linux/helper/helper-channel.ts'
import { Observer } from '#platform/observer.ts'
import { OutOfMemoryError } from '#platform/start-worker.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import type { Dial } from './client/issuer-way.ts'
import type { Config } from './config.ts'
import { type Log, own } from './log.ts'
import { VERSION } from './version.ts'

/** Datagrams of the stream library longer than this are not carried: the way is sure to take 1,280 bytes and no more. */
export const MAX_STREAM_DATAGRAM = 1_172

export interface RunOptions {
  readonly stateDir: string
  readonly signal: AbortSignal
  readonly log: Log
  /** Where the configuration was read from, or would be written to; without it the platform's usual place. */
  readonly configFile?: string
  /** A client waits for `connect` before it builds a route. */
  readonly startsOff?: boolean
  /** A client serves one command: it has neither proxy nor API. */
  readonly isPrivate?: boolean
  /** How the issuer is reached through the routes of another node. */
  readonly dial?: Dial
  /** Called when the node answers on its control socket. */
  readonly onUp?: () => void
  /** Called when a person switches a client on or off. */
  readonly onSwitched?: (isOn: boolean) => void
  /** Why it starts switched off, for whoever asks. */
  readonly problem?: HopliteError
}

export interface EngineChoice extends Pick<EngineOptions, 'workers' | 'sockets'> {
  readonly config: Config
  readonly log: Log
}

/** Starts the data plane; resolves with the address that its socket has. */
export async function startEngine(
  listen: Address,
  { config, log, workers, sockets }: EngineChoice,
  onReport: (report: Report) => void,
  onFailure: (error: Error) => void,
): Promise<{ readonly engine: Engine; readonly address: Address }> {
  return new Promise((resolve, reject) => {
    let isUp = false
    const options: EngineOptions = {
      ...listen,
      maxStreamDatagram: MAX_STREAM_DATAGRAM,
      ...(workers !== undefined && { workers }),
      ...(sockets !== undefined && { sockets }),
      warmsUp: config.engine.warm_up,
      onReport: report => {
        if (isUp) return onReport(report)
        if (report.kind === 'failed') {
          const advice = 'another program uses this address, or it is not one of this machine; change the configuration'
          reject(new HopliteError('ADDRESS_IN_USE', `${report.what} (${formatAddress(listen)})`, advice))
          void engine.close()
        }
        if (report.kind !== 'listening') return
        isUp = true
        resolve({ engine, address: report.address })
      },
      onFailure: error => (isUp ? onFailure(error) : reject(error)),
    }
    const engine = chooseEngine(config.engine.kind, options, log)
  })
}

/** The fastest engine that works here, unless the configuration names one. */
function chooseEngine(wanted: 'auto' | EngineKind, options: EngineOptions, log: Log): Engine {
  if (wanted !== 'auto') return startEngineOf(wanted, options)
  if (process.platform !== 'linux') return startEngineOf('portable', options)
  try {
    return startEngineOf('linux', options)
  } catch (error) {
    if (!(error instanceof HopliteError)) throw error
    log.warn('the portable engine is used', { reason: own(error.message) })
    return startEngineOf('portable', options)
  }
}

/** Records what the control plane sees, and asks the data plane for what it saw (laboratory only). */
export class Laboratory {
  readonly #isOn: boolean
  readonly #waiting = new Map<number, (observation: Observation) => void>()
  #observer = new Observer(new Uint8Array([0]))
  #next = 1

  constructor(config: Config) {
    this.#isOn = config.lab.observe
  }

  get isOn(): boolean {
    return this.#isOn
  }

  sawAddress(address: Address): void {
    if (this.#isOn) this.#observer.sawAddress(address)
  }

  sawPlain(bytes: Uint8Array): void {
    if (this.#isOn) this.#observer.watch(bytes, 0, bytes.length, true)
  }

  handleReport(report: Report): void {
    if (report.kind !== 'observation') return
    this.#waiting.get(report.request)?.(report.observation)
    this.#waiting.delete(report.request)
  }

  crash(engine: Engine | undefined, worker?: number): { crashing: true } {
    this.#assertOn('crash')
    engine?.send({ kind: 'crash', ...(worker !== undefined && { worker }) })
    return { crashing: true }
  }

  observe(marker: string, engine: Engine | undefined): { observing: true } {
    this.#assertOn('observe')
    const addresses = this.#observer.observation().addresses
    this.#observer = new Observer(Buffer.from(marker))
    for (const text of addresses) this.#observer.sawText(text)
    engine?.send({ kind: 'observe', marker: Buffer.from(marker) })
    return { observing: true }
  }

  async observation(engine: Engine | undefined): Promise<Observation & { addresses: string[] }> {
    this.#assertOn('observe')
    const own = this.#observer.observation()
    if (engine === undefined) return { ...own, addresses: [...own.addresses] }
    const request = this.#next++
    const data = await new Promise<Observation>(resolve => {
      this.#waiting.set(request, resolve)
      engine.send({ kind: 'reportObservation', request })
    })
    return {
      addresses: [...new Set([...own.addresses, ...data.addresses])],
      markerOnWire: own.markerOnWire || data.markerOnWire,
      markerInside: own.markerInside || data.markerInside,
    }
  }

  #assertOn(action: string): void {
    if (this.#isOn) return
    throw new HopliteError('ACTION_UNKNOWN', `${action}: this node is no laboratory`, 'set observe = true in [lab]')
  }
}

type CommonStatus = Pick<Status, 'version' | 'pid' | 'uptimeMs' | 'memoryBytes' | 'user' | 'helper'>

/** The part of a status that is the same for every role. */
export function commonStatus(startedMs: number): CommonStatus {
  return {
    version: VERSION,
    pid: process.pid,
    uptimeMs: Math.round(monotonicMs() - startedMs),
    memoryBytes: process.memoryUsage.rss(),
    ...(process.getuid && { user: process.getuid() }),
    ...(hasHelper() && { helper: process.ppid }),
  }
}

/** What a node ends with when its data plane failed. */
export function dataPlaneFailure(error: Error): HopliteError {
  const report = 'report it with: hoplite doctor --bundle FILE'
  const isFull = error instanceof OutOfMemoryError
  const advice = isFull ? `lower max_sessions and max_flows in [relay], and ${report}` : report
  return new HopliteError('DATA_PLANE_FAILED', `move packets: ${error.message}`, advice, error)
}

/** Resolves when `signal` is aborted; rejects when that is for a failure of our own. */
export async function untilAborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted)
    await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve(), { once: true }))
  if (signal.reason instanceof HopliteError) throw signal.reason
}
