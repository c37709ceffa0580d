// The client: its directory, its routes, the proxy that applications use, and the tunnel of the whole machine or of one command.

import { HopliteError } from '#api/errors.ts'
import type { Input, Output, Status } from '#api/table.ts'
import { systemRandom } from '#crypto/random.ts'
import { Directory } from '#discover/directory.ts'
import type { Report } from '#forward/commands.ts'
import { monotonicMs } from '#platform/clock.ts'
import type { Engine } from '#platform/engine.ts'
import { prepareStateDirectory } from '#platform/state-file.ts'
import { lockState } from '#platform/state-lock.ts'
import { Routes } from '#route/routes.ts'
import { DialError } from '#stream/dial-error.ts'
import { ProxyServer } from '#stream/proxy.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import { REFUSAL } from '#wire/control.ts'
import { TUNNEL_RESOLVER } from '#wire/tunnel-addresses.ts'
import { BusyMeter } from './busy-meter.ts'
import { ClientFace } from './client-face.ts'
import { CLIENT_ADDRESSES, ClientTunnel, type OpenTun, TUNNEL_MTU } from './client-tunnel.ts'
import type { Config } from './config.ts'
import { ControlLoop } from './control-loop.ts'
import { DirectoryKeeper } from './directory-keeper.ts'
import { openFace } from './face.ts'
import { parseListen } from './listen.ts'
import { own } from './log.ts'
import type { MachinePlan } from './machine-plan.ts'
import { commonStatus, Laboratory, type RunOptions, startEngine, untilAborted } from './node.ts'
import { RelayChoice } from './relay-choice.ts'
import { RelayGate } from './relay-gate.ts'
import { RouteStreams } from './route-streams.ts'
import { describeHop, type RouteView, viewRoute } from './route-view.ts'
import { assertNothingPending, endpointOf, resolveBootstraps, TUNNEL_MARK, TunnelNetwork } from './tunnel-network.ts'

/** An isolated route that carries nothing for this long is closed. */
const ISOLATED_IDLE_MS = 300_000
const TUN_NAME = 'hoplite0'
/** How long a command waits for its route. */
const CARRIED_MS = 45_000
/** Before another exit is looked for. */
const REFUSED_MS = 1_000

/**
 * Runs a client until `signal` is aborted or its API says so; with a plan the whole machine goes through its route. Throws what
 * keeps it from starting, or what ended its data plane: the machine's network then stays shut.
 */
export async function runClient(config: Config, options: RunOptions, plan?: MachinePlan): Promise<void> {
  prepareStateDirectory(options.stateDir)
  const unlock = lockState(options.stateDir)
  try {
    if (plan === undefined) assertNothingPending(options.stateDir)
    const machine = plan && (await shutMachine(config, options.stateDir, plan))
    const client = new Client(machine?.config ?? config, options, machine?.network)
    try {
      await client.start()
      await untilAborted(client.signal)
    } finally {
      await client.close()
    }
    client.assertSound()
  } finally {
    unlock()
  }
}

/** A client without proxy and API, for whatever `run` opens the tunnel for; the state directory is the caller's. */
export async function runPrivateClient(
  config: Config,
  options: RunOptions,
  run: (openTunnel: (tun: OpenTun) => Promise<void>) => Promise<number>,
): Promise<number> {
  const client = new Client(config, { ...options, isPrivate: true })
  try {
    await client.start()
    return await run(tun => client.openTunnel(tun))
  } finally {
    await client.close()
  }
}

class Client {
  readonly #config: Config
  readonly #options: RunOptions
  readonly #directory = new Directory()
  readonly #choice: RelayChoice
  readonly #routes: Routes
  readonly #streams: RouteStreams
  readonly #loop: ControlLoop
  readonly #proxy: ProxyServer
  readonly #keeper: DirectoryKeeper
  readonly #face: ClientFace
  readonly #laboratory: Laboratory
  readonly #network: TunnelNetwork | undefined
  readonly #tunnel: ClientTunnel | undefined
  readonly #gate: RelayGate
  readonly #busy = new BusyMeter()
  readonly #startedMs = monotonicMs()
  readonly #stop = new AbortController()
  readonly #idleSinceMs = new Map<string, number>()
  readonly signal: AbortSignal
  #engine: Engine | undefined
  #address: Address | undefined
  #proxyAddress: Address | undefined
  #api: { close(): Promise<void> } | undefined
  #sweep: NodeJS.Timeout | undefined
  #failovers = 0
  #failure: Error | undefined
  /** What an earlier run that died had shut stays shut when this one cannot start. */
  #staysShut: boolean
  #whenCarried: (() => void) | undefined
  /** Whether routes are wanted; while they are not, applications are refused. */
  #isOn: boolean

  constructor(config: Config, options: RunOptions, network?: TunnelNetwork) {
    this.#config = config
    this.#network = network
    this.#staysShut = network !== undefined && network.killSwitch && network.tookOver
    this.#options = options
    this.#isOn = !options.startsOff
    this.signal = AbortSignal.any([options.signal, this.#stop.signal])
    this.#laboratory = new Laboratory(config)
    const needsTunnel = network !== undefined || options.isPrivate === true
    this.#choice = new RelayChoice(this.#directory, options.stateDir, config.client.hops, options.log, needsTunnel)
    if (needsTunnel) this.#tunnel = this.#makeTunnel()
    this.#routes = new Routes({
      random: systemRandom,
      pickRoute: () => this.#choice.pickRoute(),
      pickWay: (exit, inUse) => this.#choice.pickWay(exit, inUse),
      isBusy: key => this.#streams.streams(key) > 0 || (key === '' && this.#isTunnelBusy()),
    })
    this.#gate = new RelayGate({
      network,
      relays: () => this.#firstHops(),
      carryOut: commands => this.#engine?.send(...commands),
      log: options.log,
    })
    this.#loop = new ControlLoop(this.#routes, now => this.#carryOut(now))
    this.#streams = new RouteStreams({
      routes: this.#routes,
      run: input => this.#loop.run(input),
      send: (...commands) => this.#gate.send(commands),
    })
    this.#proxy = new ProxyServer({
      dial: async (target, isolation, signal) => {
        this.#assertOn()
        return this.#streams.dial(target, isolation, signal)
      },
      associate: async (isolation, signal, lost) => {
        this.#assertOn()
        return this.#streams.associate(isolation, signal, lost)
      },
    })
    this.#face = new ClientFace({
      route: () => this.#routes.find(''),
      view: () => this.#view(),
      streams: () => this.#streamCount(),
      counters: () => this.#engine?.counters,
      send: (...commands) => this.#gate.send(commands),
    })
    this.#keeper = new DirectoryKeeper({
      config,
      directory: this.#directory,
      log: options.log,
      onRefreshed: () => {
        this.#choice.save()
        this.#allowSources()
        this.#loop.run(now => this.#routes.handleDeadline(now))
      },
      guards: () => this.#choice.guardSources(),
      ...(this.#laboratory.isOn && { onConnection: (from: Address) => this.#laboratory.sawAddress(from) }),
    })
  }

  async start(): Promise<void> {
    const { log } = this.#options
    this.#choice.load()
    this.#allowSources()
    const { engine, address } = await startEngine(
      { host: this.#config.client.bind, port: 0 },
      {
        config: this.#tunnel === undefined ? this.#config : { ...this.#config, engine: { kind: 'linux' } },
        log,
        ...(this.#network && { mark: TUNNEL_MARK }),
      },
      report => this.#handleReport(report),
      error => this.#fail(error),
    )
    this.#engine = engine
    this.#address = address
    if (this.#network !== undefined) this.#tunnel?.open(this.#network)
    if (!this.#options.isPrivate) await this.#openForOthers()
    this.#keeper.start()
    if (this.#isOn) this.#loop.run(now => this.#routes.want('', now))
    this.#sweep = setInterval(() => this.#closeIdle(), 30_000)
    this.#staysShut = false
    log.info('client is up', { tunnel: this.#tunnel !== undefined })
  }

  /** Gives a TUN to the route; resolves when an exit carries its packets. Throws NO_ROUTE. */
  async openTunnel(tun: OpenTun): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const timer = setTimeout(() => {
      const advice = adviceFor(this.#config, this.#directory.size)
      reject(new HopliteError('NO_ROUTE', `connect: ${this.#routes.problem('') ?? 'there is no route yet'}`, advice))
    }, CARRIED_MS)
    this.#whenCarried = resolve
    this.#tunnel?.open(tun)
    await promise.finally(() => clearTimeout(timer))
  }

  /** Throws what ended the data plane. */
  assertSound(): void {
    if (this.#failure === undefined) return
    const advice = !this.#staysShut
      ? 'report it, with the log'
      : 'the network stays shut: hoplite up --tun goes on, hoplite recover opens it; report it, with the log'
    throw new HopliteError('INTERNAL', `carry packets: ${this.#failure.message}`, advice, this.#failure)
  }

  /** The proxy and the API. */
  async #openForOthers(): Promise<void> {
    const listen = parseListen(this.#config.client.proxy)
    try {
      this.#proxyAddress = await this.#proxy.listen(listen.host, listen.port)
    } catch (error) {
      const advice = 'stop the program that uses it, or choose another with --proxy'
      throw new HopliteError(
        'ADDRESS_IN_USE',
        `listen on ${formatAddress(listen)}: ${(error as NodeJS.ErrnoException).code}`,
        advice,
        error,
      )
    }
    this.#api = await openFace(
      this.#config,
      this.#options,
      {
        ...this.#face.handlers,
        status: () => this.#status(),
        down: () => {
          setImmediate(() => this.#stop.abort())
          return { stopping: true }
        },
        connect: () => this.#connect(),
        disconnect: () => this.#disconnect(),
        newRoute: () => this.#renew(),
        setRoute: input => this.#setRoute(input),
        relays: input => this.#relays(input),
        observe: ({ marker }) => this.#laboratory.observe(marker, this.#engine),
        observation: () => this.#laboratory.observation(this.#engine),
      },
      this.#face.events,
    )
    this.#options.log.info('proxy is up', { proxy: own(formatAddress(this.#proxyAddress)) })
    this.#face.start()
  }

  async close(): Promise<void> {
    clearInterval(this.#sweep)
    this.#face.close()
    this.#streams.close()
    for (const key of this.#routes.keys) this.#routes.close(key)
    this.#loop.close()
    await this.#gate.settled()
    // Else they would go on around the tunnel, from an address that is nobody's.
    if (!this.#staysShut) await this.#network?.resetConnections().catch(() => undefined)
    const { listening } = this.#proxy
    await Promise.allSettled([
      this.#keeper.close(),
      listening && this.#proxy.close(),
      this.#api?.close(),
      this.#engine?.close(),
    ])
    if (!this.#staysShut) await this.#network?.restore()
  }

  /** Without a data plane nothing is carried, and what was shut stays so: the machine must not be open by accident. */
  #fail(error: Error): void {
    this.#options.log.error('data plane failed', { error: own(error.message) })
    this.#failure = error
    this.#staysShut = this.#network?.killSwitch ?? false
    this.#stop.abort()
  }

  #makeTunnel(): ClientTunnel {
    return new ClientTunnel({
      ask: (route, request, settle) => this.#loop.run(now => route.exitLayer.ask(request, now, settle)),
      send: (...commands) => this.#gate.send(commands),
      onCarried: () => {
        this.#options.log.info('the exit carries the tunnel')
        this.#whenCarried?.()
        this.#face.handleChange()
      },
      onRefused: route => {
        this.#options.log.warn('the exit refuses the tunnel', { id: own(route.exit.id) })
        this.#choice.handleFailure(route.exit)
        const renew = () => this.#loop.run(now => this.#routes.find('') === route && this.#routes.renew('', now))
        setTimeout(renew, REFUSED_MS).unref()
      },
    })
  }

  #loseTunnel(): void {
    this.#tunnel?.handleLost()
    this.#network?.resetConnections().catch((error: Error) => {
      this.#options.log.warn('connections not ended', { error: own(error.message) })
    })
  }

  #firstHops(): Address[] {
    return this.#routes.keys.flatMap(key => this.#routes.find(key)?.firstHops.map(({ address }) => address) ?? [])
  }

  /** Lets the directory be asked for at the bootstrap nodes and the guards, around the tunnel. */
  #allowSources(): void {
    const sources = [...this.#config.network.bootstrap, ...this.#choice.guardSources()]
    this.#network?.allowControl(sources.flatMap(endpointOf)).catch((error: Error) => {
      this.#options.log.error('directory not let through', { error: own(error.message) })
    })
  }

  #isTunnelBusy(): boolean {
    if (this.#tunnel === undefined) return false
    return this.#busy.isBusy(this.#engine?.counters.get('datagramsIn') ?? 0, monotonicMs())
  }

  #handleReport(report: Report): void {
    this.#laboratory.handleReport(report)
    this.#streams.handleReport(report)
    if (report.kind === 'failed') this.#options.log.warn('data plane', { what: own(report.what) })
    this.#face.handleReport(report)
    this.#loop.run(now => this.#routes.handleReport(report, now))
  }

  #carryOut(now: number): void {
    this.#gate.send(this.#routes.take(now))
    const { log } = this.#options
    for (const { key, route, event } of this.#routes.takeEvents()) {
      switch (event.kind) {
        case 'ready':
          this.#choice.handleSuccess(route.hops)
          this.#streams.handleReady(key, route)
          if (key === '') this.#tunnel?.handleReady(route)
          log.info('route is ready', { hops: route.hops.length })
          break
        case 'lost':
          this.#streams.handleLost(key)
          if (key === '') this.#loseTunnel()
          log.warn('route lost', { reason: own(event.reason) })
          break
        case 'spareReady':
          this.#choice.handleSuccess(event.hops)
          break
        case 'moved':
          this.#failovers++
          this.#face.handleFailover(event.silentMs, this.#failovers)
          log.info('route moved to its spare way', { silentMs: Math.round(event.silentMs) })
          break
        case 'silent':
          log.warn('route is silent')
          break
        case 'hopFailed':
          this.#choice.handleFailure(event.hop)
          log.warn('hop failed', { id: own(event.hop.id) })
          break
      }
    }
    this.#face.handleChange()
  }

  #assertOn(): void {
    if (!this.#isOn) throw new DialError(REFUSAL.generalFailure)
  }

  #connect(): Output<'connect'> {
    if (!this.#isOn) this.#options.log.info('switched on')
    this.#isOn = true
    this.#loop.run(now => this.#routes.want('', now))
    return { connecting: true }
  }

  #disconnect(): Output<'disconnect'> {
    if (this.#isOn) this.#options.log.info('switched off')
    this.#isOn = false
    const { keys } = this.#routes
    for (const key of keys) this.#streams.handleLost(key)
    this.#loseTunnel()
    this.#loop.run(() => keys.forEach(key => this.#routes.close(key)))
    return { off: true }
  }

  #renew(): Output<'newRoute'> {
    const { keys } = this.#routes
    for (const key of keys) this.#streams.handleLost(key)
    this.#loseTunnel()
    this.#loop.run(now => keys.forEach(key => this.#routes.renew(key, now)))
    return { routes: keys.length }
  }

  #setRoute({ hops, exit }: Input<'setRoute'>): Output<'setRoute'> {
    const isExit = exit === undefined || exit === '' || this.#choice.relays.some(({ id }) => id === exit)
    if (!isExit)
      throw new HopliteError('REQUEST_INVALID', 'choose an exit: the directory has none of that id', 'see: relays')
    this.#choice.prefer({ hops, exit })
    return this.#renew()
  }

  #relays({ role, limit = 200 }: Input<'relays'>): Output<'relays'> {
    const { hops, exit } = this.#choice.preference
    const found = this.#choice.relays
      .filter(({ roles }) => role === undefined || roles.includes(role))
      .toSorted((a, b) => b.capacityKbit - a.capacityKbit)
    const relays = found.slice(0, limit).map(({ id, operator, address, roles, capacityKbit }) => ({
      ...{ id, operator, address: formatAddress(address), roles: [...roles], capacityKbit },
    }))
    return { total: found.length, relays, hops, ...(exit !== undefined && { chosenExit: exit }) }
  }

  /** Whether streams and, if there is one, the tunnel have their place on the route. */
  get #isReady(): boolean {
    return this.#streams.isReady && (this.#tunnel?.isCarried ?? true)
  }

  #streamCount(): number {
    return this.#routes.keys.reduce((sum, key) => sum + this.#streams.streams(key), 0)
  }

  #view(): RouteView {
    return viewRoute({
      isOn: this.#isOn,
      route: this.#routes.find(''),
      isReady: this.#isReady,
      problem: this.#routes.problem(''),
      advice: adviceFor(this.#config, this.#directory.size),
    })
  }

  #closeIdle(): void {
    const now = monotonicMs()
    for (const key of this.#routes.keys) {
      if (key === '' || this.#streams.streams(key) > 0) {
        this.#idleSinceMs.delete(key)
        continue
      }
      const since = this.#idleSinceMs.get(key) ?? now
      this.#idleSinceMs.set(key, since)
      if (now - since < ISOLATED_IDLE_MS) continue
      this.#idleSinceMs.delete(key)
      this.#streams.handleLost(key)
      this.#loop.run(() => this.#routes.close(key))
    }
  }

  #status(): Status {
    const main = this.#routes.find('')
    const problem = this.#routes.problem('')
    const isReady = main?.state === 'ready' && this.#isReady
    const state = !this.#isOn ? 'off' : isReady ? 'ready' : main?.state === 'moving' ? 'moving' : 'building'
    return {
      ...commonStatus(this.#startedMs),
      role: 'client',
      state,
      listening: {
        proxy: this.#proxyAddress === undefined ? [] : [formatAddress(this.#proxyAddress)],
        udp: this.#address === undefined ? [] : [formatAddress(this.#address)],
      },
      directory: this.#directory.size,
      routes: this.#routes.keys.map(key => this.#routeStatus(key)),
      sessions: this.#routes.keys.reduce((sum, key) => sum + (this.#routes.find(key)?.layers().length ?? 0), 0),
      flows: 0,
      streams: this.#streamCount(),
      ...(this.#network && { interface: this.#network.name, mtu: TUNNEL_MTU }),
      counters: {
        ...this.#engine?.counters.snapshot(),
        ...Object.fromEntries([...this.#proxy.counters].map(([name, count]) => [`proxy.${name}`, count])),
        failovers: this.#failovers,
      },
      ...(state === 'building' &&
        problem !== undefined && { problem, advice: adviceFor(this.#config, this.#directory.size) }),
    }
  }

  #routeStatus(key: string): Status['routes'][number] {
    const route = this.#routes.find(key)
    const problem = this.#routes.problem(key)
    const state = route?.state
    const isKnown = state === 'building' || state === 'ready' || state === 'moving'
    return {
      isolation: key,
      state: isKnown ? state : 'waiting',
      hops: route?.hops.map(describeHop) ?? [],
      ...(route?.spareHops && { spare: route.spareHops.map(describeHop) }),
      ...(route?.rttMs !== undefined && { rttMs: route.rttMs }),
      streams: this.#streams.streams(key),
      ...(route === undefined && problem !== undefined && { problem }),
    }
  }
}

function adviceFor(config: Config, size: number): string {
  if (config.network.bootstrap.length === 0 && size === 0)
    return 'set bootstrap in [network]: without it no relay can be found'
  if (size === 0) return 'check the network connection and the bootstrap nodes: hoplite doctor'
  return 'wait for more relays, or use fewer hops with --hops'
}

/** Shuts the machine's network: from then on nothing goes around the tunnel that may not. Gives the configuration without names. */
async function shutMachine(
  config: Config,
  stateDir: string,
  { routes, split, lan, killSwitch }: MachinePlan,
): Promise<{ readonly config: Config; readonly network: TunnelNetwork }> {
  const { multiaddrs, endpoints } = await resolveBootstraps(config.network.bootstrap)
  const network = await TunnelNetwork.open({
    stateDir,
    name: TUN_NAME,
    mtu: TUNNEL_MTU,
    addresses: CLIENT_ADDRESSES,
    dnsServers: [TUNNEL_RESOLVER],
    dnsSearch: [],
    routes,
    killSwitch,
    lan,
    split,
    control: endpoints,
  })
  return { config: { ...config, network: { ...config.network, bootstrap: multiaddrs } }, network }
}
