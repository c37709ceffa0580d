// A peer that nobody reaches by an address: it is asked by letter, answers with candidates, and opens its router's way to whoever
// asked by checks from the data plane's own socket. What comes afterwards by that way is like what comes to any peer. Where no way
// can be opened it waits at the relay that the asker named.
//
//   letter ──► guest: checks ──(a pair answers)──► reached, kept ──(silent)──► gone
//                └──(45 s)──► gone
//
// Who asks is not known, and says himself where he is. Bounds: 12 answers in a minute, 32 guests, 16 meetings; of the checks,
// path/stranger-offer.ts and path/probe-budget.ts.

import { createHash } from 'node:crypto'
import { systemRandom } from '#crypto/random.ts'
import { type XWingKeyPair, xwingFromSeed } from '#crypto/xwing.ts'
import type { Carrier } from '#discover/carrier.ts'
import type { Descriptor } from '#discover/descriptor.ts'
import type { Directory } from '#discover/directory.ts'
import type { Command, Report } from '#forward/commands.ts'
import { ofStranger } from '#path/stranger-offer.ts'
import { PathShell } from '#platform/path-shell.ts'
import { LayerIndices } from '#route/layer.ts'
import { MeetingFlows } from '#route/meeting-flows.ts'
import { isPublicAddress } from '#stream/exit-policy.ts'
import type { Address } from '#wire/address.ts'
import type { MeetingPlace } from '#wire/device-signal.ts'
import { decodePathOffer, type PathOffer } from '#wire/path-offer.ts'
import { decodePeerOffer, encodePeerOffer } from '#wire/peer-offer.ts'
import type { Config } from './config.ts'
import { ControlLoop } from './control-loop.ts'
import { MatchOffice } from './match-office.ts'

const MAX_ANSWERS_PER_MINUTE = 12
const MAX_GUESTS = 32
const UNREACHED_MS = 45_000
/** A flow at a relay by which no client has come is left after this. */
const UNUSED_MEETING_MS = 45_000
const SWEEP_MS = 1_000
const STUN_SERVERS = 3
const GATHER_MS = 1_000

export interface PeerDeskOptions {
  readonly config: Config
  /** Secret: which relays are asked for our address, among those that there are. */
  readonly seed: Uint8Array
  readonly key: XWingKeyPair
  readonly directory: Directory
  readonly carriers: readonly Carrier[]
  /** The data plane's own socket. */
  readonly socket: Address
  readonly send: (...commands: readonly Command[]) => void
  /** Whether anything is lent to one more client. */
  readonly isOpen: () => boolean
  /** Whether a client has come by this session with a relay. */
  readonly serves: (session: number) => boolean
}

interface Guest {
  readonly sinceMs: number
  hasPath: boolean
  answer: ((offer: Uint8Array | undefined) => void) | undefined
  /** The flow at a relay, while there is one. */
  meeting: { session: number | undefined } | undefined
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
  #servers: readonly Address[] = []
  readonly #sweep: NodeJS.Timeout
  #nextGuest = 1

  constructor(options: PeerDeskOptions) {
    this.#options = options
    this.#flows = new MeetingFlows({ random: systemRandom, indices: this.#indices })
    this.#loop = new ControlLoop(this.#flows, () => this.#carryOut())
    this.#openShell(this.#chooseServers())
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

  handleReport(report: Report): void {
    if (report.kind === 'stun') this.#shell.deliver(report.bytes, report.from, this.#local)
    else if (report.kind === 'handshake' || report.kind === 'control')
      this.#loop.run(now => this.#flows.handleReport(report, now))
  }

  async close(): Promise<void> {
    clearInterval(this.#sweep)
    for (const guest of [...this.#guests.keys()]) this.#forget(guest)
    this.#loop.close()
    await this.#office.close()
    await this.#shell[Symbol.asyncDispose]()
  }

  #serve(bytes: Uint8Array, answer: (offer: Uint8Array | undefined) => void): void {
    const asked = decodePeerOffer(bytes)
    const offer = asked && decodePathOffer(asked.offer)
    if (asked === undefined || offer === undefined) return answer(undefined)
    if (!this.#options.isOpen() || this.#guests.size >= MAX_GUESTS) return answer(undefined)
    const guest = this.#nextGuest++
    this.#guests.set(guest, { sinceMs: Date.now(), hasPath: false, answer, meeting: undefined })
    if (asked.meeting !== undefined) this.#meet(guest, asked.meeting)
    void this.#look(
      guest,
      ofStranger(offer, host => this.#mayCheck(host)),
    )
  }

  async #look(guest: number, theirs: PathOffer): Promise<void> {
    await this.#askOthers()
    const shell = this.#shell
    await shell.gather(GATHER_MS)
    if (shell !== this.#shell || !this.#guests.has(guest)) return
    shell.do((endpoint, now) => {
      endpoint.connect(guest, false, now)
      endpoint.handleOffer(guest, theirs, now)
    })
  }

  #meet(number: number, { relay: id, token }: MeetingPlace): void {
    const relay = this.#options.directory.find(id)
    const [address] = relay?.addresses ?? []
    const guest = this.#guests.get(number)
    // Only where a relay of the directory is: who asks chooses which, and no other address.
    if (relay === undefined || address === undefined || guest === undefined || !relay.roles.includes('guard')) return
    this.#loop.run(now => {
      if (this.#flows.open(number, { key: relay.hopKey, address }, token, now)) guest.meeting = { session: undefined }
    })
  }

  #carryOut(): void {
    this.#options.send(...this.#flows.take())
    for (const event of this.#flows.takeEvents()) {
      const guest = this.#guests.get(event.key)
      if (guest === undefined) continue
      if (event.kind === 'nested') guest.meeting = { session: event.session }
      if (event.kind === 'lost') guest.meeting = undefined
    }
  }

  #openShell(servers: readonly Address[]): void {
    const { config, socket, send } = this.#options
    this.#servers = servers
    this.#shell = new PathShell({
      random: systemRandom,
      stunServers: servers,
      turnServers: [],
      meetsStrangers: true,
      mapsPorts: config.meet.map_port,
      tells: host => this.#mayCheck(host),
      onOffer: (guest, offer) => {
        const known = this.#guests.get(guest)
        known?.answer?.(encodePeerOffer({ offer }))
        if (known !== undefined) known.answer = undefined
      },
      onPath: (guest, path) => {
        const known = this.#guests.get(guest)
        if (known === undefined) return
        const wasLost = known.hasPath && path === undefined
        known.hasPath = path !== undefined
        // Not from within what tells us.
        if (wasLost && known.meeting === undefined) setImmediate(() => this.#forget(guest))
      },
      onPacket: () => undefined,
    })
    const family = socket.host.includes(':') ? 6 : 4
    this.#local = this.#shell.attach(family, socket.port, (to, bytes) =>
      send({ kind: 'sendHandshake', via: { kind: 'socket', address: to }, bytes }),
    )
  }

  async #tidy(): Promise<void> {
    const now = Date.now()
    for (const [number, guest] of this.#guests) {
      const { meeting, sinceMs } = guest
      const isServed = meeting?.session !== undefined && this.#options.serves(meeting.session)
      if (meeting !== undefined && !isServed && now - sinceMs >= UNUSED_MEETING_MS) {
        this.#loop.run(() => this.#flows.close(number))
        guest.meeting = undefined
      }
      if (!guest.hasPath && guest.meeting === undefined && now - sinceMs >= UNREACHED_MS) this.#forget(number)
    }
    await this.#askOthers()
  }

  /** More relays may be known than when nobody could be asked; or those that were asked do not answer. */
  async #askOthers(): Promise<void> {
    const shell = this.#shell
    const isBusy = shell.do(endpoint => endpoint.isGathering) || this.reached > 0
    if ((this.#servers.length > 0 && isBusy) || this.ownHosts.length > 0) return
    const servers = this.#chooseServers(this.#servers)
    if (servers.length === 0) return
    for (const guest of [...this.#guests.keys()]) shell.disconnect(guest)
    this.#openShell(servers)
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

  /** Relays to ask for our address: always the same, as far as they are there, so that few know it. */
  #chooseServers(silent: readonly Address[] = []): readonly Address[] {
    const { directory, seed } = this.#options
    const rank = ({ id }: Descriptor) => createHash('sha256').update(seed).update(id).digest('hex')
    const isSilent = ({ addresses }: Descriptor) => silent.some(({ host }) => addresses[0]?.host === host)
    return directory
      .list(Date.now())
      .filter(({ addresses, roles }) => addresses.length > 0 && roles.includes('guard'))
      .map(relay => ({ relay, rank: `${isSilent(relay) ? 1 : 0}${rank(relay)}` }))
      .sort((a, b) => (a.rank < b.rank ? -1 : 1))
      .slice(0, STUN_SERVERS)
      .flatMap(({ relay }) => relay.addresses.slice(0, 1))
  }
}

/** The key for letters of a peer: another than all others, and the same after a restart. */
export function letterKeyOf(peerSeed: Uint8Array): XWingKeyPair {
  return xwingFromSeed(createHash('sha256').update('hoplite letter key v1').update(peerSeed).digest())
}
