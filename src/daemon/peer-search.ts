// Peers without an address, for an entry: picked at home from the whole directory, asked by letter, reached by checks from the data
// plane's own socket, or at a relay where no router lets them through. What comes of it are hops like all others.
//
//   gathering ──► asked ──(answer)──► checking ──(a pair answers)──────► reached, directly ──(silent)──► dropped
//                   └──(no answer)──► dropped  └──(0.7 s)──► reached, at a relay ──(a pair answers)──► reached, directly
//
// Two are held ready at a time, and no more are asked than that: each learns our address. Until a pair has answered, nothing but
// checks goes to the addresses that a peer named; then nothing goes to the others.

import { systemRandom } from '#crypto/random.ts'
import type { Command, Report } from '#forward/commands.ts'
import type { MatchEvent } from '#meet/matching.ts'
import { ofStranger } from '#path/stranger-offer.ts'
import { monotonicMs } from '#platform/clock.ts'
import { PathShell } from '#platform/path-shell.ts'
import type { RouteHop } from '#route/way.ts'
import { isPublicAddress } from '#stream/exit-policy.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import { MEETING_TOKEN_BYTES } from '#wire/control.ts'
import { decodePathOffer, type PathOffer } from '#wire/path-offer.ts'
import { decodePeerOffer, encodePeerOffer } from '#wire/peer-offer.ts'
import type { Config } from './config.ts'
import { type OpenCarriers, openCarriers } from './letter-carriers.ts'
import { type Log, own } from './log.ts'
import { MatchOffice } from './match-office.ts'
import type { HiddenPeer, ReachedPeer, RelayChoice } from './relay-choice.ts'

const HELD = 2
const TICK_MS = 250
const GATHER_MS = 1_500
/** An answer has to wait for two turns of posting, and travels. */
const ANSWER_MS = 8_000
const ANSWER_TURNS = 3
const DIRECT_FIRST_MS = 700
const CHECKING_MS = 20_000
/** Addresses that a peer's checks came from, beyond those that it named. */
const MAX_SEEN_AT = 8
const NOWHERE: Address = { host: '::', port: 0 }

export interface PeerSearchOptions {
  readonly config: Config
  readonly log: Log
  readonly choice: RelayChoice
  /** The data plane's own socket. */
  readonly socket: Address
  /** Sends commands to the data plane, when the firewall lets what they speak to through (`targets`). */
  readonly send: (commands: readonly Command[]) => void
  /** The peers of all ways in use or being built. */
  readonly inUse: () => readonly RouteHop[]
  /** One more peer is reached. */
  readonly onReached: () => void
  /** Fewer addresses are spoken to. */
  readonly onFewerTargets: () => void
  /** What carries letters; the network's gossip without it. */
  readonly open?: (config: Config) => Promise<OpenCarriers>
}

interface Sought {
  readonly number: number
  readonly peer: HiddenPeer
  readonly relay: RouteHop | undefined
  readonly token: Uint8Array
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
  #carriers: OpenCarriers | undefined
  #office: MatchOffice | undefined
  #shell: PathShell | undefined
  #local = 0
  #relays: readonly RouteHop[] = []
  #opening: Promise<void> | undefined
  readonly #timer: NodeJS.Timeout
  #next = 1
  #isClosed = false

  constructor(options: PeerSearchOptions) {
    this.#options = options
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
    this.#timer.unref()
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

  handleReport(report: Report): void {
    if (report.kind === 'stun') this.#shell?.deliver(report.bytes, report.from, this.#local)
  }

  /** The peer was of no use. */
  drop(id: string): void {
    for (const sought of this.#sought.values()) if (sought.peer.id === id) this.#end(sought)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#timer)
    await this.#opening?.catch(() => undefined)
    await this.#office?.close()
    await this.#carriers?.close()
    await this.#shell?.[Symbol.asyncDispose]()
  }

  #tick(): void {
    if (this.#isClosed) return
    const now = monotonicMs()
    for (const sought of [...this.#sought.values()]) this.#judge(sought, now)
    if (this.#sought.size >= HELD || this.#options.choice.hiddenPeers === 0) return
    if (this.#office === undefined) {
      if (this.#options.choice.pickStunRelays().length === 0) return
      this.#opening ??= this.#open().catch(error => {
        this.#opening = undefined
        this.#options.log.warn('peers cannot be asked by letter', { why: own((error as Error).message) })
      })
      return
    }
    const peer = this.#options.choice.pickHidden([
      ...this.#options.inUse(),
      ...[...this.#sought.values()].map(({ peer }) => peer),
    ])
    if (peer !== undefined) void this.#seek(peer)
  }

  #judge(sought: Sought, now: number): void {
    const { state, sinceMs, path, relay, isRelayed } = sought
    const { meet } = this.#options.config
    const waitedMs = now - sinceMs
    if (state === 'asked' && waitedMs >= ANSWER_MS + ANSWER_TURNS * meet.interval_ms) return this.#fail(sought)
    if (state !== 'checking' || path !== undefined) return
    if (!isRelayed && relay !== undefined && waitedMs >= DIRECT_FIRST_MS) {
      sought.isRelayed = true
      this.#tellReached(sought)
    }
    if (waitedMs < CHECKING_MS || sought.offer === undefined) return
    if (!sought.isRelayed) return this.#fail(sought)
    // What has not answered by now is left alone; the relay carries on.
    sought.offer = undefined
    sought.seenAt = []
    this.#shell?.disconnect(sought.number)
    this.#options.onFewerTargets()
  }

  async #open(): Promise<void> {
    const { config, choice, socket, open = openCarriers } = this.#options
    this.#relays = choice.pickStunRelays()
    const gossip = { ...config.meet, gossip: true, rendezvous: [], folder: '', by_hand: false }
    const carriers = await open({ ...config, meet: gossip })
    if (this.#isClosed) return carriers.close()
    this.#carriers = carriers
    this.#shell = new PathShell({
      random: systemRandom,
      stunServers: this.#relays.map(({ address }) => address),
      turnServers: [],
      meetsStrangers: true,
      tells: host => this.#mayCheck(host),
      onOffer: (number, offer) => this.#ask(number, offer),
      onPath: (number, path) => this.#handlePath(number, path?.to),
      onPacket: () => undefined,
    })
    const family = socket.host.includes(':') ? 6 : 4
    this.#local = this.#shell.attach(family, socket.port, (to, bytes) => this.#sendCheck(to, bytes))
    this.#office = new MatchOffice({
      carriers: carriers.carriers,
      meet: config.meet,
      random: systemRandom,
      nowMs: Date.now,
      onEvent: event => this.#handleMatch(event),
    })
  }

  async #seek(peer: HiddenPeer): Promise<void> {
    const number = this.#next++
    const relay = this.#relays[number % Math.max(this.#relays.length, 1)]
    const sought: Sought = {
      ...{ number, peer, relay, token: systemRandom(MEETING_TOKEN_BYTES), state: 'gathering', sinceMs: monotonicMs() },
      ...{ ask: undefined, offer: undefined, seenAt: [], path: undefined, claimed: NOWHERE, isRelayed: false },
    }
    this.#sought.set(number, sought)
    await this.#shell?.gather(GATHER_MS)
    if (this.#isClosed || !this.#sought.has(number)) return
    this.#shell?.do((endpoint, now) => endpoint.connect(number, true, now))
  }

  /** Our offer is ready; later ones would come too late. */
  #ask(number: number, offer: Uint8Array): void {
    const sought = this.#sought.get(number)
    if (sought?.state !== 'gathering') return
    const { relay, token, peer } = sought
    const meeting = relay && { relay: relay.id, token }
    sought.state = 'asked'
    sought.sinceMs = monotonicMs()
    sought.ask = this.#office?.ask(peer.letterKey, encodePeerOffer({ meeting, offer }))
    if (sought.ask === undefined) this.#end(sought)
  }

  #handleMatch(event: MatchEvent): void {
    const sought = [...this.#sought.values()].find(({ ask }) => ask === event.ask)
    if (sought === undefined) return
    sought.ask = undefined
    const answer = event.kind === 'answered' && event.isAccepted ? decodePeerOffer(event.offer) : undefined
    const offer = answer && decodePathOffer(answer.offer)
    if (offer === undefined) return this.#fail(sought)
    sought.state = 'checking'
    sought.sinceMs = monotonicMs()
    const theirs = ofStranger(offer, host => this.#mayCheck(host))
    sought.offer = theirs
    sought.claimed = theirs.candidates[0]?.address ?? NOWHERE
    this.#shell?.do((endpoint, now) => endpoint.handleOffer(sought.number, theirs, now))
  }

  #handlePath(number: number, to: Address | undefined): void {
    const sought = this.#sought.get(number)
    if (sought === undefined) return
    const wasReached = sought.path !== undefined
    sought.path = to
    // Nobody carries news of another address: it is asked anew, or another is.
    if (to === undefined) {
      if (wasReached) setImmediate(() => this.#end(sought))
      return
    }
    this.#options.onFewerTargets()
    this.#tellReached(sought)
  }

  #tellReached({ path }: Sought): void {
    this.#options.log.info('a peer is reached', { way: own(path === undefined ? 'relayed' : 'direct') })
    this.#options.onReached()
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
