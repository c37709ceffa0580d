// The client: its directory, its routes, the proxy that applications use, and the tunnel of the whole machine or of one command.

import { HopliteError } from '#api/errors.ts'
import type { Input, Output, Status } from '#api/table.ts'
import { systemRandom } from '#crypto/random.ts'
import { Directory } from '#discover/directory.ts'
import type { Report } from '#forward/commands.ts'
import { monotonicMs } from '#platform/clock.ts'
import type { Engine } from '#platform/engine.ts'
import type { Endpoint } from '#platform/linux/networks.ts'
import { NetworkWatch } from '#platform/network-watch.ts'
import { prepareStateDirectory } from '#platform/state-file.ts'
import { lockState } from '#platform/state-lock.ts'
import { Routes } from '#route/routes.ts'
import { DialError } from '#stream/dial-error.ts'
import { ProxyServer } from '#stream/proxy.ts'
import { type Address, formatAddress, parseAddress } from '#wire/address.ts'
import { REFUSAL } from '#wire/control.ts'
import { ClientFace } from './client-face.ts'
import { ClientTunnel, type ShutNetwork, shutMachine } from './client-tunnel.ts'
import type { Config } from './config.ts'
import { ControlLoop } from './control-loop.ts'
import { Detour } from './detour.ts'
import { DirectoryKeeper } from './directory-keeper.ts'
import { openFace } from './face.ts'
import { ISSUER_ISOLATION } from './issuer-way.ts'
import { parseListen } from './listen.ts'
import { own } from './log.ts'
import type { MachinePlan } from './machine-plan.ts'
import { Meeting } from './meeting.ts'
import { commonStatus, dataPlaneFailure, Laboratory, type RunOptions, startEngine, untilAborted } from './node.ts'
import { Payments } from './payments.ts'
import { RelayChoice } from './relay-choice.ts'
import { RelayMeetings } from './relay-meetings.ts'
import { RouteStreams } from './route-streams.ts'
import { describeHop, type RouteView, viewRoute } from './route-view.ts'
import type { OpenTun } from './tunnel-flow.ts'
import { endpointOf, openMachine, type TunnelNetwork } from './tunnel-network.ts'
import { planVia, type ViaPlan } from './via-device.ts'
import { walletHandlers, walletStatus } from './wallet-desk.ts'

/** An isolated route that carries nothing for this long is closed. */
const ISOLATED_IDLE_MS = 300_000

/**
 * Runs a client until `signal` is aborted or its API says so; with a plan the whole machine goes through its route. Throws what
 * keeps it from starting, or what ended its data plane: the machine's network then stays shut.
 */
export async function runClient(config: Config, options: RunOptions, plan?: MachinePlan): Promise<void> {
  prepareStateDirectory(options.stateDir)
  const unlock = lockState(options.stateDir)
  try {
    if (plan === undefined) await openMachine(options.stateDir)
    const via = plan?.via === undefined ? undefined : planVia(options.stateDir, config.meet.name, plan.via)
    const machine = plan && (await shutMachine(config, options.stateDir, plan, via))
    const client = new Client(machine?.config ?? config, options, machine, via)
    try {
      await client.start()
      await untilAborted(client.signal)
    } finally {
      await client.close()
      machine?.release()
    }
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
  readonly #detour: Detour
  readonly #watch = new NetworkWatch({ onChange: (_reason, sleptMs) => this.#handleNetworkChange(sleptMs) })
  readonly #face: ClientFace
  readonly #meeting: Meeting
  readonly #relayMeetings: RelayMeetings
  readonly #laboratory: Laboratory
  readonly #tunnel: ClientTunnel
  readonly #network: TunnelNetwork | undefined
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
  /** Whether IP packets go through the route, of the whole machine or of one command. */
  readonly #needsTunnel: boolean
  readonly #machine: ShutNetwork | undefined
  readonly #via: ViaPlan | undefined
  #payments: Payments | undefined
  /** Whether routes are wanted; while they are not, applications are refused. */
  #isOn: boolean

  constructor(config: Config, options: RunOptions, machine?: ShutNetwork, via?: ViaPlan) {
    const network = machine?.network
    this.#config = config
    this.#options = options
    this.#machine = machine
    this.#via = via
    // Who goes through a device of theirs needs no relay.
    this.#isOn = !options.startsOff && via === undefined
    this.signal = AbortSignal.any([options.signal, this.#stop.signal])
    this.#detour = new Detour({ when: config.client.websocket, port: config.client.websocket_port })
    this.#laboratory = new Laboratory(config)
    this.#needsTunnel = (network !== undefined && via === undefined) || options.isPrivate === true
    this.#choice = new RelayChoice(this.#directory, options.stateDir, config.client.hops, options.log, {
      needsTunnel: this.#needsTunnel,
      issuerId: config.credit.issuer_id,
      bootstrap: config.network.bootstrap,
    })
    this.#network = network
    this.#tunnel = this.#makeTunnel(network)
    // Links that go through the tunnel: the exit would see whom we ask, and our guards are not for it to know.
    const isBeside = machine === undefined || machine.meeting !== undefined
    const stunServers = () => (isBeside ? this.#choice.guardAddresses() : [])
    this.#routes = new Routes({
      random: systemRandom,
      pickRoute: () => this.#choice.pickRoute(),
      pickWay: (exit, inUse) => this.#choice.pickWay(exit, inUse),
      isBusy: key => this.#streams.streams(key) > 0 || (key === '' && this.#tunnel.isBusy),
    })
    this.#relayMeetings = new RelayMeetings({
      indices: this.#routes.indices,
      pick: avoid => this.#choice.pickMeetingRelay(avoid),
      find: relay => this.#choice.find(relay),
      send: commands => this.#tunnel.send(commands),
      onNews: news => this.#meeting.handleMeeting(news),
      onSilent: () => this.#handleSilence(),
      onFailure: relay => this.#choice.handleFailure(relay),
    })
    this.#meeting = new Meeting({
      ...{ ...options, config, stunServers, meetings: this.#relayMeetings },
      needed: () => this.#needed(),
      onReachable: () => this.#face.handleChange(),
      onFailure: error => machine && this.#stop.abort(dataPlaneFailure(error)),
      ...(machine?.meeting !== undefined && { shut: machine.meeting }),
    })
    this.#loop = new ControlLoop(this.#routes, now => this.#carryOut(now))
    this.#streams = new RouteStreams({
      routes: this.#routes,
      run: input => this.#loop.run(input),
      send: (...commands) => this.#tunnel.send(commands),
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
      send: (...commands) => this.#tunnel.send(commands),
    })
    this.#keeper = new DirectoryKeeper({
      config,
      directory: this.#directory,
      log: options.log,
      onRefreshed: () => {
        this.#choice.save()
        this.#tunnel.handleControlChanged()
        this.#meeting.handleServersKnown()
        this.#loop.run(now => this.#routes.handleDeadline(now))
      },
      guards: () => this.#choice.guardSources(),
      ...(this.#laboratory.isOn && { onConnection: (from: Address) => this.#laboratory.sawAddress(from) }),
    })
  }

  async start(): Promise<void> {
    const { log } = this.#options
    this.#choice.load()
    this.#tunnel.handleControlChanged()
    this.#payments = this.#openPayments()
    const socket = await this.#network?.socket(this.#config.client.bind)
    this.#network?.onLost(error => this.#stop.abort(error))
    const { engine, address } = await startEngine(
      { host: this.#config.client.bind, port: 0 },
      {
        // The other engine has no TUN, and no marks.
        config:
          this.#needsTunnel || this.#machine !== undefined
            ? { ...this.#config, engine: { kind: 'linux' } }
            : this.#config,
        log,
        ...(socket !== undefined && { sockets: [socket] }),
      },
      report => this.#handleReport(report),
      error => this.#stop.abort(dataPlaneFailure(error)),
    )
    this.#engine = engine
    this.#address = address
    this.#tunnel.start()
    if (!this.#options.isPrivate) await this.#openForOthers()
    this.#keeper.start()
    if (this.#isOn) this.#loop.run(now => this.#routes.want('', now))
    this.#sweep = setInterval(() => this.#closeIdle(), 30_000)
  }

  /** Gives a TUN to the route; resolves when an exit carries its packets. Throws NO_ROUTE. */
  openTunnel(tun: OpenTun): Promise<void> {
    return this.#tunnel.open(tun)
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
    await this.#meeting.start()
    this.#api = await openFace(
      this.#config,
      this.#options,
      {
        ...this.#face.handlers,
        ...this.#meeting.handlers(),
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
        ...(this.#payments && walletHandlers(this.#payments.wallet)),
        observe: ({ marker }) => this.#laboratory.observe(marker, this.#engine),
        observation: () => this.#laboratory.observation(this.#engine),
        crash: () => this.#laboratory.crash(this.#engine),
      },
      this.#face.events,
      { 'client.hops': ({ client }) => this.#choice.prefer({ hops: client.hops }) },
    )
    this.#options.log.info('client is up', { proxy: own(formatAddress(this.#proxyAddress)) })
    this.#face.start()
  }

  async close(): Promise<void> {
    clearInterval(this.#sweep)
    this.#face.close()
    this.#streams.close()
    for (const key of this.#routes.keys) this.#routes.close(key)
    this.#loop.close()
    this.#relayMeetings.end()
    const hasFailed = this.#stop.signal.reason instanceof HopliteError
    await this.#tunnel.end(hasFailed)
    this.#watch[Symbol.dispose]()
    this.#detour[Symbol.dispose]()
    const { listening } = this.#proxy
    await Promise.allSettled([
      this.#keeper.close(),
      this.#meeting.close(),
      listening && this.#proxy.close(),
      this.#api?.close(),
      this.#engine?.close(),
      this.#payments?.close(),
    ])
    await this.#tunnel.restore(hasFailed)
  }

  #makeTunnel(network: ShutNetwork['network'] | undefined): ClientTunnel {
    return new ClientTunnel({
      isWanted: this.#needsTunnel,
      network,
      log: this.#options.log,
      routes: () => this.#routes,
      moreRelays: () => this.#relayMeetings.relays,
      run: input => this.#loop.run(input),
      carryOut: commands => this.#engine?.send(...this.#detour.outward(commands)),
      datagramsIn: () => this.#engine?.counters.get('datagramsIn') ?? 0,
      control: relays => this.#control(relays),
      onCarried: () => this.#face.handleChange(),
      onRefused: route => this.#choice.handleFailure(route.exit),
    })
  }

  /** Where this process connects to by itself: the directory's sources and, where no UDP passes, relays' doors. */
  #control(relays: readonly Address[]): Endpoint[] {
    const { bootstrap } = this.#config.network
    const port = this.#config.client.websocket_port
    const doors = this.#detour.isOn ? relays : []
    return [
      ...[...bootstrap, ...this.#choice.guardSources()].flatMap(endpointOf),
      ...(this.#machine?.control ?? []),
      ...doors.map(({ host }) => ({ address: host, protocol: 'tcp', port }) as const),
    ]
  }

  /** Addresses that nobody's offer of a network may lead away. */
  #needed(): readonly string[] {
    const { stun, turn, rendezvous } = this.#config.meet
    const servers = [...stun, ...turn.map(({ address }) => address)].flatMap(text => parseAddress(text) ?? [])
    const relays = [...this.#choice.guardAddresses(), ...this.#relayMeetings.relays, ...servers].map(({ host }) => host)
    const letters = rendezvous.map(url => new URL(url).hostname.replace(/^\[|\]$/g, ''))
    return [...relays, ...letters, ...this.#control([]).map(({ address }) => address)]
  }

  #openPayments(): Payments | undefined {
    return Payments.open(this.#config, this.#options.stateDir, {
      findRoute: session => {
        const route = this.#routes.routeOf(session)
        return route && { layers: route.layers(), end: route.exitLayer.session }
      },
      priceOf: hopKey => this.#choice.priceOf(hopKey),
      run: input => this.#loop.run(input),
      send: (...commands) => this.#engine?.send(...commands),
      dial: async (target, signal) => {
        this.#assertOn()
        return this.#streams.dial(target, ISSUER_ISOLATION, signal)
      },
      log: this.#options.log,
    })
  }

  #handleReport(told: Report): void {
    const report = this.#detour.inward(told)
    this.#laboratory.handleReport(report)
    this.#streams.handleReport(report)
    this.#payments?.handleReport(report, monotonicMs())
    if (report.kind === 'failed') this.#options.log.warn('data plane', { what: own(report.what) })
    this.#face.handleReport(report)
    this.#loop.run(now => this.#routes.handleReport(report, now))
    this.#relayMeetings.handleReport(report)
  }

  #carryOut(now: number): void {
    const commands = this.#routes.take(now)
    this.#tunnel.send(commands)
    this.#payments?.handleCommands(commands, now)
    const { log } = this.#options
    for (const { key, route, event } of this.#routes.takeEvents()) {
      switch (event.kind) {
        case 'ready':
          this.#choice.handleSuccess(route.hops)
          this.#streams.handleReady(key, route)
          if (key === '') this.#tunnel.handleReady(route)
          log.info('route is ready', { hops: route.hops.length })
          break
        case 'lost':
          this.#streams.handleLost(key)
          if (key === '') this.#tunnel.handleLost()
          log.warn('route lost', { reason: own(event.reason) })
          break
        case 'resized':
          if (key === '') this.#tunnel.handleResized(route, event.mtu)
          log.info('packets of another size pass', { mtu: event.mtu })
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
          this.#choice.handleFailure(event.hop, event.isDoubtful)
          this.#handleSilence()
          log.warn('hop failed', { id: own(event.hop.id) })
          break
      }
    }
    this.#face.handleChange()
  }

  /** A relay did not answer: it may be the network that lets no UDP through. */
  #handleSilence(): void {
    if (!this.#detour.handleFailure(this.#engine?.counters.get('datagramsIn') ?? 0)) return
    this.#options.log.warn(
      this.#detour.isOn ? 'no UDP passes: relays are tried by WebSocket' : 'relays are tried by UDP',
    )
    this.#tunnel.handleControlChanged()
  }

  #handleNetworkChange(sleptMs: number): void {
    this.#detour.handleNetworkChange()
    this.#meeting.handleNetworkChange()
    this.#loop.run(now => this.#routes.handleWake(now, sleptMs))
  }

  #assertOn(): void {
    if (!this.#isOn) throw new DialError(REFUSAL.generalFailure)
  }

  #connect(): Output<'connect'> {
    if (!this.#isOn) this.#options.log.info('switched on')
    this.#isOn = true
    this.#options.onSwitched?.(true)
    this.#loop.run(now => this.#routes.want('', now))
    return { connecting: true }
  }

  #disconnect(): Output<'disconnect'> {
    if (this.#isOn) this.#options.log.info('switched off')
    this.#isOn = false
    this.#options.onSwitched?.(false)
    const { keys } = this.#routes
    for (const key of keys) this.#streams.handleLost(key)
    this.#tunnel.handleLost()
    this.#loop.run(() => keys.forEach(key => this.#routes.close(key)))
    return { off: true }
  }

  #renew(): Output<'newRoute'> {
    const { keys } = this.#routes
    for (const key of keys) this.#streams.handleLost(key)
    this.#tunnel.handleLost()
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
    return this.#streams.isReady && this.#tunnel.isReady
  }

  #streamCount(): number {
    return this.#routes.keys.reduce((sum, key) => sum + this.#streams.streams(key), 0)
  }

  #view(): RouteView {
    return viewRoute({
      isOn: this.#isOn,
      route: this.#routes.find(''),
      isReady: this.#isReady,
      problem: this.#isOn ? this.#routes.problem('') : this.#options.problem?.message,
      advice: (!this.#isOn && this.#options.problem?.advice) || adviceFor(this.#config, this.#directory.size),
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
    const unpaid = this.#payments?.problem
    const isReady = main?.state === 'ready' && this.#isReady
    const through = this.#via && this.#meeting.via
    const state = through
      ? through.isUp
        ? 'ready'
        : 'building'
      : !this.#isOn
        ? 'off'
        : isReady
          ? 'ready'
          : main?.state === 'moving'
            ? 'moving'
            : 'building'
    return {
      ...commonStatus(this.#startedMs),
      role: 'client',
      state,
      listening: {
        proxy: this.#proxyAddress === undefined ? [] : [formatAddress(this.#proxyAddress)],
        udp: this.#address === undefined ? [] : [formatAddress(this.#address)],
        ...(this.#meeting.dnsAddress !== undefined && { dns: [this.#meeting.dnsAddress] }),
      },
      directory: this.#directory.size,
      routes: this.#routes.keys.map(key => this.#routeStatus(key)),
      sessions: this.#routes.keys.reduce((sum, key) => sum + (this.#routes.find(key)?.layers().length ?? 0), 0),
      flows: 0,
      streams: this.#streamCount(),
      ...(this.#payments && { credits: walletStatus(this.#payments.wallet) }),
      ...this.#tunnel.link,
      ...(this.#via && { via: this.#via.name }),
      counters: {
        ...this.#engine?.counters.snapshot(),
        ...Object.fromEntries([...this.#proxy.counters].map(([name, count]) => [`proxy.${name}`, count])),
        failovers: this.#failovers,
        ...(this.#payments && { 'credits.paid': this.#payments.paid }),
        ...this.#meeting.counters,
      },
      ...(state === 'off' && this.#options.problem && told(this.#options.problem)),
      ...(through?.problem !== undefined && {
        problem: through.problem,
        advice: 'hoplite devices says how each is reached',
      }),
      ...(state === 'building' &&
        problem !== undefined && { problem, advice: adviceFor(this.#config, this.#directory.size) }),
      ...(unpaid !== undefined && { problem: unpaid }),
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

function told({ message, advice }: HopliteError): { problem: string; advice: string } {
  return { problem: message, advice }
}

function adviceFor(config: Config, size: number): string {
  if (config.network.bootstrap.length === 0 && size === 0)
    return 'set bootstrap in [network]: without it no relay can be found'
  if (size === 0) return 'check the network connection and the bootstrap nodes: hoplite doctor'
  return 'wait for more relays, or use fewer hops with --hops'
}
