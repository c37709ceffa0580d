// The routes of all entries of one client. A pure machine: it hands reports to the route they belong to, and gathers commands.

import type { Random } from '#crypto/random.ts'
import type { Command, EntryClient, Report } from '#forward/commands.ts'
import type { Address } from '#wire/address.ts'
import { AnswerRun } from './answer-run.ts'
import { type EntryEvent, EntryRoute, type PeerChoice } from './entry-route.ts'
import { LayerIndices } from './layer.ts'
import { HEARD_GAP_MS } from './routes.ts'
import type { RouteHop } from './way.ts'

/** The most servers reached at one time. */
export const MAX_ENTRIES = 8

export interface EntryRoutesOptions {
  readonly random: Random
  /** The peers of one way to `server`, without those named. */
  readonly pickPeers: (server: Address, avoid: readonly RouteHop[]) => PeerChoice
  /** Whether an entry carries anything now. */
  readonly isBusy: (entry: number) => boolean
}

export class EntryRoutes {
  readonly #options: EntryRoutesOptions
  readonly #indices = new LayerIndices()
  readonly #routes = new Map<number, EntryRoute>()
  readonly #out: Command[] = []
  readonly #heard = new AnswerRun(HEARD_GAP_MS)
  #nextSession = 1

  constructor(options: EntryRoutesOptions) {
    this.#options = options
  }

  /** The peers of every lane there is. */
  get hops(): readonly RouteHop[] {
    return [...this.#routes.values()].flatMap(({ lanes }) => lanes.flatMap(({ hops }) => hops))
  }

  find(entry: number): EntryRoute | undefined {
    return this.#routes.get(entry)
  }

  /** Opens an entry to `server` for a client; false when there are too many. */
  open(entry: number, server: Address, client: EntryClient, now: number): boolean {
    if (this.#routes.size >= MAX_ENTRIES || this.#routes.has(entry)) return false
    const { random, pickPeers, isBusy } = this.#options
    this.#out.push({ kind: 'installEntry', entry, client })
    const route = new EntryRoute(
      {
        entry,
        server,
        ownClient: client.kind === 'tunnel',
        random,
        out: this.#out,
        indices: this.#indices,
        newSession: () => this.#nextSession++,
        pickPeers: avoid => pickPeers(server, avoid),
        isBusy: () => isBusy(entry),
        heard: this.#heard,
      },
      now,
    )
    this.#routes.set(entry, route)
    return true
  }

  /** There may be peers now that were not known before. */
  retry(now: number): void {
    for (const route of this.#routes.values()) route.retry(now)
  }

  close(entry: number, now: number): void {
    const route = this.#routes.get(entry)
    if (route === undefined) return
    route.close(now)
    this.#routes.delete(entry)
    this.#out.push({ kind: 'removeEntry', entry })
  }

  /** The machine is on another network or was asleep, `sleptMs` of it while the clock stood still. */
  handleWake(now: number, sleptMs = 0): void {
    for (const route of this.#routes.values()) route.handleWake(now, sleptMs)
  }

  handleReport(report: Report, now: number): void {
    if (report.kind === 'handshake' || report.kind === 'control' || report.kind === 'echo')
      this.#heard.handleAnswer(now)
    switch (report.kind) {
      case 'handshake':
        this.#out.push({ kind: 'grantHandshakes', count: 1 })
        return this.#indices.handleHandshake(report.bytes, now)
      case 'control':
        for (const { lanes } of this.#routes.values()) {
          for (const { way } of lanes) {
            way.layers.find(({ session }) => session === report.session)?.handleControl(report.bytes, now)
          }
        }
        return
      case 'echo':
        for (const route of this.#routes.values()) route.handleEcho(report.session, report.token, report.atMs)
        return
      case 'legProven':
        return this.#routes.get(report.entry)?.handleProven(report.session, now)
      case 'legSilent':
        return this.#routes.get(report.entry)?.handleSilent(report.session, now)
      default:
        return
    }
  }

  deadline(): number {
    let due = Number.POSITIVE_INFINITY
    for (const route of this.#routes.values()) due = Math.min(due, route.deadline())
    return due
  }

  handleDeadline(now: number): void {
    for (const route of this.#routes.values()) route.handleDeadline(now)
  }

  /** Takes the commands decided since the last call, in order. */
  take(): Command[] {
    return this.#out.splice(0)
  }

  takeEvents(): { readonly entry: number; readonly event: EntryEvent }[] {
    return [...this.#routes].flatMap(([entry, route]) => route.takeEvents().map(event => ({ entry, event })))
  }
}
