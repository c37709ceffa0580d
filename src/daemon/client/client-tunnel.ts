// What a client has for a tunnel: the machine's network, shut but for it, the gate that commands pass, and the flow to the exit.
// A client that has only its proxy has the gate alone, and it is open.

import { HopliteError } from '#api/errors.ts'
import type { Command } from '#forward/commands.ts'
import { MESH_MTU } from '#mesh/mesh.ts'
import { monotonicMs } from '#platform/clock.ts'
import type { Endpoint } from '#platform/linux/network/networks.ts'
import { pinNames } from '#platform/pinned-names.ts'
import type { Route } from '#route/route.ts'
import type { Routes } from '#route/routes.ts'
import type { Address } from '#wire/address.ts'
import { BusyMeter } from '../busy-meter.ts'
import type { Config } from '../config.ts'
import type { ShutMachine } from '../devices/meeting.ts'
import { DEVICES_NAME, meshOrder } from '../devices/mesh-order.ts'
import { linkMtu, MIN_TUN_MTU, resolveBootstraps, resolveServers, TunnelNetwork } from '../entry/tunnel-network.ts'
import { type Log, own } from '../log.ts'
import { tunnelOrder } from './client-order.ts'
import { type MachinePlan, machineWords } from './machine-plan.ts'
import { RelayGate } from './relay-gate.ts'
import { type OpenTun, TUNNEL_MTU, TunnelFlow } from './tunnel-flow.ts'
import type { ViaPlan } from './via-device.ts'

/** How long a command waits for its exit. */
const CARRIED_MS = 45_000
/** Before another exit is looked for. */
const REFUSED_MS = 1_000

export interface ClientTunnelOptions {
  /** Whether there is a tunnel at all: of the whole machine, or of one command, which has no network to shut. */
  readonly isWanted: boolean
  readonly network: TunnelNetwork | undefined
  readonly log: Log
  readonly routes: () => Routes
  /** Relays that are spoken to beside the routes. */
  readonly moreRelays: () => readonly Address[]
  /** Runs an input of the routes machine and carries out what follows. */
  readonly run: (input: (now: number) => void) => void
  /** To the data plane. */
  readonly carryOut: (commands: readonly Command[]) => void
  /** Datagrams that have come in so far. */
  readonly datagramsIn: () => number
  /** Where else this process connects to around the tunnel, when it speaks to these relays. */
  readonly control: (relays: readonly Address[]) => readonly Endpoint[]
  readonly onCarried: () => void
  readonly onRefused: (route: Route) => void
}

export class ClientTunnel {
  readonly #options: ClientTunnelOptions
  readonly #flow: TunnelFlow | undefined
  readonly #gate: RelayGate
  readonly #busy = new BusyMeter()
  #hasStarted = false
  #whenCarried: (() => void) | undefined
  /** Of a command's TUN. */
  #resizeTun: (mtu: number) => void = () => {}

  constructor(options: ClientTunnelOptions) {
    this.#options = options
    const { network, log, carryOut, isWanted } = options
    const firewall = network && {
      reaches: (relays: readonly Address[]) => network.reaches(relays),
      allow: async (relays: readonly Address[]) => {
        await network.allow(relays)
        await network.allowControl(options.control(relays))
      },
    }
    this.#gate = new RelayGate({ firewall, relays: () => this.#firstHops(), carryOut, log })
    if (isWanted) this.#flow = this.#makeFlow()
  }

  /** Whether the exit carries its packets; a tunnel that is not wanted lacks nothing. */
  get isReady(): boolean {
    return this.#flow?.isCarried ?? true
  }

  /** Whether packets flow. */
  get isBusy(): boolean {
    return this.#flow !== undefined && this.#busy.isBusy(this.#options.datagramsIn(), monotonicMs())
  }

  /** The interface of the whole machine's tunnel, for a status. */
  get link(): { readonly interface?: string; readonly mtu?: number; readonly killSwitch?: boolean } {
    const { network } = this.#options
    if (network === undefined) return {}
    return { interface: network.name, mtu: this.#flow?.mtu ?? TUNNEL_MTU, killSwitch: network.killSwitch }
  }

  /** Sends commands to the data plane in their order, behind the firewall's leave to reach the relays they speak to. */
  send(commands: readonly Command[]): void {
    this.#gate.send(commands)
  }

  /** The data plane is there: gives it the whole machine's TUN. */
  start(): void {
    const { network } = this.#options
    if (network !== undefined) this.#flow?.open(network)
    this.#hasStarted = true
  }

  /** Gives the data plane a command's TUN; resolves when an exit carries its packets. Throws NO_ROUTE. */
  async open(tun: OpenTun): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const timer = setTimeout(() => {
      const why = this.#options.routes().problem('') ?? 'there is no route yet'
      reject(new HopliteError('NO_ROUTE', `connect: ${why}`, 'hoplite doctor says what is missing'))
    }, CARRIED_MS)
    this.#whenCarried = resolve
    this.#resizeTun = tun.resize ?? this.#resizeTun
    this.#flow?.open(tun)
    await promise.finally(() => clearTimeout(timer))
  }

  handleReady(route: Route): void {
    this.#flow?.handleReady(route)
    this.#resizeLink()
  }

  /** The way in use carries packets of `mtu` bytes. */
  handleResized(route: Route, mtu: number): void {
    this.#flow?.handleResized(route, mtu)
    this.#resizeLink()
  }

  /** The exit is gone, and whatever spoke through it. */
  handleLost(): void {
    this.#flow?.handleLost()
    this.#resetConnections()
  }

  /** What `control` gives may have changed. */
  handleControlChanged(): void {
    const { network, control, log } = this.#options
    network?.allowControl(control(this.#firstHops())).catch((error: Error) => {
      log.error('directory not let through', { error: own(error.message) })
    })
  }

  /** Before the data plane is closed. */
  async end(isLeftShut: boolean): Promise<void> {
    await this.#gate.settled()
    // Else they would go on around the tunnel, from an address that is nobody's.
    if (!this.#staysShut(isLeftShut)) await this.#resetConnections()
  }

  /** After it. A machine that was shut is opened, unless that would be by accident, or is not wanted yet. */
  async restore({ hasFailed, isLeftShut }: { hasFailed: boolean; isLeftShut: boolean }): Promise<void> {
    const { network } = this.#options
    // Without a route the data plane never had it.
    if (hasFailed || this.#flow === undefined) network?.close()
    if (!this.#staysShut(isLeftShut)) await network?.restore()
  }

  /** When the data plane failed; when whoever ends it says so; or when this client could not start in an earlier one's shelter. */
  #staysShut(isLeftShut: boolean): boolean {
    const { network } = this.#options
    return network !== undefined && network.killSwitch && (isLeftShut || (!this.#hasStarted && network.tookOver))
  }

  async #resetConnections(): Promise<void> {
    const { network, log } = this.#options
    await network?.resetConnections().catch((error: Error) => {
      log.warn('connections not ended', { error: own(error.message) })
    })
  }

  /** The data plane judges every packet by the new size already: this spares it the work. */
  #resizeLink(): void {
    const { network, log } = this.#options
    if (this.#flow === undefined) return
    const failed = (error: Error) => log.warn('MTU not changed', { error: own(error.message) })
    network?.resize(this.#flow.mtu).catch(failed)
    try {
      this.#resizeTun(Math.max(this.#flow.mtu, MIN_TUN_MTU))
    } catch (error) {
      failed(error as Error)
    }
  }

  #firstHops(): Address[] {
    const routes = this.#options.routes()
    const ofRoutes = routes.keys.flatMap(key => routes.find(key)?.firstHops.map(({ address }) => address) ?? [])
    return [...ofRoutes, ...this.#options.moreRelays()]
  }

  #makeFlow(): TunnelFlow {
    const { network, run, log, routes, onCarried, onRefused } = this.#options
    return new TunnelFlow({
      ask: (route, request, settle) => run(now => route.exitLayer.ask(request, now, settle)),
      send: (...commands) => this.send(commands),
      onAgreed: (route, offered) => run(now => route.searchMtu({ link: linkMtu(network?.name), offered }, now)),
      onCarried: () => {
        log.info('the exit carries the tunnel')
        this.#whenCarried?.()
        onCarried()
      },
      onRefused: route => {
        log.warn('the exit refuses the tunnel', { id: own(route.exit.id) })
        onRefused(route)
        const renew = () => run(now => routes().find('') === route && routes().renew('', now))
        setTimeout(renew, REFUSED_MS).unref()
      },
    })
  }
}

/** A machine whose network is shut, and what it takes to run a client there. */
export interface ShutNetwork {
  /** The configuration without names. */
  readonly config: Config
  readonly network: TunnelNetwork
  /** The plan, as words of the command line. */
  readonly flags: readonly string[]
  /** Where else this process connects to around the tunnel. */
  readonly control: readonly Endpoint[]
  /** Absent where devices have no part in it: their links go as everything does. */
  readonly meeting?: ShutMachine
  /** Lets go of what holds for the whole process. */
  readonly release: () => void
}

/** Shuts the machine's network: from then on nothing goes around the tunnel that may not. */
export async function shutMachine(
  config: Config,
  stateDir: string,
  plan: MachinePlan,
  via: ViaPlan | undefined,
): Promise<ShutNetwork> {
  const { multiaddrs, endpoints } = await resolveBootstraps(config.network.bootstrap)
  // Through a route letters go as everything does; to a device there is no way before they have come.
  const servers = via === undefined ? [] : await resolveServers(config.meet.rendezvous)
  const release = pinNames(new Map(servers.map(({ name, endpoint }) => [name, endpoint.address])))
  const control = servers.map(({ endpoint }) => endpoint)
  const network = await TunnelNetwork.open({
    stateDir,
    order: tunnelOrder(config, plan, via),
    // A device's packets are of at most this, whatever the way.
    mtu: via === undefined ? TUNNEL_MTU : MESH_MTU,
    control: [...endpoints, ...control],
  }).catch(error => {
    release()
    throw error
  })
  const { name, fd, offload } = network
  const hasDevices = via !== undefined || meshOrder(config, true) !== undefined
  return {
    config: { ...config, network: { ...config.network, bootstrap: multiaddrs } },
    ...{ network, control, release, flags: machineWords(plan) },
    ...(hasDevices && {
      meeting: {
        tun: via === undefined ? { kind: 'make', name: DEVICES_NAME } : { kind: 'given', name, fd, offload },
        allowHosts: hosts => void network.allowLinks(hosts).catch(() => undefined),
        ...(via !== undefined && { via }),
      },
    }),
  }
}
