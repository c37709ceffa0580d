// The routes of one client: one for each isolation key, so that streams under different keys never share an exit session.
// A pure machine: it hands reports to the route they belong to, replaces routes that were lost, and gathers commands.

import type { Random } from '#crypto/random.ts'
import type { Command, Report } from '#forward/commands.ts'
import { AnswerRun } from './answer-run.ts'
import { type Layer, LayerIndices } from './layer.ts'
import { Route, type RouteEvent } from './route.ts'
import type { RouteHop } from './way.ts'

/** The most isolation keys with a route at one time. */
export const MAX_ROUTES = 32
const FIRST_RETRY_MS = 100
const MAX_RETRY_MS = 5_000
/** Relays that say nothing for longer are not heard any more. */
export const HEARD_GAP_MS = 3_000

/** The hops before the exit, and the exit; or why there are none. */
export type Choice = { readonly hops: readonly RouteHop[]; readonly exit: RouteHop } | { readonly problem: string }

export interface RoutesOptions {
  readonly random: Random
  readonly pickRoute: () => Choice
  readonly pickWay: (exit: RouteHop, avoid: readonly RouteHop[]) => readonly RouteHop[] | undefined
  readonly isBusy: (key: string) => boolean
}

export interface RoutesEvent {
  readonly key: string
  readonly route: Route
  readonly event: RouteEvent
}

interface Slot {
  readonly key: string
  route: Route | undefined
  problem: string | undefined
  retryAtMs: number
  retries: number
}

export class Routes {
  readonly #options: RoutesOptions
  /** For every layer of the client, those of meetings too. */
  readonly indices = new LayerIndices()
  readonly #slots = new Map<string, Slot>()
  readonly #heard = new AnswerRun(HEARD_GAP_MS)
  readonly #out: Command[] = []
  #events: RoutesEvent[] = []
  #nextSession = 1

  constructor(options: RoutesOptions) {
    this.#options = options
  }

  get keys(): string[] {
    return [...this.#slots.keys()]
  }

  /** The route of a key; undefined while there is none. */
  find(key: string): Route | undefined {
    return this.#slots.get(key)?.route
  }

  /** The route that a session belongs to. */
  routeOf(session: number): Route | undefined {
    for (const { route } of this.#slots.values())
      if (route?.layers().some(layer => layer.session === session)) return route
    return undefined
  }

  /** Why a key has no route; undefined while it has one or the first is being built. */
  problem(key: string): string | undefined {
    return this.#slots.get(key)?.problem
  }

  /** Wants a route for `key` from now on; false when there are too many. */
  want(key: string, now: number): boolean {
    if (this.#slots.has(key)) return true
    if (this.#slots.size >= MAX_ROUTES) return false
    this.#slots.set(key, { key, route: undefined, problem: undefined, retryAtMs: now, retries: 0 })
    this.handleDeadline(now)
    return true
  }

  /** Closes the route of `key` and wants none any more. */
  close(key: string): void {
    this.#slots.get(key)?.route?.close()
    this.#slots.delete(key)
  }

  /** Closes the route of `key` and builds another. */
  renew(key: string, now: number): void {
    this.close(key)
    this.want(key, now)
  }

  /** The machine is on another network or was asleep, `sleptMs` of it while the clock stood still: whatever waits asks again. */
  handleWake(now: number, sleptMs = 0): void {
    for (const slot of this.#slots.values()) {
      slot.route?.handleWake(now, sleptMs)
      slot.retries = 0
      slot.retryAtMs = Math.min(slot.retryAtMs, now)
    }
    this.handleDeadline(now)
  }

  handleReport(report: Report, now: number): void {
    switch (report.kind) {
      case 'handshake':
        this.#heard.handleAnswer(now)
        this.#out.push({ kind: 'grantHandshakes', count: 1 })
        return this.indices.handleHandshake(report.bytes, now)
      case 'control':
        this.#heard.handleAnswer(now)
        return this.#findLayer(report.session)?.handleControl(report.bytes, now)
      case 'echo':
        this.#heard.handleAnswer(now)
        for (const { route } of this.#slots.values())
          route?.handleEcho(report.session, report.token, report.bytes, report.atMs)
        return
      default:
        return
    }
  }

  deadline(): number {
    let due = Number.POSITIVE_INFINITY
    for (const { route, retryAtMs } of this.#slots.values()) {
      due = Math.min(due, route === undefined ? retryAtMs : route.deadline())
    }
    return due
  }

  handleDeadline(now: number): void {
    for (const slot of this.#slots.values()) {
      if (slot.route === undefined && slot.retryAtMs <= now) this.#build(slot, now)
      slot.route?.handleDeadline(now)
    }
    this.#collect(now)
  }

  /** Takes the commands decided since the last call, in order. */
  take(now: number): Command[] {
    this.#collect(now)
    return this.#out.splice(0)
  }

  takeEvents(): RoutesEvent[] {
    const events = this.#events
    this.#events = []
    return events
  }

  #build(slot: Slot, now: number): void {
    const choice = this.#options.pickRoute()
    slot.retryAtMs = now + Math.min(FIRST_RETRY_MS * 2 ** slot.retries, MAX_RETRY_MS)
    slot.retries = Math.min(slot.retries + 1, 16)
    if ('problem' in choice) {
      slot.problem = choice.problem
      return
    }
    const route = new Route({
      hops: choice.hops,
      exit: choice.exit,
      random: this.#options.random,
      out: this.#out,
      indices: this.indices,
      newSession: () => this.#nextSession++,
      pickWay: avoid => this.#options.pickWay(choice.exit, avoid),
      isBusy: () => this.#options.isBusy(slot.key),
      heard: this.#heard,
    })
    slot.route = route
    route.begin(now)
  }

  #collect(now: number): void {
    for (const slot of this.#slots.values()) {
      const { route, key } = slot
      if (route === undefined) continue
      for (const event of route.takeEvents()) {
        this.#events.push({ key, route, event })
        if (event.kind === 'ready') {
          slot.retries = 0
          slot.problem = undefined
        }
        if (event.kind === 'lost') {
          slot.route = undefined
          slot.problem = `the route was lost: ${event.reason}`
          slot.retryAtMs = Math.min(slot.retryAtMs, now + FIRST_RETRY_MS)
          if (slot.retries > 1) slot.retryAtMs = now + Math.min(FIRST_RETRY_MS * 2 ** slot.retries, MAX_RETRY_MS)
        }
      }
    }
  }

  #findLayer(session: number): Layer | undefined {
    return this.routeOf(session)
      ?.layers()
      .find(layer => layer.session === session)
  }
}
