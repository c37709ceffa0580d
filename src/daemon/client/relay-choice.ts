// Which relays the client uses: the directory, its guards, what failed lately and who knows the client's address, brought to
// the choosing functions. Keeps the guards, the acquaintances and a copy of the directory in the state directory, so that the
// client starts with every bootstrap node dead.

import path from 'node:path'
import { systemRandom } from '#crypto/random.ts'
import type { Descriptor } from '#discover/descriptor.ts'
import type { Directory } from '#discover/directory.ts'
import { readStateFile, setAside, writeStateFile } from '#platform/state/state-file.ts'
import { Acquaintances } from '#route/acquaintances.ts'
import { type Candidate, type ChooseOptions, type Chosen, choosePeers, chooseRoute } from '#route/choose.ts'
import type { PeerChoice } from '#route/entry-route.ts'
import { Failures } from '#route/failures.ts'
import { Guards } from '#route/guards.ts'
import type { Choice } from '#route/routes.ts'
import type { RouteHop } from '#route/way.ts'
import type { Address } from '#wire/address.ts'
import type { Price } from '#wire/descriptor.ts'
import type { Log } from '../log.ts'

const CACHE = 'directory.cache'
const GUARDS = 'guards.json'
const MET = 'acquaintances.json'
/** The files of the state directory that choices are made by. */
export const CHOICE_FILES = [CACHE, GUARDS, MET] as const
const MAX_CACHE_BYTES = 200 * 1024 * 1024
const MAX_GUARDS_BYTES = 16 * 1024
const MAX_MET_BYTES = 256 * 1024
/** Relays that are asked what our address looks like. */
const STUN_RELAYS = 3
/** What a client needs of relays beyond their roles. */
export interface RelayNeeds {
  /** Exits must carry IP packets. */
  readonly needsTunnel?: boolean
  /** Whose credits this client has; relays that ask for others' are not used. */
  readonly issuerId?: string
  /** Where the directory is asked for first, as multiaddrs. */
  readonly bootstrap?: readonly string[]
}

/** What routes are to be like; what is left out stays as it was. */
export interface Preference {
  readonly hops?: number | undefined
  /** An exit by its id; '' takes any again. */
  readonly exit?: string | undefined
  /** Where the exit is to be, if there is one that fits; none: anywhere. */
  readonly countries?: readonly string[] | undefined
  /** Where it must not be. */
  readonly notCountries?: readonly string[] | undefined
}

/** A peer without an address, which is asked by letter. */
export type HiddenPeer = Omit<Candidate, 'address'> & { readonly letterKey: Uint8Array }

/** Such a peer with a way to it: its own address, or a flow at a relay. */
export interface ReachedPeer {
  /** Where it is, as far as is known. */
  readonly peer: Candidate
  /** The way to it; the peer last. */
  readonly hops: readonly RouteHop[]
}

export class RelayChoice {
  readonly #directory: Directory
  readonly #stateDir: string
  #hopCount: number
  /** Countries that an exit in is taken of, if there is one. */
  #countries: readonly string[] = []
  /** Countries that no exit is taken of. */
  #notCountries: readonly string[] = []
  /** The exit that was asked for, by id. */
  #exit: string | undefined
  readonly #log: Log
  readonly #needsTunnel: boolean
  readonly #issuerId: string
  /** The libp2p ids in the addresses of the bootstrap nodes. */
  readonly #bootstrap: ReadonlySet<string>
  readonly #failures = new Failures()
  #guards = new Guards()
  #met = new Acquaintances()
  #unaffordable = 0
  #candidates: {
    readonly version: number
    readonly relays: readonly Candidate[]
    readonly hidden: readonly HiddenPeer[]
  } = { version: -1, relays: [], hidden: [] }

  constructor(directory: Directory, stateDir: string, hopCount: number, log: Log, needs: RelayNeeds = {}) {
    this.#needsTunnel = needs.needsTunnel ?? false
    this.#issuerId = needs.issuerId ?? ''
    this.#bootstrap = new Set(needs.bootstrap?.flatMap(peerIdOf))
    this.#directory = directory
    this.#stateDir = stateDir
    this.#hopCount = hopCount
    this.#log = log
  }

  /** Reads what an earlier run kept. A damaged file is set aside and said so. */
  load(): void {
    const cache = readStateFile(this.#cacheFile, MAX_CACHE_BYTES)
    if (cache !== undefined && !this.#directory.loadCache(cache, Date.now())) this.#setAside(this.#cacheFile)
    this.#guards = this.#read(this.#guardsFile, MAX_GUARDS_BYTES, Guards.decode) ?? this.#guards
    this.#met = this.#read(this.#metFile, MAX_MET_BYTES, Acquaintances.decode) ?? this.#met
  }

  /** Keeps the directory, after it was refreshed, and draws guards where some are missing. */
  save(): void {
    this.#write(this.#cacheFile, this.#directory.encodeCache(Date.now()))
    this.#maintainGuards()
  }

  /** What the next routes are to be like; '' takes any exit again. */
  prefer({ hops, exit, countries, notCountries }: Preference): void {
    this.#hopCount = hops ?? this.#hopCount
    if (exit !== undefined) this.#exit = exit === '' ? undefined : exit
    this.#countries = countries ?? this.#countries
    this.#notCountries = notCountries ?? this.#notCountries
  }

  /** What `prefer` was told. */
  get preference() {
    return {
      hops: this.#hopCount,
      exit: this.#exit,
      countries: this.#countries,
      notCountries: this.#notCountries,
    }
  }

  /** How many relays are not used because they take no credits that this client can have. */
  get unaffordable(): number {
    this.#relays()
    return this.#unaffordable
  }

  /** Every relay that may be used now. */
  get relays(): readonly Candidate[] {
    return this.#relays()
  }

  /** Where the guards are asked for their directories, as multiaddrs. */
  guardSources(): string[] {
    this.#meetGuards()
    return this.#guards.all.flatMap(({ id }) => this.#directory.find(id)?.control.slice(0, 1) ?? [])
  }

  /** Where guards hear UDP: they know our address anyway, and may be asked what it looks like from outside. */
  guardAddresses(): Address[] {
    this.#meetGuards()
    return this.#guards.all.flatMap(({ id }) => this.#directory.find(id)?.addresses ?? [])
  }

  /** Where devices may meet: one of the guards, who know our address anyway, else any that takes no payment. */
  pickMeetingRelay(avoid: ReadonlySet<string>): RouteHop | undefined {
    this.#maintainGuards()
    const free = this.#relays().filter(
      ({ id, roles }) => roles.includes('guard') && this.#directory.find(id)?.price === undefined,
    )
    const guards = free.filter(({ id }) => this.#guards.all.some(guard => guard.id === id))
    const avoided = new Set([...this.#avoidedNow(), ...avoid])
    for (const list of [guards, free]) {
      const fit = list.filter(({ id }) => !avoided.has(id))
      const chosen = fit[Buffer.from(systemRandom(4)).readUInt32LE() % Math.max(fit.length, 1)]
      if (chosen !== undefined) return chosen
    }
    return free[0]
  }

  /** A relay of the directory, by its id. */
  find(relay: string): RouteHop | undefined {
    return this.#relays().find(({ id }) => id === relay)
  }

  /** A relay where a peer waits: it learns our address, and no money is asked for that. */
  meetAt(id: string): RouteHop | undefined {
    const relay = this.#relays().find(relay => relay.id === id && relay.roles.includes('guard'))
    if (relay === undefined || this.#directory.find(id)?.price !== undefined) return undefined
    this.#meet([relay])
    return relay
  }

  /** The hops of a new route. Whoever is entered by counts from now on as one that knows this client's address. */
  pickRoute(): Choice {
    this.#maintainGuards()
    const options = {
      relays: this.#relays(),
      hopCount: this.#hopCount,
      random: systemRandom,
      needsTunnel: this.#needsTunnel,
      guards: this.#guardsInTurn(),
      ...(this.#exit !== undefined && { exit: this.#exit }),
      notCountries: new Set(this.#notCountries),
    }
    // With one hop alone whoever is the exit knows both.
    const notExits = this.#hopCount > 1 ? this.#acquainted() : new Set<string>()
    const exitCountries = new Set(this.#countries)
    // Rather an exit elsewhere than another guard.
    const there = (attempts: readonly Partial<ChooseOptions<Candidate>>[]) =>
      exitCountries.size === 0 ? attempts : [...attempts.map(attempt => ({ ...attempt, exitCountries })), ...attempts]
    const now = Date.now()
    const byGuards = (withDoubt: boolean) =>
      there([
        { avoid: this.#failures.doubted(now, withDoubt), guardsOnly: true, notExits },
        { avoid: this.#failures.avoided(now, withDoubt), guardsOnly: true, notExits },
        // It may be the exits that are too few, and not the guards.
        ...(this.#failures.isDoubting(now)
          ? [{ avoid: this.#failures.gone(now, withDoubt), guardsOnly: true, notExits }]
          : []),
      ])
    const [doubted, avoided] = [this.#doubted(), this.#avoidedNow()]
    // Rather another guard, or a relay that failed lately, than none at all, or an exit that knows this client's address.
    const byOthers = there([
      { avoid: doubted, notExits },
      { avoid: avoided, notExits },
      { avoid: this.#failures.gone(now), notExits },
      { avoid: doubted, guardsOnly: true },
      { avoid: avoided, guardsOnly: true },
      { avoid: doubted },
    ])
    const chosen = this.#choose(options, byGuards, byOthers)
    return 'hops' in chosen ? this.#entered(chosen) : chosen
  }

  /** Other hops that lead to `exit`. Hops that are in use are avoided as far as the directory allows. */
  pickWay(exit: RouteHop, inUse: readonly RouteHop[]): readonly RouteHop[] | undefined {
    const failed = (withDoubt: boolean) => {
      const avoided = this.#failures.avoided(Date.now(), withDoubt)
      avoided.delete(exit.id)
      return avoided
    }
    const options = { relays: this.#relays(), hopCount: this.#hopCount, random: systemRandom, exit: exit.id }
    const guards = this.#guardsInTurn()
    const others = guards.filter(id => !inUse.some(hop => hop.id === id))
    // Better a shared guard than one more relay that learns the client's address.
    const byGuards = (withDoubt: boolean) => [
      {
        guards: others,
        guardsOnly: true,
        avoid: new Set([...failed(withDoubt), ...inUse.map(({ id }) => id)]),
      },
      { guards, guardsOnly: true, avoid: new Set([...failed(withDoubt), ...inUse.slice(1).map(({ id }) => id)]) },
      { guards, guardsOnly: true, avoid: failed(withDoubt) },
    ]
    const byOthers = [{ guards, avoid: failed(true) }, { guards }]
    const chosen = this.#choose(options, byGuards, byOthers)
    return 'hops' in chosen ? this.#entered(chosen).hops : undefined
  }

  /**
   * Peers of a way to a WireGuard server, other than those in use. A way over one peer may lead over one of those that were
   * `reached` by letter.
   */
  pickPeers(
    count: number,
    server: Address,
    inUse: readonly RouteHop[],
    reached: readonly ReachedPeer[] = [],
  ): PeerChoice {
    const relays = this.#relays()
    const byLetter = count === 1 ? reached.map(({ peer }) => peer) : []
    const used = [...relays, ...byLetter].filter(({ id }) => inUse.some(hop => hop.id === id))
    const options = { count, random: systemRandom, outsideOf: [server.host] }
    // What is reached directly is there at once. Spares are rather those that were asked: they know our address already.
    const pools = inUse.length > 0 ? [byLetter, relays] : [relays, byLetter]
    // Rather a peer that failed lately than none; never one that is in use.
    for (const failed of [this.#doubted(), this.#avoidedNow(), new Set<string>()]) {
      for (const apartFrom of [used, []]) {
        const avoid = new Set([...failed, ...inUse.map(({ id }) => id)])
        for (const pool of pools) {
          const hops = choosePeers({ ...options, relays: pool, avoid, apartFrom })
          if (hops.length < count) continue
          this.#meet(hops.slice(0, 1))
          return { hops: reached.find(({ peer }) => pool === byLetter && peer === hops[0])?.hops ?? hops }
        }
      }
    }
    const known = relays.filter(({ roles }) => roles.includes('peer')).length
    const hidden = count === 1 ? this.#hidden().length : 0
    const asked = hidden === 0 ? '' : `, ${hidden} more that are asked by letter`
    return { problem: `no further peer outside the server's network: ${known} known, ${used.length} in use${asked}` }
  }

  /** How many peers could be asked by letter. */
  get hiddenPeers(): number {
    return this.#hidden().length
  }

  /** A peer without an address, to be asked by letter: as likely as any other, of nobody who is in use. */
  pickHidden(inUse: readonly { readonly id: string; readonly operator: string }[]): HiddenPeer | undefined {
    const isFree = ({ id, operator }: HiddenPeer) =>
      !inUse.some(other => other.id === id || other.operator.toLowerCase() === operator.toLowerCase())
    const hidden = this.#hidden().filter(isFree)
    // Where there is no way at all, rather one that failed lately than none.
    const last = inUse.length === 0 ? [new Set<string>()] : []
    for (const failed of [this.#doubted(), this.#avoidedNow(), ...last]) {
      const fit = hidden.filter(({ id }) => !failed.has(id))
      const chosen = fit[Buffer.from(systemRandom(4)).readUInt32LE() % Math.max(fit.length, 1)]
      if (chosen === undefined) continue
      this.#meet([chosen])
      return chosen
    }
    return undefined
  }

  /** Relays that may learn our address for us to learn it, and join flows; those that know it already come first. */
  pickStunRelays(): readonly RouteHop[] {
    const met = new Set(this.#met.all(Date.now()))
    const avoided = this.#avoidedNow()
    const free = this.#relays().filter(
      ({ id, roles }) => roles.includes('guard') && !avoided.has(id) && this.#directory.find(id)?.price === undefined,
    )
    const ranked = free.map(relay => ({ relay, rank: (met.has(relay.id) ? 0 : 1) + unit() }))
    const chosen = ranked.sort((a, b) => a.rank - b.rank).slice(0, STUN_RELAYS)
    this.#meet(chosen.map(({ relay }) => relay))
    return chosen.map(({ relay }) => relay)
  }

  /** `isDoubtful`: nobody at all was heard meanwhile, so it may be the network. */
  handleFailure(hop: RouteHop, isDoubtful = false): void {
    const now = Date.now()
    this.#failures.handleFailure(hop.id, isDoubtful, now)
    if (isDoubtful) return
    this.#guards.handleFailure(hop.id, now)
    this.#saveGuards()
  }

  handleSuccess(hops: readonly RouteHop[]): void {
    this.#failures.handleSuccess(hops.map(({ id }) => id))
    for (const { id } of hops) this.#guards.handleSuccess(id)
  }

  /** What the relay with this key asks for. */
  priceOf(hopKey: Uint8Array): Price | undefined {
    return this.#directory.list(Date.now()).find(relay => Buffer.from(hopKey).equals(relay.hopKey))?.price
  }

  #relays(): readonly Candidate[] {
    const { version } = this.#directory
    if (this.#candidates.version !== version) {
      const all = this.#directory.list(Date.now())
      const usable = all.filter(({ price }) => price === undefined || price.issuerId === this.#issuerId)
      this.#unaffordable = all.length - usable.length
      const hidden = usable.flatMap(hiddenOf)
      this.#candidates = { version: this.#directory.version, relays: usable.flatMap(candidateOf), hidden }
    }
    return this.#candidates.relays
  }

  /** The first choice that there is: by the guards, by them once more if it may be the network that failed, by others. */
  #choose(
    options: ChooseOptions<Candidate>,
    byGuards: (withDoubt: boolean) => readonly Partial<ChooseOptions<Candidate>>[],
    byOthers: readonly Partial<ChooseOptions<Candidate>>[],
  ): Chosen<Candidate> {
    const again = this.#failures.isDoubting(Date.now()) ? byGuards(false) : []
    for (const attempt of [...byGuards(true), ...again, ...byOthers]) {
      const chosen = chooseRoute({ ...options, ...attempt })
      if ('hops' in chosen) return chosen
    }
    return chooseRoute(options)
  }

  #guardsInTurn(): string[] {
    return this.#failures.inTurn(this.#guards.order(Date.now()))
  }

  #hidden(): readonly HiddenPeer[] {
    this.#relays()
    return this.#candidates.hidden
  }

  #avoidedNow(): Set<string> {
    return this.#failures.avoided(Date.now())
  }

  #doubted(): Set<string> {
    return this.#failures.doubted(Date.now())
  }

  /** Who knows this client's address, or will. */
  #acquainted(): Set<string> {
    const now = Date.now()
    const asked = this.#directory
      .list(now)
      .filter(({ control }) => control.flatMap(peerIdOf).some(peerId => this.#bootstrap.has(peerId)))
    return new Set([...this.#met.all(now), ...[...asked, ...this.#guards.all].map(({ id }) => id)])
  }

  #entered<T extends { readonly hops: readonly RouteHop[]; readonly exit: RouteHop }>(chosen: T): T {
    this.#meet([chosen.hops[0] ?? chosen.exit])
    return chosen
  }

  #meetGuards(): void {
    this.#maintainGuards()
    this.#meet(this.#guards.all)
  }

  #meet(relays: readonly { readonly id: string }[]): void {
    const now = Date.now()
    const news = relays.map(({ id }) => this.#met.meet(id, now))
    if (news.includes(true)) this.#write(this.#metFile, this.#met.encode())
  }

  #maintainGuards(): void {
    if (this.#hopCount > 1 && this.#guards.maintain(this.#relays(), systemRandom, Date.now())) this.#saveGuards()
  }

  #saveGuards(): void {
    this.#write(this.#guardsFile, this.#guards.encode())
  }

  #read<T>(file: string, maxBytes: number, decode: (text: string) => T | undefined): T | undefined {
    const bytes = readStateFile(file, maxBytes)
    if (bytes === undefined) return undefined
    const state = decode(Buffer.from(bytes).toString('utf8'))
    if (state === undefined) this.#setAside(file)
    return state
  }

  /** A full disk costs the copy, not the connection. */
  #write(file: string, bytes: Uint8Array | string): void {
    try {
      writeStateFile(file, bytes)
    } catch {
      this.#log.error('state file not written')
    }
  }

  #setAside(file: string): void {
    setAside(file)
    this.#log.warn('damaged state file set aside')
  }

  get #cacheFile(): string {
    return path.join(this.#stateDir, CACHE)
  }

  get #guardsFile(): string {
    return path.join(this.#stateDir, GUARDS)
  }

  get #metFile(): string {
    return path.join(this.#stateDir, MET)
  }
}

/** A random number from 0 to 1. */
function unit(): number {
  return Buffer.from(systemRandom(4)).readUInt32LE() / 2 ** 32
}

/** The libp2p id that a multiaddr ends with, if it does. */
function peerIdOf(multiaddr: string): string[] {
  return multiaddr.split('/p2p/').slice(1, 2)
}

function hiddenOf(relay: Descriptor): HiddenPeer[] {
  const { letterKey } = relay
  if (letterKey === undefined) return []
  const { id, operator, roles, family, exitPorts, hasTunnel, capacityKbit } = relay
  return [{ id, operator, key: relay.hopKey, roles, family, exitPorts, hasTunnel, capacityKbit, letterKey }]
}

function candidateOf(relay: Descriptor): Candidate[] {
  const [address] = relay.addresses
  if (address === undefined) return []
  const { id, operator, country, roles, family, exitPorts, hasTunnel, capacityKbit } = relay
  return [{ id, operator, country, address, key: relay.hopKey, roles, family, exitPorts, hasTunnel, capacityKbit }]
}
