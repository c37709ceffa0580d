// An entry: one's own WireGuard tunnel, or any WireGuard client, led to its server over peers.

import { HopliteError } from '#api/errors.ts'
import type { Output, Status } from '#api/table.ts'
import { systemRandom } from '#crypto/random.ts'
import { Directory } from '#discover/directory.ts'
import type { Report } from '#forward/commands.ts'
import { monotonicMs } from '#platform/clock.ts'
import type { Engine } from '#platform/engine.ts'
import { NetworkWatch } from '#platform/network-watch.ts'
import { prepareStateDirectory } from '#platform/state/state-file.ts'
import { lockState } from '#platform/state/state-lock.ts'
import { serveUapi, type UapiServer } from '#platform/uapi-server.ts'
import { EntryRoutes, MAX_ENTRIES } from '#route/entry-routes.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import type { WgQuickHook } from '#wire/wg-quick.ts'
import { BusyMeter } from '../busy-meter.ts'
import { Payments } from '../client/payments.ts'
import { RelayChoice } from '../client/relay-choice.ts'
import { RelayGate } from '../client/relay-gate.ts'
import { describeHop } from '../client/route-view.ts'
import { TUNNEL_MTU } from '../client/tunnel-flow.ts'
import type { Config } from '../config.ts'
import { ControlLoop } from '../control-loop.ts'
import { DirectoryKeeper } from '../directory-keeper.ts'
import { openFace } from '../face.ts'
import { HandshakeCount } from '../handshake-count.ts'
import { own } from '../log.ts'
import { commonStatus, dataPlaneFailure, Laboratory, type RunOptions, startEngine, untilAborted } from '../node.ts'
import { PeerSearch } from '../peer/peer-search.ts'
import { walletHandlers, walletStatus } from '../wallet/wallet-desk.ts'
import { type EntryPlan, entryOrder, resolveServer, tunnelMtu } from './entry-plan.ts'
import { type Bootstraps, linkMtu, resolveBootstraps, runTunnelHooks, TunnelNetwork } from './tunnel-network.ts'
import { TunnelView } from './tunnel-view.ts'

/** What a run leaves to one that takes its place after a failure: the network is shut then, and names cannot be asked. */
export interface EntryMemory {
  servers?: Servers
  bootstraps?: Bootstraps
  wasUp?: boolean
}

/**
 * Runs an entry until `signal` is aborted or its API says so. Throws what keeps it from starting, and DATA_PLANE_FAILED: then
 * the machine's network stays shut.
 */
export async function runEntry(
  config: Config,
  options: RunOptions,
  plan: EntryPlan,
  memory: EntryMemory = {},
): Promise<void> {
  prepareStateDirectory(options.stateDir)
  const unlock = lockState(options.stateDir)
  try {
    const entry = await Entry.prepare(config, options, plan, memory)
    let mayOpen = memory.wasUp !== true
    try {
      await entry.start()
      memory.wasUp = true
      mayOpen = false
      await untilAborted(entry.signal)
      mayOpen = true
    } finally {
      await entry.close(mayOpen)
    }
  } finally {
    unlock()
  }
}

/** The servers of a plan: entry n leads to `servers[n - 1]`. */
interface Servers {
  readonly addresses: readonly Address[]
  /** Entries by public key, base64; empty for a listening entry. */
  readonly ofPeer: ReadonlyMap<string, number>
}

class Entry {
  readonly #config: Config
  readonly #options: RunOptions
  readonly #plan: EntryPlan
  readonly #servers: Servers
  readonly #network: TunnelNetwork | undefined
  /** The longest packet there may ever be: what the link carries, or less if the file says so. */
  readonly #longest: number
  /** What each entry carries, as far as is known. */
  readonly #mtus = new Map<number, number>()
  readonly #directory = new Directory()
  readonly #choice: RelayChoice
  readonly #routes: EntryRoutes
  #payments: Payments | undefined
  readonly #loop: ControlLoop
  readonly #keeper: DirectoryKeeper
  readonly #laboratory: Laboratory
  readonly #handshakes = new HandshakeCount()
  readonly #gate: RelayGate
  readonly #busy = new BusyMeter()
  readonly #watch = new NetworkWatch({
    onChange: (_reason, sleptMs) => this.#loop.run(now => this.#routes.handleWake(now, sleptMs)),
  })
  readonly #startedMs = monotonicMs()
  readonly #stop = new AbortController()
  readonly signal: AbortSignal
  #search: PeerSearch | undefined
  #engine: Engine | undefined
  #address: Address | undefined
  #listening: Address | undefined
  #tunnel: TunnelView | undefined
  #uapi: UapiServer | undefined
  #api: { close(): Promise<void> } | undefined
  #moves = 0
  /** Whether whoever ends it wants the machine's network left as it is. */
  #staysShut = false

  private constructor(
    config: Config,
    options: RunOptions,
    plan: EntryPlan,
    servers: Servers,
    mtu: number,
    network: TunnelNetwork | undefined,
  ) {
    this.#config = config
    this.#options = options
    this.#plan = plan
    this.#servers = servers
    this.#longest = mtu
    this.#network = network
    this.signal = AbortSignal.any([options.signal, this.#stop.signal])
    this.#laboratory = new Laboratory(config)
    this.#choice = new RelayChoice(this.#directory, options.stateDir, 1, options.log, {
      issuerId: config.credit.issuer_id,
    })
    this.#routes = new EntryRoutes({
      random: systemRandom,
      pickPeers: (server, inUse) => this.#choice.pickPeers(plan.peers, server, inUse, this.#search?.reached),
      isBusy: () => this.#busy.isBusy(this.#engine?.counters.get('datagramsIn') ?? 0, monotonicMs()),
    })
    this.#loop = new ControlLoop(this.#routes, () => this.#carryOut())
    this.#gate = new RelayGate({
      firewall: network,
      relays: () => [...this.#firstHops(), ...(this.#search?.targets ?? [])],
      carryOut: commands => this.#engine?.send(...(this.#search?.outward(commands) ?? commands)),
      log: options.log,
    })
    this.#keeper = new DirectoryKeeper({
      config,
      directory: this.#directory,
      log: options.log,
      onRefreshed: () => {
        this.#choice.save()
        this.#loop.run(now => this.#routes.retry(now))
      },
      isStuck: () =>
        this.#servers.addresses.some((server, i) => this.#routeStatus(i + 1, server).problem !== undefined),
      guards: () => [],
      ...(this.#laboratory.isOn && { onConnection: (from: Address) => this.#laboratory.sawAddress(from) }),
    })
  }

  /** Looks names up and, for a tunnel, shuts the machine's network: from then on nothing goes around it. */
  static async prepare(config: Config, options: RunOptions, plan: EntryPlan, memory: EntryMemory): Promise<Entry> {
    if (plan.kind === 'tunnel' && config.engine.kind === 'portable')
      throw new HopliteError(
        'CONFIG_INVALID',
        'bring a tunnel up: the engine is the portable one, which has none',
        'take kind = "portable" out of [engine], or start an entry with --listen and --to',
      )
    memory.servers ??= await findServers(plan)
    const { servers } = memory
    // The last peer's packets to the server are shorter by a layer, which is more than IPv6 takes over IPv4.
    // A way over one peer may lead over a relay besides, to a peer that nobody reaches directly: our own tunnel finds that out.
    const mtu = Math.min(
      tunnelMtu(linkMtu(), plan.kind === 'tunnel' ? plan.peers : 2, config.client.bind.includes(':') ? 6 : 4),
      plan.kind === 'tunnel' ? (plan.file.interface.mtu ?? Number.POSITIVE_INFINITY) : Number.POSITIVE_INFINITY,
    )
    if (plan.kind === 'listen') return new Entry(config, options, plan, servers, mtu, undefined)
    // A good part of a start is spent in reading it: that can be done while others change the network.
    import('#discover/node.ts').catch(() => undefined)
    memory.bootstraps ??= await resolveBootstraps(config.network.bootstrap)
    const { multiaddrs, endpoints } = memory.bootstraps
    await tellHooks(plan, options, 'PreUp')
    const size = { mtu: Math.min(mtu, TUNNEL_MTU) }
    const network = await TunnelNetwork.open({ ...networkOf(plan, options), ...size, control: endpoints })
    const resolved = {
      ...config,
      network: { ...config.network, bootstrap: multiaddrs },
      // No other has a tunnel, or sockets that the firewall lets out.
      engine: { ...config.engine, kind: 'linux' as const },
    }
    return new Entry(resolved, options, plan, servers, mtu, network)
  }

  async start(): Promise<void> {
    const { log } = this.#options
    const plan = this.#plan
    this.#choice.load()
    this.#payments = this.#openPayments()
    if (plan.peers === 1 && this.#config.meet.gossip) this.#search = this.#openSearch()
    const socket = await this.#network?.socket(this.#config.client.bind)
    this.#network?.onLost(error => this.#stop.abort(error))
    const { engine, address } = await startEngine(
      { host: this.#config.client.bind, port: 0 },
      { config: this.#config, log, ...(socket !== undefined && { sockets: [socket] }) },
      report => this.#handleReport(report),
      error => this.#stop.abort(dataPlaneFailure(error)),
    )
    this.#engine = engine
    this.#address = address
    await this.#openEntries()
    if (plan.kind === 'tunnel' && this.#network !== undefined) await this.#startTunnel(plan, this.#network)
    this.#api = await openFace(this.#config, this.#options, {
      status: () => this.#status(),
      down: ({ staysShut = false }) => {
        this.#staysShut = staysShut
        setImmediate(() => this.#stop.abort())
        return { stopping: true }
      },
      wgShow: () => this.#wgShow(),
      'entry.newPeer': () => this.#newPeer(),
      ...(this.#payments && walletHandlers(this.#payments.wallet)),
      observe: ({ marker }) => this.#laboratory.observe(marker, this.#engine),
      observation: () => this.#laboratory.observation(this.#engine),
    })
    log.info('entry is up', { kind: own(plan.kind) })
    this.#search?.begin({ socket: address, takesSockets: engine.takesSockets })
    this.#keeper.start()
    this.#loop.run(now => this.#routes.handleDeadline(now))
    await tellHooks(plan, this.#options, 'PostUp')
  }

  /** Ends it; with `opensNetwork` the machine's network is as it was afterwards, and otherwise nothing leaves. */
  async close(opensNetwork: boolean): Promise<void> {
    const plan = this.#plan
    const { log } = this.#options
    await tellHooks(plan, this.#options, 'PreDown')
    this.#loop.run(now => this.#servers.addresses.forEach((_, i) => this.#routes.close(i + 1, now)))
    this.#loop.close()
    this.#watch[Symbol.dispose]()
    await this.#gate.settled()
    await Promise.allSettled([this.#search?.close(), this.#keeper.close(), this.#api?.close(), this.#uapi?.close()])
    await this.#engine?.close()
    await this.#payments?.close()
    if (this.#stop.signal.reason instanceof HopliteError) this.#network?.close()
    if ((opensNetwork && !this.#staysShut) || this.#network?.killSwitch === false) await this.#network?.restore()
    else if (this.#network !== undefined)
      log.warn('the network stays shut: nothing leaves until hoplite entry or recover')
    await tellHooks(plan, this.#options, 'PostDown')
  }

  #openSearch(): PeerSearch {
    const network = this.#network
    return new PeerSearch({
      config: this.#config,
      log: this.#options.log,
      choice: this.#choice,
      ...(network !== undefined && { openSocket: () => network.socket(this.#config.client.bind) }),
      send: commands => this.#gate.send(commands),
      inUse: () => this.#routes.hops,
      onReached: peer =>
        this.#loop.run(now => {
          this.#routes.shorten(peer, now)
          this.#routes.retry(now)
        }),
      onFewerTargets: () => this.#gate.tighten(),
    })
  }

  /** Opens one entry for each server; an endpoint for others resolves when it listens. */
  async #openEntries(): Promise<void> {
    const plan = this.#plan
    const client =
      plan.kind === 'tunnel' ? ({ kind: 'tunnel' } as const) : ({ kind: 'socket', listen: plan.listen } as const)
    const isReady = client.kind === 'tunnel' ? Promise.resolve() : this.#whenListening()
    this.#loop.run(now =>
      this.#servers.addresses.forEach((server, i) => {
        this.#routes.open(i + 1, server, client, now)
      }),
    )
    await isReady
  }

  #whenListening(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#onListening = report => {
        this.#onListening = undefined
        if (report.kind === 'entryReady') return resolve()
        const advice =
          'another program uses the address, or it is not one of this machine; choose another with --listen'
        reject(new HopliteError('ADDRESS_IN_USE', report.kind === 'failed' ? report.what : 'listen', advice))
      }
    })
  }
  #onListening: ((report: Report) => void) | undefined

  async #startTunnel(plan: Extract<EntryPlan, { kind: 'tunnel' }>, network: TunnelNetwork): Promise<void> {
    const { file } = plan
    const tunnel = new TunnelView({
      name: network.name,
      file,
      servers: this.#servers.addresses,
      send: (...commands) => this.#gate.send(commands),
    })
    this.#tunnel = tunnel
    this.#gate.send([tunnel.install(network, this.#longest, this.#servers.ofPeer)])
    this.#searchMtu()
    try {
      this.#uapi = await serveUapi(network.name, tunnel, { fd: await network.listenForWg() })
    } catch (error) {
      this.#options.log.warn('wg cannot see this tunnel', { error: own((error as Error).message) })
    }
  }

  #handleReport(reported: Report): void {
    const report = this.#search === undefined ? reported : this.#search.inward(reported)
    if (report === undefined) return
    this.#laboratory.handleReport(report)
    this.#tunnel?.handleReport(report)
    this.#payments?.handleReport(report, monotonicMs())
    this.#search?.handleReport(report)
    if (report.kind === 'entryReady') this.#listening = report.address
    if (report.kind === 'entryReady' || report.kind === 'failed') this.#onListening?.(report)
    if (report.kind === 'failed') this.#options.log.warn('data plane', { what: own(report.what) })
    this.#loop.run(now => this.#routes.handleReport(report, now))
  }

  #openPayments(): Payments | undefined {
    return Payments.open(this.#config, this.#options.stateDir, {
      findRoute: session => {
        const lanes = this.#servers.addresses.flatMap((_, i) => this.#routes.find(i + 1)?.lanes ?? [])
        const layers = lanes
          .map(({ way }) => way.layers)
          .find(layers => layers.some(layer => layer.session === session))
        const end = layers?.at(-1)?.session
        return layers && end !== undefined ? { layers, end } : undefined
      },
      priceOf: hopKey => this.#choice.priceOf(hopKey),
      run: input => this.#loop.run(input),
      send: (...commands) => this.#engine?.send(...commands),
      ...(this.#options.dial && { dial: this.#options.dial }),
      log: this.#options.log,
    })
  }

  #carryOut(): void {
    const commands = this.#routes.take()
    this.#handshakes.handleCommands(commands)
    this.#gate.send(commands)
    this.#payments?.handleCommands(commands, monotonicMs())
    const { log } = this.#options
    for (const { entry, event } of this.#routes.takeEvents()) {
      switch (event.kind) {
        case 'ready':
        case 'spareReady':
          this.#choice.handleSuccess(event.hops)
          this.#search?.handleUse(event.hops)
          log.info(event.kind === 'ready' ? 'entry is ready' : 'spare peer is ready', { entry })
          break
        case 'moved':
          this.#moves++
          this.#choice.handleSuccess(event.hops)
          log.info('entry moved to another peer', {
            entry,
            reason: own(event.reason),
            silentMs: Math.round(event.silentMs),
          })
          break
        case 'cutOff':
          log.warn('no peer is left: nothing is sent until there is one', { entry, problem: own(event.problem) })
          break
        case 'serverSilent':
          log.warn('peers answer, the server does not', { entry })
          break
        case 'resized':
          this.#mtus.set(entry, event.mtu)
          this.#resize()
          log.info('packets of another size pass', { entry, mtu: event.mtu })
          break
        case 'hopFailed':
          this.#handshakes.handleFailure()
          this.#choice.handleFailure(event.hop, event.isDoubtful)
          this.#search?.drop(event.hop.id)
          log.warn('peer failed', { id: own(event.hop.id) })
          break
      }
    }
  }

  /** Of our own tunnel; what a WireGuard client of others sends is its own affair. */
  #searchMtu(): void {
    // A file that asks for less is done as it says.
    if (this.#longest <= TUNNEL_MTU) return
    this.#servers.addresses.forEach((_, i) => {
      this.#mtus.set(i + 1, this.#routes.searchMtu(i + 1, { offered: this.#longest }))
    })
    this.#resize()
  }

  /** One interface for all servers: what the narrowest way carries. */
  get #mtu(): number {
    return Math.min(this.#longest, ...this.#mtus.values())
  }

  #resize(): void {
    this.#gate.send([{ kind: 'resizeTunnel', mtu: this.#mtu }])
    this.#network?.resize(this.#mtu).catch((error: Error) => {
      this.#options.log.warn('MTU not changed', { error: own(error.message) })
    })
  }

  #firstHops(): Address[] {
    const all = this.#servers.addresses.flatMap((_, i) => this.#routes.find(i + 1)?.lanes ?? [])
    return all.flatMap(({ hops }) => hops[0]?.address ?? [])
  }

  async #wgShow(): Promise<Output<'wgShow'>> {
    const tunnel = this.#tunnel
    return { interfaces: tunnel === undefined ? [] : [await tunnel.describe()] }
  }

  #newPeer(): Output<'entry.newPeer'> {
    let entries = 0
    this.#loop.run(now => {
      entries = this.#routes.renew(now)
    })
    return { entries }
  }

  #status(): Status {
    const routes = this.#servers.addresses.map((server, i) => this.#routeStatus(i + 1, server))
    const isReady = routes.every(({ state }) => state === 'ready')
    const unpaid = this.#payments?.problem
    const problem = unpaid ?? routes.find(route => route.problem !== undefined)?.problem
    return {
      ...commonStatus(this.#startedMs),
      role: 'entry',
      state: isReady ? 'ready' : routes.some(({ state }) => state === 'moving') ? 'moving' : 'building',
      listening: {
        ...(this.#listening && { wireguard: [formatAddress(this.#listening)] }),
        udp: this.#address === undefined ? [] : [formatAddress(this.#address)],
      },
      directory: this.#directory.size,
      routes,
      sessions: routes.reduce((sum, { hops }) => sum + hops.length, 0),
      flows: 0,
      streams: 0,
      mtu: this.#mtu,
      ...(this.#network && { interface: this.#network.name, killSwitch: this.#network.killSwitch }),
      ...(this.#payments && { credits: walletStatus(this.#payments.wallet) }),
      counters: {
        ...this.#engine?.counters.snapshot(),
        ...this.#search?.counters,
        ...this.#handshakes.counters,
        moves: this.#moves,
      },
      ...(problem !== undefined && {
        problem,
        advice:
          (unpaid !== undefined && this.#payments?.advice) ||
          'nothing is sent until a peer is found; it goes on trying',
      }),
    }
  }

  #routeStatus(entry: number, server: Address): Status['routes'][number] {
    const route = this.#routes.find(entry)
    const state = route?.state
    return {
      isolation: '',
      server: formatAddress(server),
      state: state === 'ready' || state === 'building' ? state : 'moving',
      hops: route?.hops.map(describeHop) ?? [],
      isProven: route?.isProven ?? false,
      spares: route?.spares.map(({ hops, isProven }) => ({ hops: hops.map(describeHop), isProven })) ?? [],
      ...(route?.rttMs !== undefined && { rttMs: route.rttMs }),
      streams: 0,
      ...(route?.problem !== undefined && { problem: route.problem }),
    }
  }
}

function networkOf(plan: Extract<EntryPlan, { kind: 'tunnel' }>, { stateDir }: RunOptions) {
  return { stateDir, order: entryOrder(plan), hooks: plan.runsHooks ? plan.file.hooks : [] }
}

/** Has the file's commands run where its user wants that. */
async function tellHooks(plan: EntryPlan, options: RunOptions, when: WgQuickHook['when']): Promise<void> {
  if (plan.kind !== 'tunnel' || !plan.runsHooks) return
  for (const code of await runTunnelHooks(networkOf(plan, options), when))
    options.log.warn('hook failed', { when: own(when), code: own(code) })
}

/** The addresses of the servers, each once. */
async function findServers(plan: EntryPlan): Promise<Servers> {
  if (plan.kind === 'listen') return { addresses: [await resolveServer(plan.to)], ofPeer: new Map() }
  const addresses: Address[] = []
  const ofPeer = new Map<string, number>()
  for (const { publicKey, endpoint } of plan.file.peers) {
    if (endpoint === undefined) continue
    const address = await resolveServer(endpoint)
    const known = addresses.findIndex(other => formatAddress(other) === formatAddress(address))
    if (known < 0) addresses.push(address)
    ofPeer.set(Buffer.from(publicKey).toString('base64'), known < 0 ? addresses.length : known + 1)
  }
  if (addresses.length > MAX_ENTRIES)
    throw new HopliteError(
      'ENTRY_FILE_INVALID',
      `reach ${addresses.length} servers at once: at most ${MAX_ENTRIES} are`,
      'leave out peers that are not needed',
    )
  return { addresses, ofPeer }
}
