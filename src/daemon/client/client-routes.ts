// The routes of a client as the daemon holds them: the machine and its timer, the streams on the routes, what each event of a route
// does to the choice of relays and to the tunnel, and what a user asks of them.

import { HopliteError } from '#api/errors.ts'
import type { Input, Output } from '#api/table.ts'
import { systemRandom } from '#crypto/random.ts'
import type { Command, Report } from '#forward/commands.ts'
import { monotonicMs } from '#platform/clock.ts'
import { Routes } from '#route/routes.ts'
import { DialError } from '#stream/dial-error.ts'
import { formatAddress } from '#wire/address.ts'
import { REFUSAL } from '#wire/control.ts'
import { ControlLoop } from '../control-loop.ts'
import { type Log, own } from '../log.ts'
import type { ClientTunnel } from './client-tunnel.ts'
import type { RelayChoice } from './relay-choice.ts'
import { RouteStreams } from './route-streams.ts'

/** An isolated route that carries nothing for this long is closed. */
const ISOLATED_IDLE_MS = 300_000
const LOOK_FOR_IDLE_MS = 30_000

export interface ClientRoutesOptions {
  readonly choice: RelayChoice
  readonly log: Log
  /** Whether routes are wanted from the start. */
  readonly startsOn: boolean
  readonly onSwitched: ((isOn: boolean) => void) | undefined
  readonly tunnel: () => ClientTunnel
  /** Hears of what the data plane was told. */
  readonly onCommands: (commands: readonly Command[], now: number) => void
  readonly onFailover: (silentMs: number, failovers: number) => void
  readonly onHopFailed: () => void
  /** Something may look different now. */
  readonly onChange: () => void
}

export class ClientRoutes {
  readonly routes: Routes
  readonly streams: RouteStreams
  failovers = 0
  readonly #options: ClientRoutesOptions
  readonly #loop: ControlLoop
  readonly #idleSinceMs = new Map<string, number>()
  #sweep: NodeJS.Timeout | undefined
  #isOn: boolean

  constructor(options: ClientRoutesOptions) {
    this.#options = options
    this.#isOn = options.startsOn
    const { choice, tunnel } = options
    this.routes = new Routes({
      random: systemRandom,
      pickRoute: () => choice.pickRoute(),
      pickWay: (exit, inUse) => choice.pickWay(exit, inUse),
      isBusy: key => this.streams.streams(key) > 0 || (key === '' && tunnel().isBusy),
    })
    this.#loop = new ControlLoop(this.routes, now => this.#carryOut(now))
    this.streams = new RouteStreams({
      routes: this.routes,
      run: input => this.run(input),
      send: (...commands) => tunnel().send(commands),
    })
  }

  /** Whether routes are wanted; while they are not, applications are refused. */
  get isOn(): boolean {
    return this.#isOn
  }

  /** Whether streams and, if there is one, the tunnel have their place on the route. */
  get isReady(): boolean {
    return this.streams.isReady && this.#options.tunnel().isReady
  }

  get streamCount(): number {
    return this.routes.keys.reduce((sum, key) => sum + this.streams.streams(key), 0)
  }

  get sessionCount(): number {
    return this.routes.keys.reduce((sum, key) => sum + (this.routes.find(key)?.layers().length ?? 0), 0)
  }

  start(): void {
    if (this.#isOn) this.run(now => this.routes.want('', now))
    this.#sweep = setInterval(() => this.#closeIdle(), LOOK_FOR_IDLE_MS)
  }

  close(): void {
    clearInterval(this.#sweep)
    this.streams.close()
    for (const key of this.routes.keys) this.routes.close(key)
    this.#loop.close()
  }

  /** Runs an input of the machine and carries out what follows. */
  run(input: (now: number) => void): void {
    this.#loop.run(input)
  }

  handleReport(report: Report): void {
    this.run(now => this.routes.handleReport(report, now))
  }

  /** The machine is on another network, or was asleep. */
  handleWake(sleptMs: number): void {
    this.run(now => this.routes.handleWake(now, sleptMs))
  }

  /** Throws DialError while no routes are wanted. */
  assertOn(): void {
    if (!this.#isOn) throw new DialError(REFUSAL.generalFailure)
  }

  /** Wants routes from now on. */
  connect(): Output<'connect'> {
    if (!this.#isOn) this.#options.log.info('switched on')
    this.#isOn = true
    this.#options.onSwitched?.(true)
    this.run(now => this.routes.want('', now))
    return { connecting: true }
  }

  /** Wants none, and lets nothing through, until `connect`. */
  disconnect(): Output<'disconnect'> {
    if (this.#isOn) this.#options.log.info('switched off')
    this.#isOn = false
    this.#options.onSwitched?.(false)
    const { keys } = this.routes
    for (const key of keys) this.streams.handleLost(key)
    this.#options.tunnel().handleLost()
    this.run(() => keys.forEach(key => this.routes.close(key)))
    return { off: true }
  }

  /** Other routes in the place of all. */
  renew(): Output<'newRoute'> {
    const { keys } = this.routes
    for (const key of keys) this.streams.handleLost(key)
    this.#options.tunnel().handleLost()
    this.run(now => keys.forEach(key => this.routes.renew(key, now)))
    return { routes: keys.length }
  }

  /** What the next routes are to be like, and those at once. */
  setRoute({ hops, exit, countries, notCountries }: Input<'setRoute'>): Output<'setRoute'> {
    const isExit = exit === undefined || exit === '' || this.#options.choice.relays.some(({ id }) => id === exit)
    if (!isExit)
      throw new HopliteError('REQUEST_INVALID', 'choose an exit: the directory has none of that id', 'see: relays')
    this.#options.choice.prefer({ hops, exit, countries, notCountries })
    return this.renew()
  }

  /** The relays that may be used, the largest first. */
  relays({ role, limit = 200 }: Input<'relays'>): Output<'relays'> {
    const { hops, exit, countries, notCountries } = this.#options.choice.preference
    const found = this.#options.choice.relays
      .filter(({ roles }) => role === undefined || roles.includes(role))
      .toSorted((a, b) => b.capacityKbit - a.capacityKbit)
    const relays = found.slice(0, limit).map(({ id, operator, address, roles, capacityKbit, country }) => ({
      ...{ id, operator, address: formatAddress(address), roles: [...roles], capacityKbit },
      ...(country !== undefined && { country }),
    }))
    const wanted = { countries: [...countries], notCountries: [...notCountries] }
    return { total: found.length, relays, hops, ...wanted, ...(exit !== undefined && { chosenExit: exit }) }
  }

  #carryOut(now: number): void {
    const commands = this.routes.take(now)
    const { choice, log, onCommands, onFailover, onHopFailed, onChange } = this.#options
    const tunnel = this.#options.tunnel()
    tunnel.send(commands)
    onCommands(commands, now)
    for (const { key, route, event } of this.routes.takeEvents()) {
      switch (event.kind) {
        case 'ready':
          choice.handleSuccess(route.hops)
          this.streams.handleReady(key, route)
          if (key === '') tunnel.handleReady(route)
          log.info('route is ready', { hops: route.hops.length })
          break
        case 'lost':
          this.streams.handleLost(key)
          if (key === '') tunnel.handleLost()
          log.warn('route lost', { reason: own(event.reason) })
          break
        case 'resized':
          if (key === '') tunnel.handleResized(route, event.mtu)
          log.info('packets of another size pass', { mtu: event.mtu })
          break
        case 'spareReady':
          choice.handleSuccess(event.hops)
          break
        case 'moved':
          onFailover(event.silentMs, ++this.failovers)
          log.info('route moved to its spare way', { silentMs: Math.round(event.silentMs) })
          break
        case 'silent':
          log.warn('route is silent')
          break
        case 'hopFailed':
          choice.handleFailure(event.hop, event.isDoubtful)
          onHopFailed()
          log.warn('hop failed', { id: own(event.hop.id) })
          break
      }
    }
    onChange()
  }

  /** Closes isolated routes that have carried nothing for long. */
  #closeIdle(): void {
    const now = monotonicMs()
    for (const key of this.routes.keys) {
      if (key === '' || this.streams.streams(key) > 0) {
        this.#idleSinceMs.delete(key)
        continue
      }
      const since = this.#idleSinceMs.get(key) ?? now
      this.#idleSinceMs.set(key, since)
      if (now - since < ISOLATED_IDLE_MS) continue
      this.#idleSinceMs.delete(key)
      this.streams.handleLost(key)
      this.run(() => this.routes.close(key))
    }
  }
}
