// A relay: the hop machine over the data plane, the exit's streams if it is one, what it lends if it is a peer, and its place
// in the directory.

import { networkInterfaces } from 'node:os'
import { HopliteError } from '#api/errors.ts'
import type { Status } from '#api/table.ts'
import { copyBytes } from '#bytes/copy.ts'
import { systemRandom } from '#crypto/random.ts'
import { makeDescriptor, nodeIdOf } from '#discover/descriptor.ts'
import { Directory } from '#discover/directory.ts'
import { type DiscoveryNode, startDiscovery } from '#discover/node.ts'
import type { PortPlan, Report } from '#forward/commands.ts'
import { StunServer } from '#path/stun-server.ts'
import { monotonicMs } from '#platform/clock.ts'
import type { Engine } from '#platform/engine.ts'
import { makeKeys, type NodeKeys, readKeys } from '#platform/keys.ts'
import { prepareStateDirectory } from '#platform/state-file.ts'
import { lockState } from '#platform/state-lock.ts'
import { serveWebSocketRelay, type WebSocketRelay } from '#platform/websocket-relay.ts'
import { CapacityMeter, SAMPLE_MS } from '#relay/capacity.ts'
import { type ExitRequest, Hop } from '#relay/hop.ts'
import { MeetingRoom } from '#relay/meeting-room.ts'
import { ExitStreams } from '#stream/exit.ts'
import { ExitPolicy, type ExitRule, isPublicAddress } from '#stream/exit-policy.ts'
import { StreamLink } from '#stream/link.ts'
import { type Address, formatAddress, isWildcard, parseAddress, parseIp } from '#wire/address.ts'
import { REFUSAL } from '#wire/control.ts'
import type { PortRange, Role } from '#wire/descriptor.ts'
import type { Config } from './config.ts'
import { ControlLoop } from './control-loop.ts'
import { exitRules } from './exit-rules.ts'
import type { ExitTunnel } from './exit-tunnel.ts'
import { openFace } from './face.ts'
import { letterNetwork } from './letter-network.ts'
import { parseListen } from './listen.ts'
import { own } from './log.ts'
import { commonStatus, dataPlaneFailure, Laboratory, type RunOptions, startEngine, untilAborted } from './node.ts'
import { Peer } from './peer.ts'
import { letterKeyOf, PeerDesk } from './peer-desk.ts'
import { Toll } from './toll.ts'
import { assertNothingPending } from './tunnel-network.ts'
import { VERSION } from './version.ts'

const DESCRIPTOR_LIFETIME_MS = 6 * 3_600_000
const PUBLISH_MS = 3_600_000
const MAX_FLOWS_PER_SESSION = 256
/** Names of one session that are resolved at one time, for datagram flows. */
const MAX_RESOLVING = 32
/** How long opens of one session wait for its tap. */
const TAP_WAIT_MS = 5_000

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

async function run(config: Config, options: RunOptions, roles: readonly Role[]): Promise<void> {
  prepareStateDirectory(options.stateDir)
  const unlock = lockState(options.stateDir)
  try {
    const tunnel = await openTunnel(config, options.stateDir, roles)
    try {
      const relay = await Relay.start(config, options, roles, tunnel)
      try {
        await untilAborted(relay.signal)
      } finally {
        await relay.close()
        if (relay.signal.reason instanceof HopliteError) tunnel?.close()
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
    return ExitTunnel.open(config, stateDir, exitRules(config))
  }
  assertNothingPending(stateDir)
  return undefined
}

class Relay {
  readonly #config: Config
  readonly #options: RunOptions
  readonly #roles: readonly Role[]
  readonly #keys: NodeKeys
  readonly #toll: Toll | undefined
  readonly #hop: Hop
  readonly #loop: ControlLoop
  readonly #exit: ExitStreams | undefined
  readonly #stun = new StunServer()
  readonly #stunLoop = new ControlLoop(this.#stun, () => this.#answerStun())
  readonly #peer: Peer | undefined
  /** Where a peer without an address is asked. */
  #desk: PeerDesk | undefined
  readonly #tunnel: ExitTunnel | undefined
  readonly #laboratory: Laboratory
  readonly #directory = new Directory()
  readonly #taps = new Map<number, { promise: Promise<boolean>; settle: (isReady: boolean) => void }>()
  readonly #resolving = new Map<number, number>()
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

  private constructor(
    config: Config,
    options: RunOptions,
    roles: readonly Role[],
    keys: NodeKeys,
    tunnel: ExitTunnel | undefined,
    toll: Toll | undefined,
  ) {
    this.#tunnel = tunnel
    this.#toll = toll
    this.#config = config
    this.#options = options
    this.#roles = roles
    this.#keys = keys
    this.signal = AbortSignal.any([options.signal, this.#stop.signal])
    this.#laboratory = new Laboratory(config)
    const { max_sessions, max_flows, max_meetings } = config.relay
    const ownAddresses = new Set(this.#advertised().map(formatAddress))
    if (roles.includes('peer')) this.#peer = this.#makePeer()
    this.#hop = new Hop(
      {
        keys: keys.hop,
        limits: { maxSessions: max_sessions, maxFlows: max_flows, maxFlowsPerSession: MAX_FLOWS_PER_SESSION },
        random: systemRandom,
        mayReachHop: address =>
          (config.network.allow_private_addresses || isPublicAddress(address.host)) &&
          !ownAddresses.has(formatAddress(address)),
        isExit: roles.includes('exit'),
        ...(this.#peer && { wireGuard: this.#peer.gate }),
        ...(this.#lendsOnly || max_meetings === 0 ? {} : { meetings: makeRoom(config) }),
        ...(toll && { till: toll.till }),
        lendsOnly: this.#lendsOnly,
        ...(tunnel && { tunnel: tunnel.hop }),
      },
      monotonicMs(),
    )
    this.#loop = new ControlLoop(this.#hop, () => this.#carryOut())
    if (roles.includes('exit')) this.#exit = makeExit(config, this.#laboratory)
  }

  static async start(
    config: Config,
    options: RunOptions,
    roles: readonly Role[],
    tunnel: ExitTunnel | undefined,
  ): Promise<Relay> {
    const keys = readKeys(options.stateDir) ?? makeKeys(options.stateDir)
    const toll = await Toll.open(config, options.stateDir, options.log)
    const relay = new Relay(config, options, roles, keys, tunnel, toll)
    try {
      await relay.#start()
    } catch (error) {
      await relay.close()
      throw error
    }
    return relay
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
    const socket = await this.#tunnel?.socket(listen.host)
    this.#tunnel?.onLost(error => this.#stop.abort(error))
    const { engine, address } = await startEngine(
      listen,
      {
        // The other engine has no TUN.
        config: this.#tunnel === undefined ? this.#config : { ...this.#config, engine: { kind: 'linux' } },
        log,
        ...(socket !== undefined && { sockets: [socket] }),
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
    this.#api = await openFace(this.#config, this.#options, {
      status: () => this.#status(),
      ...this.#toll?.handlers,
      down: () => {
        setImmediate(() => this.#stop.abort())
        return { stopping: true }
      },
      observe: ({ marker }) => this.#laboratory.observe(marker, this.#engine),
      observation: () => this.#laboratory.observation(this.#engine),
      crash: () => this.#laboratory.crash(this.#engine),
    })
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
      lendsHops: this.#lendsOnly,
      now: monotonicMs,
      unixNow: Date.now,
      end: () => this.#loop.run(() => this.#hop.endWireGuard()),
    })
  }

  #handleReport(report: Report, now: number): void {
    this.#hop.handleReport(report, now)
    this.#laboratory.handleReport(report)
    this.#desk?.handleReport(report)
    if (report.kind === 'stun' && !this.#isHidden)
      this.#stunLoop.run(() => this.#stun.handlePacket(report.bytes, report.from, now))
    if (report.kind === 'tapReady') {
      this.#exit?.findLink(report.session)?.attach(report.address)
      this.#taps.get(report.session)?.settle(true)
    }
    if (report.kind === 'failed') this.#options.log.warn('data plane', { what: own(report.what) })
  }

  #carryOut(): void {
    for (const request of this.#hop.takeExitRequests()) {
      this.#serveExit(request).catch(() => this.#answerFailure(request))
    }
    for (const session of this.#hop.takeEnded()) {
      this.#exit?.closeSession(session)
      this.#taps.get(session)?.settle(false)
      this.#taps.delete(session)
    }
    this.#engine?.send(...this.#hop.take())
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

  async #serveExit({ session, number, request }: ExitRequest): Promise<void> {
    const exit = this.#exit
    if (exit === undefined) return
    if (request.kind === 'openStream') {
      const isReady = await this.#tap(session, exit)
      const answer = isReady
        ? await exit.open(session, request.stream, request.target)
        : ({ kind: 'refused', request: 'openStream', reason: REFUSAL.generalFailure } as const)
      this.#loop.run(() => this.#hop.answer(session, number, answer))
      return
    }
    const resolving = this.#resolving.get(session) ?? 0
    if (resolving >= MAX_RESOLVING) return this.#answerFailure({ session, number, request })
    this.#resolving.set(session, resolving + 1)
    const first = copyBytes(request.first)
    const resolved = await exit.resolveTarget(request.target).finally(() => {
      const left = (this.#resolving.get(session) ?? 1) - 1
      if (left > 0) this.#resolving.set(session, left)
      else this.#resolving.delete(session)
    })
    this.#loop.run(() => {
      if (!Array.isArray(resolved))
        return this.#hop.answer(session, number, { kind: 'refused', request: 'open', reason: resolved })
      const [host = ''] = resolved
      this.#hop.openDatagramFlow(session, number, request.flow, { host, port: request.target.port }, first)
    })
  }

  #answerFailure({ session, number, request }: ExitRequest): void {
    const refused = { kind: 'refused', request: request.kind, reason: REFUSAL.generalFailure } as const
    this.#loop.run(() => this.#hop.answer(session, number, refused))
  }

  /** Resolves when the session's tap is in place. */
  #tap(session: number, exit: ExitStreams): Promise<boolean> {
    const existing = this.#taps.get(session)
    if (existing !== undefined) return existing.promise
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const timer = setTimeout(() => resolve(false), TAP_WAIT_MS)
    const settle = (isReady: boolean) => {
      clearTimeout(timer)
      resolve(isReady)
    }
    this.#taps.set(session, { promise, settle })
    const link = exit.link(session, () => new StreamLink())
    this.#engine.send({ kind: 'installTap', session, address: link.address })
    return promise
  }

  async #publish(): Promise<void> {
    clearTimeout(this.#publishing)
    const discovery = this.#discovery
    if (discovery === undefined || this.signal.aborted) return
    const now = Date.now()
    const { relay, peer } = this.#config
    const descriptor = makeDescriptor(
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
        hasTunnel: this.#tunnel !== undefined,
        exitPorts: this.#roles.includes('exit') ? exitPorts(this.#config) : [],
        capacityKbit: this.#capacity.kbit(
          this.#lendsOnly ? Math.min(relay.capacity_kbit, peer.rate_kbit) : relay.capacity_kbit,
        ),
        software: `hoplite ${VERSION}`,
        ...(this.#toll && { price: this.#toll.price }),
      },
      this.#keys.identity,
    )
    const stored = await discovery.publish(descriptor)
    this.#options.log.info('descriptor published', { stored })
    this.#publishing = setTimeout(() => void this.#publish(), PUBLISH_MS)
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
      ...(this.#tunnel && { interface: this.#tunnel.name, mtu: this.#tunnel.hop.mtu }),
      counters: {
        ...this.#engine.counters.snapshot(),
        ...Object.fromEntries(this.#hop.counters),
        ...this.#desk?.counters,
      },
    }
  }
}

/** A relay dials from the address that it listens on, if that is one. */
export function sendFrom({ host }: Address): { readonly sendFrom?: string } {
  return isWildcard(host) ? {} : { sendFrom: host }
}

/** Every address of this machine, whichever interface has it. */
function machineAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap(addresses =>
    (addresses ?? []).map(({ address }) => address.replace(/%.*$/, '')),
  )
}

function advertised(config: Config, bound?: Address): Address[] {
  const given = config.relay.advertise.flatMap(text => parseAddress(text) ?? [])
  if (given.length > 0) return given
  const listen = bound ?? parseListen(config.relay.listen)
  if (isWildcard(listen.host)) {
    throw new HopliteError(
      'CONFIG_INVALID',
      'advertise the relay: it listens on every address and does not know which one others reach',
      'set advertise = ["PUBLIC-IP:PORT"] in [relay]',
    )
  }
  return [listen]
}

/** What others are told of the control port: multiaddrs without a peer id; undefined where only the system knows the port. */
export function announced(config: Config): { readonly announce?: readonly string[] } {
  const { control_listen, control_advertise, advertise } = config.relay
  const listen = parseListen(control_listen)
  if (listen.port === 0) return {}
  const relayed = advertise.flatMap(text => parseAddress(text)?.host ?? [])
  const own = isWildcard(listen.host) ? relayed : [listen.host]
  const hosts = control_advertise.length > 0 ? control_advertise : own
  if (hosts.length === 0) return {}
  const announce = hosts.map(host => `/${parseIp(host)?.length === 4 ? 'ip4' : 'ip6'}/${host}/tcp/${listen.port}`)
  return { announce }
}

/** Where this machine lets others' traffic go, by rules beyond the one that nothing private and nothing of its own is reached. */
function policyOf(
  rules: readonly ExitRule[],
  allowPrivate: readonly string[],
  ownHosts: readonly string[],
): ExitPolicy {
  return new ExitPolicy({
    rules,
    ownAddresses: [...ownHosts, ...machineAddresses()],
    allowPrivate: allowPrivate.flatMap(text => parseAddress(text) ?? []),
  })
}

function portOf({ fd, offload, mtu }: ExitTunnel): PortPlan {
  return { fd, offload, mtu }
}

function makeExit(config: Config, laboratory: Laboratory): ExitStreams {
  return new ExitStreams({
    policy: policyOf(
      exitRules(config),
      config.exit.allow_private,
      advertised(config).map(({ host }) => host),
    ),
    ...sendFrom(parseListen(config.relay.listen)),
    maxStreamsPerSession: config.exit.max_streams_per_client,
    ...(laboratory.isOn && {
      watch: (address: Address, bytes: Uint8Array) => {
        laboratory.sawAddress(address)
        laboratory.sawPlain(bytes)
      },
    }),
  })
}

/** The ports that rules without a network leave open: what clients choose exits by. */
function exitPorts(config: Config): PortRange[] {
  const ranges: PortRange[] = []
  const isOpen = (port: number) => {
    for (const { action, network, from_port, to_port } of config.exit.rules) {
      if (network === undefined && port >= (from_port ?? 1) && port <= (to_port ?? 65_535)) return action === 'allow'
    }
    return port !== 25
  }
  for (let port = 1; port <= 65_535; port++) {
    if (!isOpen(port)) continue
    const last = ranges.at(-1)
    if (last !== undefined && last.to === port - 1) ranges[ranges.length - 1] = { from: last.from, to: port }
    else ranges.push({ from: port, to: port })
  }
  return ranges.slice(0, 32)
}

function makeRoom({ relay }: Config): MeetingRoom {
  return new MeetingRoom({ maxFlows: 2 * relay.max_meetings, bytesPerSecond: (relay.meeting_kbit * 1000) / 8 })
}
