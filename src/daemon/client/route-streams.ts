// What rides on routes: streams and UDP associations of applications, each on the route of its isolation key.

import type { Duplex } from 'node:stream'
import type { Command, Report } from '#forward/commands.ts'
import type { Route } from '#route/route.ts'
import type { Routes } from '#route/routes.ts'
import { ClientStreams } from '#stream/client.ts'
import { DialError } from '#stream/dial-error.ts'
import { StreamLink } from '#stream/link.ts'
import type { Association } from '#stream/proxy.ts'
import type { Address } from '#wire/address.ts'
import { type ControlAnswer, type ControlRequest, FLOW_PURPOSE, REFUSAL, type Target } from '#wire/control.ts'
import { socksUdpTarget } from '#wire/socks-udp.ts'

const ROUTE_WAIT_MS = 20_000

export interface RouteStreamsOptions {
  readonly routes: Routes
  /** Runs an input of the routes machine and carries out what follows. */
  readonly run: (input: (now: number) => void) => void
  readonly send: (...commands: Command[]) => void
}

interface Carried {
  readonly route: Route
  readonly streams: ClientStreams
  readonly link: StreamLink
  isReady: boolean
}

interface OpenAssociation {
  readonly key: string
  readonly route: Route
  readonly ready: (address: Address) => void
  readonly lost: () => void
}

export class RouteStreams {
  readonly #options: RouteStreamsOptions
  readonly #carried = new Map<string, Carried>()
  readonly #waiting = new Map<string, Set<() => void>>()
  readonly #associations = new Map<number, OpenAssociation>()
  readonly #dialling = new Map<string, number>()
  #nextAssociation = 1

  constructor(options: RouteStreamsOptions) {
    this.#options = options
  }

  /** Streams open or being dialled under an isolation key. */
  streams(key: string): number {
    return (this.#carried.get(key)?.streams.streams ?? 0) + (this.#dialling.get(key) ?? 0)
  }

  get isReady(): boolean {
    return this.#carried.get('')?.isReady ?? false
  }

  /** Opens a stream; waits for a route first, if there is none. Rejects with a `DialError`. */
  async dial(target: Target, key: string, signal: AbortSignal): Promise<Duplex> {
    this.#dialling.set(key, (this.#dialling.get(key) ?? 0) + 1)
    try {
      const carried = await this.#route(key, signal)
      return await carried.streams.dial(target, signal)
    } finally {
      this.#dialling.set(key, (this.#dialling.get(key) ?? 1) - 1)
    }
  }

  /** Opens a UDP endpoint for an application; `lost` is called when its exit is gone. */
  async associate(key: string, signal: AbortSignal, lost: () => void): Promise<Association> {
    const { route } = await this.#route(key, signal)
    const association = this.#nextAssociation++
    const session = route.exitLayer.session
    const address = await new Promise<Address>((resolve, reject) => {
      this.#associations.set(association, { key, route, ready: resolve, lost })
      this.#options.send({ kind: 'installAssociation', association, session, host: '127.0.0.1' })
      signal.addEventListener('abort', () => reject(new DialError(REFUSAL.generalFailure)), { once: true })
    })
    return {
      address,
      close: () => {
        this.#associations.delete(association)
        this.#options.send({ kind: 'removeAssociation', association })
      },
    }
  }

  /** A route has its exit: give it a tap. */
  handleReady(key: string, route: Route): void {
    this.handleLost(key)
    const link = new StreamLink()
    const streams = new ClientStreams(link, request => this.#ask(route, request))
    this.#carried.set(key, { route, streams, link, isReady: false })
    this.#options.send({ kind: 'installTap', session: route.exitLayer.session, address: link.address })
  }

  /** A route lost its exit: its streams are reset at once. */
  handleLost(key: string): void {
    const carried = this.#carried.get(key)
    if (carried === undefined) return
    this.#carried.delete(key)
    carried.streams.close()
    for (const [association, { route, lost }] of this.#associations) {
      if (route !== carried.route) continue
      lost()
      this.#associations.delete(association)
      this.#options.send({ kind: 'removeAssociation', association })
    }
  }

  handleReport(report: Report): void {
    switch (report.kind) {
      case 'tapReady':
        for (const [key, carried] of this.#carried) {
          if (carried.route.exitLayer.session !== report.session) continue
          carried.link.attach(report.address)
          carried.isReady = true
          for (const wake of this.#waiting.get(key) ?? []) wake()
          this.#waiting.delete(key)
        }
        return
      case 'associationReady':
        return this.#associations.get(report.association)?.ready(report.address)
      case 'associationTarget':
        return this.#openTarget(report.association, report.header, report.datagram)
      default:
        return
    }
  }

  close(): void {
    for (const key of [...this.#carried.keys()]) this.handleLost(key)
  }

  async #route(key: string, signal: AbortSignal): Promise<Carried> {
    let isWanted = true
    this.#options.run(now => {
      isWanted = this.#options.routes.want(key, now)
    })
    if (!isWanted) throw new DialError(REFUSAL.tooMany)
    const limit = AbortSignal.any([signal, AbortSignal.timeout(ROUTE_WAIT_MS)])
    for (;;) {
      const carried = this.#carried.get(key)
      if (carried?.isReady) return carried
      if (limit.aborted) throw new DialError(REFUSAL.generalFailure)
      await new Promise<void>(resolve => {
        const waiting = this.#waiting.get(key) ?? new Set()
        this.#waiting.set(key, waiting)
        const wake = () => {
          limit.removeEventListener('abort', wake)
          waiting.delete(wake)
          resolve()
        }
        waiting.add(wake)
        limit.addEventListener('abort', wake, { once: true })
      })
    }
  }

  #ask(route: Route, request: ControlRequest): Promise<ControlAnswer | undefined> {
    return new Promise(resolve => {
      this.#options.run(now => route.exitLayer.ask(request, now, resolve))
    })
  }

  #openTarget(association: number, header: Uint8Array, first: Uint8Array): void {
    const open = this.#associations.get(association)
    const target = socksUdpTarget(header)
    if (open === undefined || target === undefined) return
    const flow = open.route.newFlow()
    this.#options.send({ kind: 'installAssociationTarget', association, header, flow })
    void this.#ask(open.route, { kind: 'open', flow, purpose: FLOW_PURPOSE.datagram, target, first })
  }
}
