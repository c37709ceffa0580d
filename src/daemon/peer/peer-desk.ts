// A peer that nobody reaches by an address: it is asked by letter, answers with candidates, and opens its router's way to whoever
// asked by checks from the data plane's own socket. What comes afterwards by that way is like what comes to any peer. Where no way
// can be opened it waits at a relay, of its own choice, that its answer names.
//
//   letter ──► answered ──(its answer's turn to be posted)──► checks ──(a pair answers)──► reached, kept ──(silent)──► gone
//                                                               └──(at once, or after 0.5 s)──► waits at the relay
//                                                                    └──(45 s and nobody came)──► gone
//
// Nothing is done about an asker before the answer's turn has come: it comes at the same time whoever asked, so a relay that sees us
// come cannot tell whose letter it was for.
//
// Who asks is not known, and says himself where he is. Ports are guessed there when the relay has said so too, of whoever came to it
// and is served. Bounds: 12 answers in a minute, 32 guests, 16 meetings; of checks, path/stranger-offer.ts and path/probe-budget.ts.

import { createHash } from 'node:crypto'
import type { Socket } from 'node:dgram'
import { systemRandom } from '#crypto/random.ts'
import { type XWingKeyPair, xwingFromSeed } from '#crypto/xwing.ts'
import type { Carrier } from '#discover/carrier.ts'
import type { Descriptor } from '#discover/descriptor.ts'
import type { Directory } from '#discover/directory.ts'
import type { Command, Report } from '#forward/commands.ts'
import type { Answer } from '#meet/matching.ts'
import { ofStranger } from '#path/stranger-offer.ts'
import { copyDescriptor } from '#platform/linux/plane/udp-socket.ts'
import { descriptorOf } from '#platform/linux/socket-descriptor.ts'
import { PathShell } from '#platform/paths/path-shell.ts'
import { LayerIndices } from '#route/layer.ts'
import { MeetingFlows } from '#route/meeting-flows.ts'
import { isPublicAddress } from '#stream/exit-policy.ts'
import type { Address } from '#wire/address.ts'
import { MEETING_TOKEN_BYTES } from '#wire/control.ts'
import type { MeetingPlace } from '#wire/device-signal.ts'
import { decodePathOffer, type PathOffer } from '#wire/path-offer.ts'
import { decodePeerOffer, encodePeerOffer } from '#wire/peer-offer.ts'
import type { Config } from '../config.ts'
import { ControlLoop } from '../control-loop.ts'
import { MatchOffice } from './match-office.ts'
import { PunchedWays } from './punched-ways.ts'

const MAX_ANSWERS_PER_MINUTE = 12
const MAX_GUESTS = 32
const UNREACHED_MS = 45_000
/** A flow at a relay by which no client has come is left after this. */
const UNUSED_MEETING_MS = 45_000
const SWEEP_MS = 250
/** No relay hears of whom checks reach. */
const DIRECT_FIRST_MS = 500
const STUN_SERVERS = 3
/** A router forgets what was not used for half a minute; asked at fixed times, relays do not see when somebody comes. */
const GATHER_EVERY_MS = 25_000

export interface PeerDeskOptions {
  readonly config: Config
  /** Secret: which relays are asked for our address, among those that there are. */
  readonly seed: Uint8Array
  readonly key: XWingKeyPair
  readonly directory: Directory
  readonly carriers: readonly Carrier[]
  /** The data plane's own socket. */
  readonly socket: Address
  /** Whether the data plane takes descriptors of sockets. */
  readonly takesSockets?: boolean
  readonly send: (...commands: readonly Command[]) => void
  /** Whether anything is lent to one more client. */
  readonly isOpen: () => boolean
  /** Whether a client has come by this session with a relay. */
  readonly serves: (session: number) => boolean
}

interface Guest {
  /** When the answer's turn came, or the letter before that. */
  sinceMs: number
  hasPath: boolean
  readonly theirs: PathOffer
  readonly place: MeetingPlace | undefined
  answer: Answer | undefined
  /** The flow at a relay, while there is one. */
  meeting: { session: number | undefined; isAsked: boolean } | undefined
  /** Whether the relay is still to be gone to. */
  isToMeet: boolean
}

export class PeerDesk {
  readonly #options: PeerDeskOptions
  readonly #office: MatchOffice
  readonly #flows: MeetingFlows
  readonly #loop: ControlLoop
  readonly #guests = new Map<number, Guest>()
  readonly #indices = new LayerIndices()
  #shell!: PathShell
  #local = 0
  /** Relays that are asked for our address, and waited at. */
  #relays: readonly Descriptor[] = []
  readonly #ways: PunchedWays
  readonly #sweep: NodeJS.Timeout
  readonly #gathering: NodeJS.Timeout
  #nextGuest = 1

  constructor(options: PeerDeskOptions) {
    this.#options = options
    this.#flows = new MeetingFlows({ random: systemRandom, indices: this.#indices })
    this.#loop = new ControlLoop(this.#flows, () => this.#carryOut())
    this.#ways = new PunchedWays(commands => options.send(...commands))
    this.#openShell(this.#chooseRelays())
    this.#office = new MatchOffice({
      carriers: options.carriers,
      meet: options.config.meet,
      random: systemRandom,
      nowMs: Date.now,
      key: options.key,
      serve: (offer, answer) => this.#serve(offer, answer),
      maxAnswersPerMinute: MAX_ANSWERS_PER_MINUTE,
    })
    this.#sweep = setInterval(() => void this.#tidy(), SWEEP_MS)
    this.#sweep.unref()
    this.#gathering = setInterval(() => this.#shell.do((endpoint, now) => endpoint.gather(now)), GATHER_EVERY_MS)
    this.#gathering.unref()
  }

  /** Guests whose router lets us through. */
  get reached(): number {
    return [...this.#guests.values()].filter(({ hasPath }) => hasPath).length
  }

  /** Our own addresses, as others see them. */
  get ownHosts(): readonly string[] {
    return this.#shell.do(endpoint => endpoint.candidates()).map(({ address }) => address.host)
  }

  get counters(): Record<string, number> {
    return { ...this.#office.counters, guests: this.#guests.size, reachedGuests: this.reached }
  }

  /** Commands as the data plane is to carry them out. */
  outward(commands: readonly Command[]): readonly Command[] {
    return this.#ways.outward(commands)
  }

  /** A report as others are to hear it; `undefined` when nobody is. */
  inward(report: Report): Report | undefined {
    return this.#ways.inward(report, this.#shell)
  }

  handleReport(report: Report): void {
    if (report.kind === 'stun') this.#shell.deliver(report.bytes, report.from, this.#local)
    else if (report.kind === 'handshake' || report.kind === 'control')
      this.#loop.run(now => this.#flows.handleReport(report, now))
  }

  async close(): Promise<void> {
    clearInterval(this.#sweep)
    clearInterval(this.#gathering)
    for (const guest of [...this.#guests.keys()]) this.#forget(guest)
    this.#loop.close()
    await this.#office.close()
    await this.#shell[Symbol.asyncDispose]()
  }

  #serve(bytes: Uint8Array, answer: Answer): void {
    const asked = decodePeerOffer(bytes)
    const offer = asked && decodePathOffer(asked.offer)
    if (offer === undefined) return answer(undefined)
    if (!this.#options.isOpen() || this.#guests.size >= MAX_GUESTS) return answer(undefined)
    const number = this.#nextGuest++
    const free = this.#relays.filter(({ price }) => price === undefined)
    const relay = free[number % Math.max(free.length, 1)]
    const place = relay && { relay: relay.id, token: systemRandom(MEETING_TOKEN_BYTES) }
    const theirs = ofStranger(offer, host => this.#mayCheck(host))
    this.#guests.set(number, {
      ...{ sinceMs: Date.now(), hasPath: false, theirs, place, answer },
      ...{ meeting: undefined, isToMeet: false },
    })
    void this.#connect(number)
  }

  /** Finds out what the asker is to be told. */
  async #connect(number: number): Promise<void> {
    await this.#askOthers()
    if (this.#guests.has(number)) this.#shell.do((endpoint, now) => endpoint.connect(number, false, now))
  }

  /** The answer is about to be posted. */
  #handleTurn(number: number): void {
    const guest = this.#guests.get(number)
    if (guest === undefined) return
    guest.isToMeet = true
    guest.sinceMs = Date.now()
    const isHopeless = this.#shell.do(endpoint => {
      return endpoint.nat().mapping === 'dependent' || guest.theirs.nat.mapping === 'dependent'
    })
    if (isHopeless) this.#meet(number, guest)
    this.#shell.do((endpoint, now) => endpoint.handleOffer(number, guest.theirs, now))
  }

  #meet(number: number, guest: Guest): void {
    guest.isToMeet = false
    const { place } = guest
    const relay = place && this.#options.directory.find(place.relay)
    const [address] = relay?.addresses ?? []
    if (place === undefined || relay === undefined || address === undefined) return
    this.#loop.run(now => {
      if (!this.#flows.open(number, { key: relay.hopKey, address }, place.token, now)) return
      guest.meeting = { session: undefined, isAsked: false }
    })
  }

  #carryOut(): void {
    this.#options.send(...this.#flows.take())
    for (const event of this.#flows.takeEvents()) {
      const guest = this.#guests.get(event.key)
      if (guest === undefined) continue
      if (event.kind === 'nested') guest.meeting = { session: event.session, isAsked: false }
      if (event.kind === 'lost') guest.meeting = undefined
      if (event.kind === 'other') this.#vouch(event.key, guest, event.host)
    }
  }

  /** The relay says where the asker is. */
  #vouch(number: number, { theirs, hasPath }: Guest, host: string): void {
    if (hasPath || !theirs.candidates.some(({ address }) => address.host === host)) return
    this.#shell.do((endpoint, now) => endpoint.vouch(number, host, now))
  }

  #openShell(relays: readonly Descriptor[]): void {
    const { config, socket, send, takesSockets } = this.#options
    this.#relays = relays
    const shell: PathShell = new PathShell({
      stunServers: relays.flatMap(({ addresses }) => addresses.slice(0, 1)),
      ...(takesSockets === true && { copySocket: (own: Socket) => copyDescriptor(descriptorOf(own)) }),
      onReturned: local => this.#ways.close(local),
      random: systemRandom,
      turnServers: [],
      meetsStrangers: true,
      mapsPorts: config.meet.map_port,
      tells: host => this.#mayCheck(host),
      onOffer: (guest, offer) => {
        const known = this.#guests.get(guest)
        known?.answer?.(encodePeerOffer({ meeting: known.place, offer }), () => this.#handleTurn(guest))
        if (known !== undefined) known.answer = undefined
      },
      onPath: (guest, path) => {
        const known = this.#guests.get(guest)
        if (known === undefined) return
        const wasLost = known.hasPath && path === undefined
        known.hasPath = path !== undefined
        if (path !== undefined && path.local !== this.#local) this.#ways.adopt(shell, path.local, path.to)
        // Not from within what tells us.
        if (wasLost && known.meeting === undefined) setImmediate(() => this.#forget(guest))
      },
      onPacket: () => undefined,
    })
    this.#shell = shell
    const family = socket.host.includes(':') ? 6 : 4
    this.#local = this.#shell.attach(family, socket.port, (to, bytes) =>
      send({ kind: 'sendHandshake', via: { kind: 'socket', address: to }, bytes }),
    )
  }

  async #tidy(): Promise<void> {
    const now = Date.now()
    for (const [number, guest] of this.#guests) {
      const { meeting, sinceMs, hasPath } = guest
      if (guest.isToMeet && hasPath) guest.isToMeet = false
      if (guest.isToMeet && now - sinceMs >= DIRECT_FIRST_MS) this.#meet(number, guest)
      const isServed = meeting?.session !== undefined && this.#options.serves(meeting.session)
      if (meeting !== undefined && isServed && !meeting.isAsked && !hasPath) {
        meeting.isAsked = true
        this.#loop.run(at => this.#flows.askOther(number, at))
      }
      if (meeting !== undefined && !isServed && now - sinceMs >= UNUSED_MEETING_MS) {
        this.#loop.run(() => this.#flows.close(number))
        guest.meeting = undefined
      }
      if (!hasPath && guest.meeting === undefined && now - sinceMs >= UNREACHED_MS) this.#forget(number)
    }
    await this.#askOthers()
  }

  /** More relays may be known than when nobody could be asked; or those that were asked do not answer. */
  async #askOthers(): Promise<void> {
    const shell = this.#shell
    const isBusy = shell.do(endpoint => endpoint.isGathering) || this.reached > 0
    if ((this.#relays.length > 0 && isBusy) || this.ownHosts.length > 0) return
    const relays = this.#chooseRelays(this.#relays)
    if (relays.length === 0) return
    for (const guest of [...this.#guests.keys()]) shell.disconnect(guest)
    this.#openShell(relays)
    await shell[Symbol.asyncDispose]()
  }

  #forget(number: number): void {
    if (!this.#guests.delete(number)) return
    this.#shell.disconnect(number)
    this.#loop.run(() => this.#flows.close(number))
  }

  #mayCheck(host: string): boolean {
    return this.#options.config.network.allow_private_addresses || isPublicAddress(host)
  }

  /** Relays to ask for our address, and to wait at: always the same, as far as they are there, so that few know it. */
  #chooseRelays(silent: readonly Descriptor[] = []): readonly Descriptor[] {
    const { directory, seed } = this.#options
    const rank = ({ id }: Descriptor) => createHash('sha256').update(seed).update(id).digest('hex')
    const isSilent = ({ id }: Descriptor) => silent.some(relay => relay.id === id)
    return directory
      .list(Date.now())
      .filter(({ addresses, roles }) => addresses.length > 0 && roles.includes('guard'))
      .map(relay => ({ relay, rank: `${isSilent(relay) ? 1 : 0}${rank(relay)}` }))
      .sort((a, b) => (a.rank < b.rank ? -1 : 1))
      .slice(0, STUN_SERVERS)
      .map(({ relay }) => relay)
  }
}

/** The key for letters of a peer: another than all others, and the same after a restart. */
export function letterKeyOf(peerSeed: Uint8Array): XWingKeyPair {
  return xwingFromSeed(createHash('sha256').update('hoplite letter key v1').update(peerSeed).digest())
}
