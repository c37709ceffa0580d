// Peers without an address, for an entry: picked at home from the whole directory, asked by letter, reached by checks from the data
// plane's own socket, or at a relay where no router lets them through. What comes of it are hops like all others.
//
//   gathering ──► asked ──(answer)──► checking ──(a pair answers)──────► reached, directly ──(silent)──► dropped
//                   └──(no answer)──► dropped  └──(0.7 s, or at once)──► reached, at a relay ──(a pair answers)──► reached, directly
//
// Where one of the two routers gives every other another port, the relay is gone to at once; when the peer has shown there that it is
// of use, ports are guessed.
//
// Two are held ready at a time, and no more are asked than that: each learns our address. Both are asked at once when we come, and
// whichever answers first is used. Until a pair has answered, nothing but checks goes to the addresses that a peer named; then nothing
// goes to the others.

import type { Socket } from 'node:dgram'
import { systemRandom } from '#crypto/random.ts'
import type { Command, Report } from '#forward/commands.ts'
import type { MatchEvent } from '#meet/matching.ts'
import type { Path } from '#path/ground.ts'
import { ofStranger } from '#path/stranger-offer.ts'
import { monotonicMs } from '#platform/clock.ts'
import { copyDescriptor } from '#platform/linux/plane/udp-socket.ts'
import { descriptorOf } from '#platform/linux/socket-descriptor.ts'
import { PathShell } from '#platform/paths/path-shell.ts'
import type { RouteHop } from '#route/way.ts'
import { isPublicAddress } from '#stream/exit-policy.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import { decodePathOffer, type PathOffer } from '#wire/path-offer.ts'
import { decodePeerOffer, encodePeerOffer } from '#wire/peer-offer.ts'
import type { HiddenPeer, ReachedPeer, RelayChoice } from '../client/relay-choice.ts'
import type { Config } from '../config.ts'
import { type OpenCarriers, openCarriers } from '../devices/letter-carriers.ts'
import { type Log, own } from '../log.ts'
import { MatchOffice } from './match-office.ts'
import { PunchedWays } from './punched-ways.ts'

const HELD = 2
const TICK_MS = 250
/** How soon it is looked again for relays and peers, until the first are known. */
const OPEN_TICK_MS = 25
const GATHER_MS = 1_500
const OPEN_AGAIN_MS = 1_000
/** Relays are asked for our address at fixed times: they are not to see when somebody is sought. */
const GATHER_EVERY_MS = 25_000
/** An answer has to wait for two turns of posting, and travels. */
const ANSWER_MS = 8_000
const ANSWER_TURNS = 3
const DIRECT_FIRST_MS = 700
const CHECKING_MS = 20_000
/** Addresses that a peer's checks came from, beyond those that it named. */
const MAX_SEEN_AT = 8
const NO_TOKEN = new Uint8Array(0)
const NOWHERE: Address = { host: '::', port: 0 }

export interface PeerSearchOptions {
  readonly config: Config
  readonly log: Log
  readonly choice: RelayChoice
  /** A socket that the machine's firewall lets out, not bound yet; without it there is no firewall. */
  readonly openSocket?: () => Promise<number>
  /** Sends commands to the data plane, when the firewall lets what they speak to through (`targets`). */
  readonly send: (commands: readonly Command[]) => void
  /** The peers of all ways in use or being built. */
  readonly inUse: () => readonly RouteHop[]
  /** One more peer is reached, or one by a shorter way. */
  readonly onReached: (peer: string) => void
  /** Fewer addresses are spoken to. */
  readonly onFewerTargets: () => void
  /** What carries letters; the network's gossip without it. */
  readonly open?: (config: Config) => Promise<OpenCarriers>
}

/** The data plane, once it is there. */
export interface SearchGround {
  /** Its own socket. */
  readonly socket: Address
  /** Whether it takes descriptors of sockets. */
  readonly takesSockets: boolean
}

interface Sought {
  readonly number: number
  readonly peer: HiddenPeer
  /** Where the peer waits. */
  relay: RouteHop | undefined
  token: Uint8Array
  state: 'gathering' | 'asked' | 'checking'
  sinceMs: number
  ask: string | undefined
  /** What the peer said of itself, as far as it is taken. */
  offer: PathOffer | undefined
  seenAt: Address[]
  /** The address that answered. */
  path: Address | undefined
  /** Where it says that it is. */
  claimed: Address
  /** Whether the peer is of use at the relay, meanwhile or for good. */
  isRelayed: boolean
}

export class PeerSearch {
  readonly #options: PeerSearchOptions
  readonly #sought = new Map<number, Sought>()
  #joining: Promise<OpenCarriers> | undefined
  #office: MatchOffice | undefined
  #shell: PathShell | undefined
  #local = 0
  #relays: readonly RouteHop[] = []
  #opening: Promise<void> | undefined
  readonly #ways: PunchedWays
  #timer: NodeJS.Timeout | undefined
  #ground: SearchGround | undefined
  readonly #gathering: NodeJS.Timeout
  #next = 1
  #openAgainMs = Number.NEGATIVE_INFINITY
  #isClosed = false

  constructor(options: PeerSearchOptions) {
    this.#options = options
    this.#ways = new PunchedWays(commands => options.send(commands))
    // While the data plane starts, and the directory is asked for.
    this.#join().catch(() => undefined)
    this.#gathering = setInterval(() => this.#shell?.do((endpoint, now) => endpoint.gather(now)), GATHER_EVERY_MS)
    this.#gathering.unref()
  }

  /** Begins to look for peers. */
  begin(ground: SearchGround): void {
    this.#ground = ground
    this.#tick()
  }

  /** Peers that a way may lead over now. */
  get reached(): readonly ReachedPeer[] {
    return [...this.#sought.values()].flatMap(sought => this.#reachedBy(sought) ?? [])
  }

  /** Every address that our socket may send to on account of this. */
  get targets(): readonly Address[] {
    const all = [...this.#sought.values()].flatMap(({ offer, seenAt, path, isRelayed, relay }) => [
      ...(path === undefined ? [...(offer?.candidates ?? []).map(({ address }) => address), ...seenAt] : [path]),
      ...(isRelayed && relay !== undefined ? [relay.address] : []),
    ])
    const asked = this.#shell === undefined ? [] : this.#relays.map(({ address }) => address)
    return [...new Map([...all, ...asked].map(address => [formatAddress(address), address])).values()]
  }

  get counters(): Record<string, number> {
    return { ...this.#office?.counters, soughtPeers: this.#sought.size, reachedPeers: this.reached.length }
  }

  /** Commands as the data plane is to carry them out. */
  outward(commands: readonly Command[]): readonly Command[] {
    return this.#ways.outward(commands)
  }

  /** A report as others are to hear it; `undefined` when nobody is. */
  inward(report: Report): Report | undefined {
    return this.#ways.inward(report, this.#shell)
  }

  /** A way over these hops works: a peer that is reached at a relay has shown that it is one. */
  handleUse(hops: readonly RouteHop[]): void {
    for (const { number, peer, path, relay, offer } of this.#sought.values()) {
      if (path !== undefined || relay === undefined || offer === undefined || hops.at(-1)?.id !== peer.id) continue
      const host = offer.candidates.find(({ kind }) => kind === 'serverReflexive')?.address.host
      if (host !== undefined && this.#mayGuess()) this.#shell?.do((endpoint, now) => endpoint.vouch(number, host, now))
    }
  }

  handleReport(report: Report): void {
    if (report.kind === 'stun') this.#shell?.deliver(report.bytes, report.from, this.#local)
  }

  /** The peer was of no use. */
  drop(id: string): void {
    for (const sought of this.#sought.values()) if (sought.peer.id === id) this.#end(sought)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#timer)
    clearInterval(this.#gathering)
    await this.#opening?.catch(() => undefined)
    await this.#office?.close()
    await (await this.#joining?.catch(() => undefined))?.close()
    await this.#shell?.[Symbol.asyncDispose]()
  }

  #tick(): void {
    if (this.#isClosed) return
    this.#look()
    this.#timer = setTimeout(() => this.#tick(), this.#office === undefined ? OPEN_TICK_MS : TICK_MS)
    this.#timer.unref()
  }

  #look(): void {
    const now = monotonicMs()
    for (const sought of [...this.#sought.values()]) this.#judge(sought, now)
    const { choice, log } = this.#options
    if (this.#sought.size >= HELD || choice.hiddenPeers === 0 || now < this.#openAgainMs) return
    if (this.#office === undefined) {
      if (this.#opening !== undefined || choice.pickStunRelays().length === 0) return
      this.#opening = this.#open().catch(error => {
        this.#opening = undefined
        this.#openAgainMs = monotonicMs() + OPEN_AGAIN_MS
        log.warn('peers cannot be asked by letter', { why: own((error as Error).message) })
      })
      return
    }
    while (this.#sought.size < HELD) {
      const sought = [...this.#sought.values()].map(({ peer }) => peer)
      const peer = choice.pickHidden([...this.#options.inUse(), ...sought])
      if (peer === undefined) return
      this.#seek(peer)
    }
  }

  #judge(sought: Sought, now: number): void {
    const { state, sinceMs, path } = sought
    const { meet } = this.#options.config
    const waitedMs = now - sinceMs
    if (state === 'asked' && waitedMs >= ANSWER_MS + ANSWER_TURNS * meet.interval_ms) return this.#fail(sought)
    if (state !== 'checking' || path !== undefined) return
    if (waitedMs >= DIRECT_FIRST_MS) this.#takeRelay(sought)
    if (waitedMs < CHECKING_MS || sought.offer === undefined) return
    if (!sought.isRelayed) return this.#fail(sought)
    // What has not answered by now is left alone; the relay carries on.
    sought.offer = undefined
    sought.seenAt = []
    this.#shell?.disconnect(sought.number)
    this.#options.onFewerTargets()
  }

  /** The ways for letters; they take a while, and nobody is told anything by that. */
  #join(): Promise<OpenCarriers> {
    const { config, open = openCarriers } = this.#options
    const gossip = { ...config.meet, gossip: true, rendezvous: [], folder: '', by_hand: false }
    this.#joining ??= open({ ...config, meet: gossip }).catch(error => {
      this.#joining = undefined
      throw error
    })
    return this.#joining
  }

  async #open(): Promise<void> {
    const { config, choice } = this.#options
    const ground = this.#ground
    if (ground === undefined) return
    this.#relays = choice.pickStunRelays()
    this.#shell ??= this.#openShell(ground)
    const [{ carriers }] = await Promise.all([this.#join(), this.#shell.gather(GATHER_MS)])
    if (this.#isClosed) return
    this.#office = new MatchOffice({
      ...{ carriers, meet: config.meet, random: systemRandom, nowMs: Date.now },
      // Whoever comes asks: so many letters are the same for all.
      firstLetters: HELD,
      onEvent: event => this.#handleMatch(event),
    })
    this.#look()
  }

  #openShell({ socket, takesSockets }: SearchGround): PathShell {
    const { openSocket } = this.#options
    const shell: PathShell = new PathShell({
      random: systemRandom,
      stunServers: this.#relays.map(({ address }) => address),
      turnServers: [],
      meetsStrangers: true,
      tells: host => this.#mayCheck(host),
      ...(openSocket && { openSocket }),
      ...(takesSockets && { copySocket: (own: Socket) => copyDescriptor(descriptorOf(own)) }),
      onReturned: local => this.#ways.close(local),
      onOffer: (number, offer) => this.#ask(number, offer),
      onPath: (number, path) => this.#handlePath(shell, number, path),
      onPacket: () => undefined,
    })
    const family = socket.host.includes(':') ? 6 : 4
    this.#local = shell.attach(family, socket.port, (to, bytes) => this.#sendCheck(to, bytes))
    return shell
  }

  #seek(peer: HiddenPeer): void {
    const number = this.#next++
    const sought: Sought = {
      ...{ number, peer, relay: undefined, token: NO_TOKEN, state: 'gathering', sinceMs: monotonicMs() },
      ...{ ask: undefined, offer: undefined, seenAt: [], path: undefined, claimed: NOWHERE, isRelayed: false },
    }
    this.#sought.set(number, sought)
    this.#shell?.do((endpoint, now) => endpoint.connect(number, true, now))
  }

  /** Our offer is ready; later ones would come too late. */
  #ask(number: number, offer: Uint8Array): void {
    const sought = this.#sought.get(number)
    if (sought?.state !== 'gathering') return
    sought.state = 'asked'
    sought.sinceMs = monotonicMs()
    sought.ask = this.#office?.ask(sought.peer.letterKey, encodePeerOffer({ offer }))
    if (sought.ask === undefined) this.#end(sought)
  }

  #handleMatch(event: MatchEvent): void {
    const sought = [...this.#sought.values()].find(({ ask }) => ask === event.ask)
    if (sought === undefined) return
    sought.ask = undefined
    const answer = event.kind === 'answered' && event.isAccepted ? decodePeerOffer(event.offer) : undefined
    const offer = answer && decodePathOffer(answer.offer)
    if (answer === undefined || offer === undefined) return this.#fail(sought)
    const { meeting } = answer
    if (meeting !== undefined) {
      sought.relay = this.#options.choice.meetAt(meeting.relay)
      sought.token = meeting.token
    }
    sought.state = 'checking'
    sought.sinceMs = monotonicMs()
    const theirs = ofStranger(offer, host => this.#mayCheck(host))
    sought.offer = theirs
    sought.claimed = theirs.candidates[0]?.address ?? NOWHERE
    const own = this.#shell?.do((endpoint, now) => {
      endpoint.handleOffer(sought.number, theirs, now)
      return endpoint.nat()
    })
    if (own?.mapping === 'dependent' || theirs.nat.mapping === 'dependent') this.#takeRelay(sought)
  }

  #takeRelay(sought: Sought): void {
    if (sought.isRelayed || sought.relay === undefined || sought.path !== undefined) return
    sought.isRelayed = true
    this.#tellReached(sought)
  }

  #handlePath(shell: PathShell, number: number, path: Path | undefined): void {
    const to = path?.to
    const sought = this.#sought.get(number)
    if (sought === undefined) return
    const wasReached = sought.path !== undefined
    sought.path = to
    // Nobody carries news of another address: it is asked anew, or another is.
    if (to === undefined) {
      if (wasReached) setImmediate(() => this.#end(sought))
      return
    }
    if (path !== undefined && path.local !== this.#local) this.#ways.adopt(shell, path.local, path.to)
    this.#options.onFewerTargets()
    this.#tellReached(sought)
  }

  #tellReached({ path, peer }: Sought): void {
    this.#options.log.info('a peer is reached', { way: own(path === undefined ? 'relayed' : 'direct') })
    this.#options.onReached(peer.id)
  }

  #reachedBy({ peer, path, isRelayed, relay, token, claimed: address }: Sought): ReachedPeer | undefined {
    if (path !== undefined) {
      const there = { ...peer, address: path }
      return { peer: there, hops: [there] }
    }
    if (!isRelayed || relay === undefined) return undefined
    // Where it is, is its own word: good enough to keep it away from the server's network.
    const there = { ...peer, address, meeting: token }
    return { peer: there, hops: [relay, there] }
  }

  /** A check, or an answer to one: to those alone that a peer that is sought named, and to their hosts. */
  #sendCheck(to: Address, bytes: Uint8Array): void {
    if (!this.targets.some(({ host, port }) => host === to.host && port === to.port) && !this.#see(to)) return
    this.#options.send([{ kind: 'sendHandshake', via: { kind: 'socket', address: { ...to } }, bytes }])
  }

  /** A symmetric NAT gives its peer another port than was named. */
  #see(to: Address): boolean {
    for (const { offer, seenAt, path } of this.#sought.values()) {
      const isThere = offer?.candidates.some(({ address }) => address.host === to.host)
      if (isThere !== true || path !== undefined || seenAt.length >= MAX_SEEN_AT) continue
      seenAt.push({ ...to })
      return true
    }
    return false
  }

  /** A firewall lets checks out to addresses that are known alone; ports of a host that are guessed it does not. */
  #mayGuess(): boolean {
    return this.#shell?.do(endpoint => endpoint.nat().mapping) === 'dependent'
  }

  #fail(sought: Sought): void {
    this.#options.choice.handleFailure({ ...sought.peer, address: sought.claimed })
    this.#end(sought)
  }

  #end(sought: Sought): void {
    if (!this.#sought.delete(sought.number)) return
    if (sought.ask !== undefined) this.#office?.withdraw(sought.ask)
    this.#shell?.disconnect(sought.number)
    this.#options.onFewerTargets()
  }

  #mayCheck(host: string): boolean {
    return this.#options.config.network.allow_private_addresses || isPublicAddress(host)
  }
}
