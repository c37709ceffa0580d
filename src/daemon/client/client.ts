// The client: its directory, its routes, the proxy that applications use, and the tunnel of the whole machine or of one command.

import { HopliteError } from '#api/errors.ts'
import type { Status } from '#api/table.ts'
import { Directory } from '#discover/directory.ts'
import type { Report } from '#forward/commands.ts'
import { monotonicMs } from '#platform/clock.ts'
import type { Engine } from '#platform/engine.ts'
import type { Endpoint } from '#platform/linux/network/networks.ts'
import { NetworkWatch } from '#platform/network-watch.ts'
import { openFiles } from '#platform/process-limits.ts'
import { prepareStateDirectory } from '#platform/state/state-file.ts'
import { lockState } from '#platform/state/state-lock.ts'
import { ProxyServer } from '#stream/proxy.ts'
import { type Address, formatAddress, parseAddress } from '#wire/address.ts'
import type { Config } from '../config.ts'
import { Meeting } from '../devices/meeting.ts'
import { DirectoryKeeper } from '../directory-keeper.ts'
import { endpointOf, openMachine, type TunnelNetwork } from '../entry/tunnel-network.ts'
import { openFace } from '../face.ts'
import { HandshakeCount } from '../handshake-count.ts'
import { parseListen } from '../listen.ts'
import { own } from '../log.ts'
import { commonStatus, dataPlaneFailure, Laboratory, type RunOptions, startEngine, untilAborted } from '../node.ts'
import { Parts } from '../parts/parts.ts'
import { RelayMeetings } from '../relay/relay-meetings.ts'
import { walletHandlers, walletStatus } from '../wallet/wallet-desk.ts'
import { ClientFace } from './client-face.ts'
import { ClientRoutes } from './client-routes.ts'
import { adviceFor, routesStatus, viaStatus } from './client-status.ts'
import { ClientTunnel, type ShutNetwork, shutMachine } from './client-tunnel.ts'
import { Detour } from './detour.ts'
import { ISSUER_ISOLATION } from './issuer-way.ts'
import type { MachinePlan } from './machine-plan.ts'
import { Payments } from './payments.ts'
import { RelayChoice } from './relay-choice.ts'
import { type RouteView, viewRoute } from './route-view.ts'
import type { OpenTun } from './tunnel-flow.ts'
import { planVia, type ViaPlan } from './via-device.ts'

/**
 * Runs a client until `signal` is aborted or its API says so; with a plan the whole machine goes through its route. Throws what
 * keeps it from starting, or what ended its data plane: the machine's network then stays shut.
 */
export async function runClient(
  config: Config,
  options: RunOptions,
  plan?: MachinePlan,
  memory: ClientMemory = {},
): Promise<void> {
  prepareStateDirectory(options.stateDir)
  const unlock = lockState(options.stateDir)
  try {
    if (plan === undefined) await openMachine(options.stateDir)
    const via = plan?.via === undefined ? undefined : planVia(options.stateDir, config.meet.name, plan.via)
    const machine = plan && (await shutMachine(config, options.stateDir, plan, via))
    const { stateDir, log, configFile } = options
    memory.parts ??= new Parts({ config, stateDir, log, configFile, hasTunnel: plan !== undefined })
    const client = new Client(machine?.config ?? config, options, { machine, via, parts: memory.parts })
    try {
      await client.start()
      memory.parts.resume()
      await untilAborted(client.signal)
      await memory.parts.close()
    } finally {
      await client.close()
      machine?.release()
    }
  } finally {
    unlock()
  }
}

/** What a client leaves to one that takes its place after a failure: its parts go on meanwhile. */
export interface ClientMemory {
  parts?: Parts
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

/** What a client is in, beside its configuration. */
interface ClientSurroundings {
  readonly machine?: ShutNetwork | undefined
  readonly via?: ViaPlan | undefined
  readonly parts?: Parts
}

class Client {
  readonly #config: Config
  readonly #parts: Parts | undefined
  readonly #options: RunOptions
  readonly #directory = new Directory()
  readonly #choice: RelayChoice
  readonly #routes: ClientRoutes
  readonly #proxy: ProxyServer
  readonly #keeper: DirectoryKeeper
  readonly #detour: Detour
  readonly #watch = new NetworkWatch({
    onChange: (_reason, sleptMs) => {
      this.#detour.handleNetworkChange()
      this.#meeting.handleNetworkChange()
      this.#routes.handleWake(sleptMs)
    },
  })
  readonly #face: ClientFace
  readonly #meeting: Meeting
  readonly #relayMeetings: RelayMeetings
  readonly #laboratory: Laboratory
  readonly #handshakes = new HandshakeCount()
  readonly #tunnel: ClientTunnel
  readonly #network: TunnelNetwork | undefined
  readonly #startedMs = monotonicMs()
  readonly #stop = new AbortController()
  readonly signal: AbortSignal
  #engine: Engine | undefined
  #address: Address | undefined
  #proxyAddress: Address | undefined
  #api: { close(): Promise<void> } | undefined
  /** Whether IP packets go through the route, of the whole machine or of one command. */
  readonly #needsTunnel: boolean
  readonly #machine: ShutNetwork | undefined
  readonly #via: ViaPlan | undefined
  #payments: Payments | undefined
  /** Whether whoever ends it wants the machine's network left as it is. */
  #staysShut = false

  constructor(config: Config, options: RunOptions, { machine, via, parts }: ClientSurroundings = {}) {
    const network = machine?.network
    this.#parts = parts
    this.#config = config
    this.#options = options
    this.#machine = machine
    this.#via = via
    this.signal = AbortSignal.any([options.signal, this.#stop.signal])
    this.#detour = new Detour({
      when: config.client.websocket,
      port: config.client.websocket_port,
      send: commands => this.#engine?.send(...commands),
      onChange: () => this.#handleDetour(),
    })
    this.#laboratory = new Laboratory(config)
    this.#needsTunnel = (network !== undefined && via === undefined) || options.isPrivate === true
    this.#choice = new RelayChoice(this.#directory, options.stateDir, config.client.hops, options.log, {
      needsTunnel: this.#needsTunnel,
      issuerId: config.credit.issuer_id,
      bootstrap: config.network.bootstrap,
    })
    const { exit_countries: countries, avoid_exit_countries: notCountries } = config.client
    this.#choice.prefer({ countries, notCountries })
    this.#network = network
    this.#tunnel = this.#makeTunnel(network)
    // Links that go through the tunnel: the exit would see whom we ask, and our guards are not for it to know.
    const isBeside = machine === undefined || machine.meeting !== undefined
    const stunServers = () => (isBeside ? this.#choice.guardAddresses() : [])
    this.#routes = new ClientRoutes({
      choice: this.#choice,
      log: options.log,
      // Who goes through a device of theirs needs no relay.
      startsOn: !options.startsOff && via === undefined,
      onSwitched: options.onSwitched,
      tunnel: () => this.#tunnel,
      onCommands: (commands, now) => {
        this.#handshakes.handleCommands(commands)
        this.#payments?.handleCommands(commands, now)
      },
      onFailover: (silentMs, failovers) => this.#face.handleFailover(silentMs, failovers),
      onHopFailed: () => {
        this.#handshakes.handleFailure()
        this.#handleSilence()
      },
      onChange: () => this.#face.handleChange(),
    })
    const { routes, streams } = this.#routes
    this.#relayMeetings = new RelayMeetings({
      indices: routes.indices,
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
    this.#proxy = new ProxyServer({
      dial: async (target, isolation, signal) => {
        this.#routes.assertOn()
        return streams.dial(target, isolation, signal)
      },
      associate: async (isolation, signal, lost) => {
        this.#routes.assertOn()
        return streams.associate(isolation, signal, lost)
      },
      hasRoom: () => openFiles.hasRoom(),
    })
    this.#face = new ClientFace({
      route: () => routes.find(''),
      view: () => this.#view(),
      streams: () => this.#routes.streamCount,
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
        this.#routes.run(now => routes.handleDeadline(now))
      },
      isStuck: () => this.#routes.isOn && routes.find('')?.state !== 'ready' && routes.problem('') !== undefined,
      guards: () => this.#choice.guardSources(),
      ...(this.#laboratory.isOn && { onConnection: (from: Address) => this.#laboratory.sawAddress(from) }),
    })
  }

  async start(): Promise<void> {
    const { log } = this.#options
    this.#choice.load()
    this.#tunnel.handleControlChanged()
    this.#payments = this.#openPayments()
    if (this.#parts !== undefined) this.#parts.wallet = this.#payments?.wallet
    const socket = await this.#network?.socket(this.#config.client.bind)
    this.#network?.onLost(error => this.#stop.abort(error))
    const { engine, address } = await startEngine(
      { host: this.#config.client.bind, port: 0 },
      {
        // The other engine has no TUN, and no marks.
        config:
          this.#needsTunnel || this.#machine !== undefined
            ? { ...this.#config, engine: { ...this.#config.engine, kind: 'linux' } }
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
    this.#routes.start()
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
      const advice = 'stop the program that uses it, or choose another: proxy in [client], or hoplite up --proxy'
      throw new HopliteError(
        'ADDRESS_IN_USE',
        `listen on ${formatAddress(listen)}: ${(error as NodeJS.ErrnoException).code}`,
        advice,
        error,
      )
    }
    if (this.#parts !== undefined) this.#parts.proxy = this.#proxyAddress
    await this.#meeting.start()
    this.#api = await openFace(
      this.#config,
      this.#options,
      {
        ...this.#face.handlers,
        ...this.#meeting.handlers(),
        status: () => this.#status(),
        down: ({ staysShut = false }) => {
          this.#staysShut = staysShut
          setImmediate(() => this.#stop.abort())
          return { stopping: true }
        },
        connect: () => this.#routes.connect(),
        disconnect: () => this.#routes.disconnect(),
        newRoute: () => this.#routes.renew(),
        setRoute: input => this.#routes.setRoute(input),
        relays: input => this.#routes.relays(input),
        ...this.#parts?.handlers,
        ...(this.#payments && walletHandlers(this.#payments.wallet)),
        observe: ({ marker }) => this.#laboratory.observe(marker, this.#engine),
        observation: () => this.#laboratory.observation(this.#engine),
        crash: () => this.#laboratory.crash(this.#engine),
      },
      this.#face.events,
      {
        'meet.allow': ({ meet }) => this.#meeting.allow(meet.allow),
        'client.hops': ({ client }) => this.#choice.prefer({ hops: client.hops }),
        'client.exit_countries': ({ client }) => this.#choice.prefer({ countries: client.exit_countries }),
        'client.avoid_exit_countries': ({ client }) =>
          this.#choice.prefer({ notCountries: client.avoid_exit_countries }),
      },
    )
    this.#options.log.info('client is up', { proxy: own(formatAddress(this.#proxyAddress)) })
    this.#face.start()
  }

  async close(): Promise<void> {
    this.#face.close()
    this.#routes.close()
    this.#relayMeetings.end()
    const hasFailed = this.#stop.signal.reason instanceof HopliteError
    const isLeftShut = hasFailed || this.#staysShut
    await this.#tunnel.end(isLeftShut)
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
    await this.#tunnel.restore({ hasFailed, isLeftShut })
  }

  #makeTunnel(network: ShutNetwork['network'] | undefined): ClientTunnel {
    return new ClientTunnel({
      isWanted: this.#needsTunnel,
      network,
      log: this.#options.log,
      routes: () => this.#routes.routes,
      moreRelays: () => this.#relayMeetings.relays,
      run: input => this.#routes.run(input),
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
    const doors = this.#detour.isOpen ? relays : []
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
        const route = this.#routes.routes.routeOf(session)
        return route && { layers: route.layers(), end: route.exitLayer.session }
      },
      priceOf: hopKey => this.#choice.priceOf(hopKey),
      run: input => this.#routes.run(input),
      send: (...commands) => this.#engine?.send(...commands),
      dial: async (target, signal) => {
        this.#routes.assertOn()
        return this.#routes.streams.dial(target, ISSUER_ISOLATION, signal)
      },
      log: this.#options.log,
    })
  }

  #handleReport(told: Report): void {
    const report = this.#detour.inward(told)
    this.#laboratory.handleReport(report)
    this.#routes.streams.handleReport(report)
    this.#payments?.handleReport(report, monotonicMs())
    if (report.kind === 'failed') this.#options.log.warn('data plane', { what: own(report.what) })
    this.#face.handleReport(report)
    this.#routes.handleReport(report)
    this.#relayMeetings.handleReport(report)
  }

  /** A relay did not answer: it may be the network that lets no UDP through. */
  #handleSilence(): void {
    this.#detour.handleFailure(this.#engine?.counters.get('datagramsIn') ?? 0)
  }

  #handleDetour(): void {
    if (this.#detour.isOn) this.#options.log.warn('no UDP passes: relays are reached by WebSocket')
    this.#tunnel.handleControlChanged()
  }

  #view(): RouteView {
    const { routes, isOn, isReady } = this.#routes
    return viewRoute({
      isOn,
      route: routes.find(''),
      isReady,
      problem: isOn ? routes.problem('') : this.#options.problem?.message,
      advice: (!isOn && this.#options.problem?.advice) || this.#advice,
    })
  }

  get #advice(): string {
    const problem = this.#routes.routes.problem('')
    return adviceFor(
      problem,
      this.#config.network.bootstrap.length > 0,
      this.#directory.size,
      this.#choice.unaffordable,
    )
  }

  #status(): Status {
    const payments = this.#payments
    const through = this.#via && viaStatus(this.#meeting.via)
    return {
      ...commonStatus(this.#startedMs),
      ...routesStatus(this.#routes, this.#options.problem, this.#advice),
      listening: {
        proxy: this.#proxyAddress === undefined ? [] : [formatAddress(this.#proxyAddress)],
        udp: this.#address === undefined ? [] : [formatAddress(this.#address)],
        ...(this.#meeting.dnsAddress !== undefined && { dns: [this.#meeting.dnsAddress] }),
      },
      directory: this.#directory.size,
      ...(payments && { credits: walletStatus(payments.wallet) }),
      ...this.#tunnel.link,
      ...(this.#via && { via: this.#via.name }),
      ...(this.#machine && { flags: [...this.#machine.flags] }),
      counters: {
        ...this.#engine?.counters.snapshot(),
        ...Object.fromEntries([...this.#proxy.counters].map(([name, count]) => [`proxy.${name}`, count])),
        failovers: this.#routes.failovers,
        ...this.#handshakes.counters,
        ...(payments && { 'credits.paid': payments.paid }),
        ...this.#meeting.counters,
      },
      ...through,
      ...(payments?.problem !== undefined && { problem: payments.problem, advice: payments.advice }),
    }
  }
}
