// A relay: the hop machine over the data plane, the exit's streams if it is one, what it lends if it is a peer, and its place
// in the directory.

import { setTimeout as sleep } from 'node:timers/promises'
import { HopliteError } from '#api/errors.ts'
import { EventHub } from '#api/event-hub.ts'
import type { Input, Status } from '#api/table.ts'
import { systemRandom } from '#crypto/random.ts'
import { makeDescriptor, nodeIdOf } from '#discover/descriptor.ts'
import { Directory } from '#discover/directory.ts'
import { type DiscoveryNode, startDiscovery } from '#discover/node.ts'
import type { Report } from '#forward/commands.ts'
import { StunServer } from '#path/stun-server.ts'
import { monotonicMs } from '#platform/clock.ts'
import type { Engine } from '#platform/engine.ts'
import { serveWebSocketRelay, type WebSocketRelay } from '#platform/paths/websocket-relay.ts'
import { openFiles } from '#platform/process-limits.ts'
import { makeKeys, type NodeKeys, readKeys } from '#platform/state/keys.ts'
import { prepareStateDirectory } from '#platform/state/state-file.ts'
import { lockState } from '#platform/state/state-lock.ts'
import { CapacityMeter, SAMPLE_MS } from '#relay/capacity.ts'
import { Hop } from '#relay/hop.ts'
import { isPublicAddress } from '#stream/exit-policy.ts'
import { type Address, formatAddress, isWildcard } from '#wire/address.ts'
import type { Role } from '#wire/descriptor.ts'
import { jittered } from '../backoff.ts'
import type { Config } from '../config.ts'
import { ControlLoop } from '../control-loop.ts'
import { letterNetwork } from '../devices/letter-network.ts'
import { assertNothingPending } from '../entry/tunnel-network.ts'
import { openFace } from '../face.ts'
import { parseListen } from '../listen.ts'
import { own } from '../log.ts'
import { commonStatus, dataPlaneFailure, Laboratory, type RunOptions, startEngine, untilAborted } from '../node.ts'
import { Peer } from '../peer/peer.ts'
import { letterKeyOf, PeerDesk } from '../peer/peer-desk.ts'
import type { LiveKeys } from '../settings.ts'
import { VERSION } from '../version.ts'
import { ExitDesk } from './exit-desk.ts'
import { exitRules } from './exit-rules.ts'
import type { ExitTunnel } from './exit-tunnel.ts'
import { type RelayLimits, relayLiveKeys } from './relay-live.ts'
import {
  advertised,
  announced,
  exitPorts,
  makeExit,
  makeRoom,
  policyOf,
  portOf,
  sendFrom,
  workersFor,
} from './relay-plan.ts'
import { Toll } from './toll.ts'

const DESCRIPTOR_LIFETIME_MS = 6 * 3_600_000
const PUBLISH_MS = 3_600_000
/** How long a relay may take to its first connection. */
const YOUNG_MS = 20_000
/** Changes that come together are told together. */
const ADOPT_MS = 200
/** How long a relay that ends takes to say so. */
const LEAVE_MS = 2_000
const MAX_FLOWS_PER_SESSION = 256

/** Runs a relay until `signal` is aborted. Throws what keeps it from starting. */
export async function runRelay(config: Config, options: RunOptions): Promise<void> {
  const { exit, peer } = config
  const roles = (['guard', 'middle', exit.enabled && 'exit', peer.enabled && 'peer'] as const).filter(
    role => role !== false,
  )
  await run(config, options, roles)
}

/** Runs a node that is a peer and nothing else until `signal` is aborted. Throws what keeps it from starting. */
export async function runPeer(config: Config, options: RunOptions): Promise<void> {
  await run(config, options, ['peer'])
}

/**
 * Runs what a person shares by a click until `signal` is aborted: a peer, or a relay that lets nothing out to the internet and
 * keeps whatever it carries within the limits of [peer]. Throws what keeps it from starting.
 */
export async function runShare(config: Config, options: RunOptions, as: 'peer' | 'relay'): Promise<void> {
  await run(config, options, as === 'peer' ? ['peer'] : ['guard', 'middle', 'peer'], true)
}

async function run(config: Config, options: RunOptions, roles: readonly Role[], limitsAll = false): Promise<void> {
  prepareStateDirectory(options.stateDir)
  const unlock = lockState(options.stateDir)
  try {
    const tunnel = await openTunnel(config, options.stateDir, roles)
    try {
      const relay = await Relay.start(config, options, roles, tunnel, limitsAll)
      try {
        await untilAborted(relay.signal)
        await relay.leave()
      } finally {
        await relay.close()
      }
    } finally {
      await tunnel?.restore()
    }
  } finally {
    unlock()
  }
}

/** The tunnel of an exit that has one. Throws CHANGES_PENDING when there is none and an earlier run's was not undone. */
async function openTunnel(config: Config, stateDir: string, roles: readonly Role[]): Promise<ExitTunnel | undefined> {
  if (roles.includes('exit') && config.exit.tunnel) {
    const { ExitTunnel } = await import('./exit-tunnel.ts')
    return ExitTunnel.open(config, stateDir, exitRules(config), workersFor(config, roles))
  }
  assertNothingPending(stateDir)
  return undefined
}

class Relay {
  #config: Config
  readonly #options: RunOptions
  readonly #limits: RelayLimits
  readonly #roles: readonly Role[]
  readonly #keys: NodeKeys
  readonly #toll: Toll | undefined
  /** Whether flows to other hops are kept within the limits of [peer] as well. */
  readonly #limitsAll: boolean
  readonly #hop: Hop
  readonly #loop: ControlLoop
  readonly #exit: ExitDesk | undefined
  readonly #stun = new StunServer()
  readonly #stunLoop = new ControlLoop(this.#stun, () => this.#answerStun())
  readonly #peer: Peer | undefined
  /** Where a peer without an address is asked. */
  #desk: PeerDesk | undefined
  readonly #tunnel: ExitTunnel | undefined
  readonly #laboratory: Laboratory
  readonly #directory = new Directory()
  readonly #capacity = new CapacityMeter()
  #measuring: NodeJS.Timeout | undefined
  readonly #startedMs = monotonicMs()
  readonly #stop = new AbortController()
  readonly signal: AbortSignal
  #engine!: Engine
  #address!: Address
  #door: WebSocketRelay | undefined
  #discovery: DiscoveryNode | undefined
  #api: { close(): Promise<void> } | undefined
  #publishing: NodeJS.Timeout | undefined
  #isPublished = false

  private constructor(
    config: Config,
    options: RunOptions,
    roles: readonly Role[],
    keys: NodeKeys,
    tunnel: ExitTunnel | undefined,
    toll: Toll | undefined,
    limitsAll: boolean,
  ) {
    this.#limitsAll = limitsAll || roles.every(role => role === 'peer')
    this.#tunnel = tunnel
    this.#toll = toll
    this.#config = config
    this.#options = options
    this.#roles = roles
    this.#keys = keys
    this.signal = AbortSignal.any([options.signal, this.#stop.signal])
    this.#laboratory = new Laboratory(config)
    const { max_sessions, max_flows, max_meetings } = config.relay
    this.#limits = { maxSessions: max_sessions, maxFlows: max_flows, maxFlowsPerSession: MAX_FLOWS_PER_SESSION }
    const ownAddresses = new Set(this.#advertised().map(formatAddress))
    if (roles.includes('peer')) this.#peer = this.#makePeer()
    this.#hop = new Hop(
      {
        keys: keys.hop,
        limits: this.#limits,
        random: systemRandom,
        hasRoom: () => openFiles.hasRoom(),
        place: () => this.#engine.place(),
        mayReachHop: address =>
          (config.network.allow_private_addresses || isPublicAddress(address.host)) &&
          !ownAddresses.has(formatAddress(address)),
        isExit: roles.includes('exit'),
        ...(this.#peer && { wireGuard: this.#peer.gate }),
        ...(this.#limitsAll || max_meetings === 0 ? {} : { meetings: makeRoom(config) }),
        ...(toll && { till: toll.till }),
        lendsOnly: this.#limitsAll,
        ...(tunnel && { tunnel: tunnel.hop }),
      },
      monotonicMs(),
    )
    this.#loop = new ControlLoop(this.#hop, () => this.#carryOut())
    if (roles.includes('exit')) this.#exit = this.#openExit()
  }

  static async start(
    config: Config,
    options: RunOptions,
    roles: readonly Role[],
    tunnel: ExitTunnel | undefined,
    limitsAll: boolean,
  ): Promise<Relay> {
    const keys = readKeys(options.stateDir) ?? makeKeys(options.stateDir)
    const toll = await Toll.open(config, options.stateDir, options.log)
    const relay = new Relay(config, options, roles, keys, tunnel, toll, limitsAll)
    try {
      await relay.#start()
    } catch (error) {
      await relay.close()
      throw error
    }
    return relay
  }

  /** Tells the directory that this is a relay no more, so that nobody looks for it here until its descriptor has expired. */
  async leave(): Promise<void> {
    clearTimeout(this.#publishing)
    if (this.#discovery === undefined || !this.#isPublished) return
    const told = this.#discovery.withdraw(this.#describe(this.#discovery, 0))
    const stored = await Promise.race([told, sleep(LEAVE_MS, 0, { ref: false })])
    this.#options.log.info('descriptor withdrawn', { stored })
  }

  async close(): Promise<void> {
    clearTimeout(this.#publishing)
    clearInterval(this.#measuring)
    this.#peer?.close()
    this.#loop.close()
    this.#stunLoop.close()
    this.#exit?.close()
    await Promise.allSettled([
      this.#door?.[Symbol.asyncDispose](),
      this.#api?.close(),
      this.#desk?.close(),
      this.#engine?.close(),
      this.#discovery?.close(),
    ])
    await this.#toll?.close()
  }

  async #start(): Promise<void> {
    const { log } = this.#options
    const listen = parseListen(this.#config.relay.listen)
    const workers = this.#isHidden ? 1 : workersFor(this.#config, this.#roles)
    const sockets = await this.#tunnel?.sockets(listen.host, workers > 1 ? workers + 1 : 1)
    this.#tunnel?.onLost(error => this.#stop.abort(error))
    const { engine, address } = await startEngine(
      listen,
      {
        // The other engine has no TUN.
        config:
          this.#tunnel === undefined
            ? this.#config
            : { ...this.#config, engine: { ...this.#config.engine, kind: 'linux' } },
        log,
        workers,
        ...(sockets !== undefined && { sockets }),
      },
      report => this.#loop.run(now => this.#handleReport(report, now)),
      error => this.#stop.abort(dataPlaneFailure(error)),
    )
    this.#engine = engine
    this.#address = address
    await this.#openDoor()
    this.#loop.run(() => {})
    this.#peer?.start(engine)
    if (this.#tunnel !== undefined) engine.send({ kind: 'openPort', port: portOf(this.#tunnel) })
    const measure = () => this.#capacity.sample(engine.counters.get('bytesOut'), monotonicMs())
    measure()
    this.#measuring = setInterval(measure, SAMPLE_MS + 50)
    const handlers = {
      status: () => this.#status(),
      ...this.#toll?.handlers,
      down: () => {
        setImmediate(() => this.#stop.abort())
        return { stopping: true } as const
      },
      observe: ({ marker }: Input<'observe'>) => this.#laboratory.observe(marker, this.#engine),
      observation: () => this.#laboratory.observation(this.#engine),
      crash: ({ worker }: Input<'crash'>) => this.#laboratory.crash(this.#engine, worker),
    }
    this.#api = await openFace(this.#config, this.#options, handlers, new EventHub(), this.#live())
    const control = parseListen(this.#config.relay.control_listen)
    this.#discovery = await startDiscovery({
      // Who has no address listens nowhere, and is another to the bootstrap nodes each time.
      ...(this.#isHidden
        ? { role: 'publisher', seed: systemRandom(32), listen: [] }
        : { role: 'server', seed: this.#keys.peerSeed, listen: [control], ...announced(this.#config) }),
      bootstrap: this.#config.network.bootstrap,
      directory: this.#directory,
      allowPrivateAddresses: this.#config.network.allow_private_addresses,
      nowMs: Date.now,
      random: systemRandom,
      letters: letterNetwork(this.#config),
      ...sendFrom(control),
      ...(this.#laboratory.isOn && { onConnection: (from: Address) => this.#laboratory.sawAddress(from) }),
    })
    log.info(`${this.#lendsOnly ? 'peer' : 'relay'} is up`, {
      id: own(this.#id),
      listening: own(formatAddress(address)),
      exit: this.#roles.includes('exit'),
      peer: this.#roles.includes('peer'),
    })
    if (this.#isHidden) this.#desk = this.#openDesk(this.#discovery)
    await this.#publish()
  }

  #live(): LiveKeys {
    return relayLiveKeys({
      config: () => this.#config,
      adopt: config => this.#adopt(config),
      limits: this.#limits,
      peer: this.#peer,
      // Rules of a tunnel are in the firewall, which takes root.
      exit: this.#tunnel === undefined ? this.#exit : undefined,
    })
  }

  /** Goes by this configuration from now on, and tells others what changed of us. */
  #adopt(config: Config): void {
    this.#config = config
    clearTimeout(this.#publishing)
    this.#publishing = setTimeout(() => void this.#publish(), ADOPT_MS)
  }

  get #id(): string {
    return nodeIdOf(this.#keys.identity.publicKey)
  }

  /** Whether this is a peer and nothing else. */
  get #lendsOnly(): boolean {
    return this.#roles.every(role => role === 'peer')
  }

  /** A peer whose address nobody was told: it is behind a router, and asked by letter. */
  get #isHidden(): boolean {
    const { advertise, listen } = this.#config.relay
    return this.#lendsOnly && advertise.length === 0 && isWildcard(parseListen(listen).host)
  }

  #advertised(bound?: Address): Address[] {
    return this.#isHidden ? [] : advertised(this.#config, bound)
  }

  #openDesk({ carriers }: DiscoveryNode): PeerDesk {
    const { max_clients: maxClients } = this.#config.peer
    return new PeerDesk({
      config: this.#config,
      seed: this.#keys.peerSeed,
      key: letterKeyOf(this.#keys.peerSeed),
      directory: this.#directory,
      carriers,
      socket: this.#address,
      takesSockets: this.#engine?.takesSockets === true,
      send: (...commands) => this.#engine?.send(...commands),
      isOpen: () => {
        const gate = this.#peer?.gate
        return gate?.closed(monotonicMs()) === undefined && (gate?.clients ?? 0) < maxClients
      },
      serves: session => this.#hop.serves(session),
    })
  }

  #makePeer(): Peer {
    const { stateDir, log } = this.#options
    return new Peer({
      limits: this.#config.peer,
      stateDir,
      log,
      makePolicy: () =>
        policyOf([{ action: 'allow' }], this.#config.peer.allow_private, [
          ...this.#advertised().map(({ host }) => host),
          ...(this.#desk?.ownHosts ?? []),
        ]),
      lendsHops: this.#limitsAll,
      now: monotonicMs,
      unixNow: Date.now,
      end: () => this.#loop.run(() => this.#hop.endWireGuard()),
    })
  }

  #openExit(): ExitDesk {
    return new ExitDesk({
      exit: makeExit(this.#config, this.#laboratory),
      hop: this.#hop,
      run: change => this.#loop.run(change),
      send: command => this.#engine.send(command),
      hasRoom: () => openFiles.hasRoom(),
    })
  }

  #handleReport(reported: Report, now: number): void {
    const report = this.#desk === undefined ? reported : this.#desk.inward(reported)
    if (report === undefined) return
    this.#hop.handleReport(report, now)
    this.#laboratory.handleReport(report)
    this.#desk?.handleReport(report)
    if (report.kind === 'stun' && !this.#isHidden)
      this.#stunLoop.run(() => this.#stun.handlePacket(report.bytes, report.from, now))
    if (report.kind === 'tapReady') this.#exit?.handleTap(report.session, report.address)
    if (report.kind === 'failed') this.#options.log.warn('data plane', { what: own(report.what) })
    if (report.kind === 'sessionsLost')
      this.#options.log.error('data plane worker failed', { what: own(report.what), sessions: report.sessions.length })
  }

  #carryOut(): void {
    for (const request of this.#hop.takeExitRequests()) {
      this.#exit?.serve(request)
    }
    for (const session of this.#hop.takeEnded()) {
      this.#exit?.endSession(session)
    }
    const commands = this.#hop.take()
    this.#engine?.send(...(this.#desk?.outward(commands) ?? commands))
  }

  /** Lets in clients whose network has no UDP. */
  async #openDoor(): Promise<void> {
    const { websocket_listen: text } = this.#config.relay
    if (text === '') return
    const { host, port } = this.#address
    const own = isWildcard(host) ? { host: host.includes(':') ? '::1' : '127.0.0.1', port } : this.#address
    try {
      this.#door = await serveWebSocketRelay(parseListen(text), own)
    } catch (error) {
      const advice = 'another program uses this address, or it is not one of this machine; change the configuration'
      const { code } = error as NodeJS.ErrnoException
      throw new HopliteError('ADDRESS_IN_USE', `listen on ${text}: ${code}`, advice, error)
    }
  }

  #answerStun(): void {
    const answers = this.#stun.take()
    const commands = answers.map(({ to, bytes }) => ({
      kind: 'sendHandshake' as const,
      via: { kind: 'socket' as const, address: to },
      bytes,
    }))
    this.#engine?.send(...commands)
  }

  async #publish(): Promise<void> {
    clearTimeout(this.#publishing)
    const discovery = this.#discovery
    if (discovery === undefined || this.signal.aborted) return
    const { relay, peer } = this.#config
    const limitKbit = this.#limitsAll ? Math.min(relay.capacity_kbit, peer.rate_kbit) : relay.capacity_kbit
    const descriptor = this.#describe(discovery, this.#capacity.kbit(limitKbit))
    this.#isPublished = true
    const stored = await discovery.publish(descriptor)
    this.#options.log.info('descriptor published', { stored })
    if (!this.signal.aborted)
      this.#publishing = setTimeout(() => void this.#publish(), jittered(PUBLISH_MS, systemRandom))
  }

  /** This relay's descriptor; with a capacity of 0 it leaves. */
  #describe(discovery: DiscoveryNode, capacityKbit: number): Uint8Array {
    const now = Date.now()
    const { relay } = this.#config
    return makeDescriptor(
      {
        hopKey: this.#keys.hop.publicKey,
        sequence: now,
        publishedMs: now,
        expiresMs: now + DESCRIPTOR_LIFETIME_MS,
        roles: this.#roles,
        addresses: this.#advertised(this.#address),
        control: this.#isHidden ? [] : discovery.addresses.slice(0, 4),
        ...(this.#isHidden && { letterKey: letterKeyOf(this.#keys.peerSeed).publicKey }),
        operator: relay.operator,
        family: relay.family,
        ...(relay.country !== '' && { country: relay.country }),
        hasTunnel: this.#tunnel !== undefined,
        exitPorts: this.#roles.includes('exit') ? exitPorts(this.#config) : [],
        capacityKbit,
        software: `hoplite ${VERSION}`,
        ...(this.#toll && { price: this.#toll.price }),
      },
      this.#keys.identity,
    )
  }

  /** Why nobody finds this relay; nothing while it may still be connecting. */
  #loneliness(): Pick<Status, 'problem' | 'advice'> {
    const isYoung = monotonicMs() - this.#startedMs < YOUNG_MS
    if (this.#discovery === undefined || this.#discovery.connections > 0 || isYoung) return {}
    const advice =
      this.#config.network.bootstrap.length === 0
        ? 'set bootstrap in [network]: without it nobody learns of this relay'
        : 'check the network connection and the bootstrap nodes: hoplite doctor'
    return { problem: 'no other node is connected: nobody can find this relay', advice }
  }

  #status(): Status {
    return {
      ...commonStatus(this.#startedMs),
      role: this.#lendsOnly ? 'peer' : 'relay',
      state: this.#discovery === undefined ? 'starting' : 'ready',
      nodeId: this.#id,
      listening: {
        udp: [formatAddress(this.#address)],
        control: [...(this.#discovery?.addresses ?? [])],
      },
      directory: this.#directory.size,
      routes: [],
      sessions: this.#hop.sessions,
      flows: this.#hop.flows,
      streams: this.#exit?.streams ?? 0,
      ...(this.#peer && { peer: this.#peer.status() }),
      ...(this.#toll && { credits: this.#toll.status() }),
      ...this.#loneliness(),
      ...(this.#tunnel && { interface: this.#tunnel.name, mtu: this.#tunnel.hop.mtu }),
      counters: {
        ...this.#engine.counters.snapshot(),
        ...Object.fromEntries(this.#hop.counters),
        ...this.#desk?.counters,
        refusedForFiles: (this.#hop.counters.get('refusedForFiles') ?? 0) + (this.#exit?.refusedForFiles ?? 0),
      },
    }
  }
}
