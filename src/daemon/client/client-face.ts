// What a client tells about itself as it happens: how far its route is, round-trip times, and what it carries.

import { EventHub } from '#api/event-hub.ts'
import type { Handlers, Told } from '#api/table.ts'
import { systemRandom } from '#crypto/random.ts'
import type { Command, Report } from '#forward/commands.ts'
import type { Counters } from '#forward/counters.ts'
import { monotonicMs } from '#platform/clock.ts'
import type { Route } from '#route/route.ts'
import { HopPings } from './hop-pings.ts'
import type { RouteView } from './route-view.ts'
import { Traffic } from './traffic.ts'

const SECOND_MS = 1_000

export interface ClientFaceOptions {
  readonly route: () => Route | undefined
  readonly view: () => RouteView
  readonly streams: () => number
  readonly counters: () => Counters | undefined
  readonly send: (...commands: Command[]) => void
}

export class ClientFace {
  readonly events: EventHub
  readonly #options: ClientFaceOptions
  readonly #pings = new HopPings(systemRandom)
  readonly #traffic = new Traffic()
  #told = ''
  #timer: NodeJS.Timeout | undefined

  constructor(options: ClientFaceOptions) {
    this.#options = options
    this.events = new EventHub(() => this.#greeting())
  }

  get handlers(): Pick<Handlers, 'traffic'> {
    return { traffic: () => this.#traffic.history() }
  }

  start(): void {
    this.#timer = setInterval(() => this.#tick(), SECOND_MS)
  }

  close(): void {
    clearInterval(this.#timer)
  }

  handleReport(report: Report): void {
    if (report.kind === 'echo') this.#pings.handleEcho(report.session, report.token, report.atMs)
  }

  /** Something may have changed: tells how the route stands, if it is another way than before. */
  handleChange(): void {
    if (!this.events.isWatched) return
    const view = this.#options.view()
    const text = JSON.stringify(view)
    if (text === this.#told) return
    this.#told = text
    this.events.tell('route', view)
  }

  handleFailover(silentMs: number, count: number): void {
    this.events.tell('failover', { silentMs: Math.round(silentMs), count })
  }

  #tick(): void {
    const counters = this.#options.counters()
    if (counters === undefined) return
    const at = Date.now()
    const added = this.#traffic.sample(at, counters.get('bytesIn'), counters.get('bytesOut'))
    if (!this.events.isWatched) return
    this.handleChange()
    this.events.tell('throughput', { at, ...added, streams: this.#options.streams() })
    const route = this.#options.route()
    if (route === undefined) return
    this.#options.send(...this.#pings.probe(route, monotonicMs()))
    this.events.tell('rtt', this.#rtt(route))
  }

  #greeting(): Told[] {
    const route = this.#options.route()
    const view: Told = { name: 'route', data: this.#options.view() }
    return route === undefined ? [view] : [view, { name: 'rtt', data: this.#rtt(route) }]
  }

  #rtt(route: Route): { hops: { id: string; ms?: number }[] } {
    const times = this.#pings.times(route)
    return {
      hops: route.hops.map(({ id }, i) => {
        const ms = times[i]
        return ms === undefined ? { id } : { id, ms: Math.round(ms * 10) / 10 }
      }),
    }
  }
}
