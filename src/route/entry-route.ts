// An entry's route: one lane that carries the flow to the WireGuard server, and spare lanes over other peers, kept ready.
// A pure machine.
//
//   building ──(a lane opens)──► ready ──(the lane in use falls silent, is slow, or is due for rotation)──► ready, by a spare
//      ▲                           │
//      └─────── cutOff ◄───────────┘ (no lane is left: nothing is sent until a peer is found)
//
// The server knows its client by its keys, not by its address: packets that come by another peer are taken as roaming. What
// a lane needs before it may carry data is one handshake that goes through it, because its peer wants to see a WireGuard
// server answer (see `forward/legs.ts`).

import type { Random } from '#crypto/random.ts'
import type { Command } from '#forward/commands.ts'
import type { Address } from '#wire/address.ts'
import type { AnswerRun } from './answer-run.ts'
import { EntryLane } from './entry-lane.ts'
import type { LayerIndices } from './layer.ts'
import type { RouteHop } from './way.ts'

const SPARES = 2
const NEXT_SPARE_MS = 100
const FIRST_RETRY_MS = 200
const MAX_RETRY_MS = 30_000
/** Nobody may be without a way for longer than this because of caution. */
const MAX_CUT_OFF_RETRY_MS = 5_000
const PROVE_EVERY_MS = 5_500
const MAX_PROOFS = 3
/** Much slower than the spare: this many times its round trip, and this much. */
const SLOW_FACTOR = 3
const SLOW_MARGIN_MS = 40
const SLOW_FOR_MS = 3_000
const DEAF_FOR_MS = 60_000
const ROTATE_AFTER_MS = 30 * 60_000
const ROTATE_SPREAD_MS = 30 * 60_000
const ROTATION_RETRY_MS = 60_000
/** After a planned move the old lane brings what is still on its way. */
const OVERLAP_MS = 5_000

export type EntryState = 'building' | 'ready' | 'cutOff' | 'closed'

export type MoveReason = 'silent' | 'slow' | 'deaf' | 'rotation'

export type EntryEvent =
  | { readonly kind: 'ready'; readonly hops: readonly RouteHop[] }
  | {
      readonly kind: 'moved'
      readonly hops: readonly RouteHop[]
      readonly reason: MoveReason
      readonly silentMs: number
    }
  | { readonly kind: 'spareReady'; readonly hops: readonly RouteHop[] }
  /** No peer is left. Nothing leaves until there is one. */
  | { readonly kind: 'cutOff'; readonly problem: string }
  /** Peers answer and the server does not, by any of them. */
  | { readonly kind: 'serverSilent' }
  /** Doubtful: nobody else was heard either, so it may be the network. */
  | { readonly kind: 'hopFailed'; readonly hop: RouteHop; readonly isDoubtful: boolean }

/** The peers of one way; or why there are none. */
export type PeerChoice = { readonly hops: readonly RouteHop[] } | { readonly problem: string }

export interface EntryRouteOptions {
  readonly entry: number
  readonly server: Address
  /** Whether the client is our own device, which begins a handshake when it is asked to. */
  readonly ownClient: boolean
  readonly random: Random
  readonly out: Command[]
  readonly indices: LayerIndices
  readonly newSession: () => number
  readonly pickPeers: (avoid: readonly RouteHop[]) => PeerChoice
  /** Whether the tunnel carries anything now: probes are then sent more often. */
  readonly isBusy: () => boolean
  /** What was heard of any peer at all. */
  readonly heard: AnswerRun
}

export class EntryRoute {
  readonly #options: EntryRouteOptions
  #state: EntryState = 'building'
  #active: EntryLane | undefined
  #lanes: EntryLane[] = []
  #problem: string | undefined
  #nextLaneMs: number
  #failures = 0
  #rotateAtMs: number
  #cutOffSinceMs: number | undefined
  #provenMs = Number.NEGATIVE_INFINITY
  #saidServerSilent = false
  #events: EntryEvent[] = []

  constructor(options: EntryRouteOptions, now: number) {
    this.#options = options
    this.#nextLaneMs = now
    this.#rotateAtMs = this.#nextRotation(now)
  }

  get state(): EntryState {
    return this.#state
  }

  /** Why there is no way to the server; undefined when there is one, or the first is being built. */
  get problem(): string | undefined {
    return this.#active === undefined ? this.#problem : undefined
  }

  /** The peers in use, the last one before the server last; empty while there are none. */
  get hops(): readonly RouteHop[] {
    return this.#active?.hops ?? []
  }

  /** The spare ways that are open, and whether the server has answered through them. */
  get spares(): readonly { readonly hops: readonly RouteHop[]; readonly isProven: boolean }[] {
    return this.#lanes
      .filter(lane => lane !== this.#active && lane.state === 'open')
      .map(({ hops, isProven }) => ({ hops, isProven }))
  }

  /** Whether the server has answered through the peers in use. */
  get isProven(): boolean {
    return this.#active?.isProven ?? false
  }

  /** Round trip to the last peer. */
  get rttMs(): number | undefined {
    return this.#active?.health.rttMs
  }

  /** Every lane, so that reports find their session. */
  get lanes(): readonly EntryLane[] {
    return this.#lanes
  }

  handleEcho(session: number, token: Uint8Array, now: number): void {
    for (const lane of this.#lanes) lane.handleEcho(session, token, now)
  }

  /** The server answered a handshake through the lane of `session`. */
  handleProven(session: number, now: number): void {
    const lane = this.#find(session)
    if (lane === undefined) return
    if (!lane.isProven && lane !== this.#active) this.#events.push({ kind: 'spareReady', hops: lane.hops })
    lane.isProven = true
    lane.proveAtMs = Number.POSITIVE_INFINITY
    lane.deafSinceMs = undefined
    this.#provenMs = now
    this.#saidServerSilent = false
    this.#failures = 0
    // What is in use has not carried anything yet.
    if (this.#active?.isProven === false && lane.endsAtMs === Number.POSITIVE_INFINITY) this.#moveTo(lane, 'deaf', now)
  }

  /** Datagrams go out by the lane of `session`, its peer answers, and nothing comes back from the server. */
  handleSilent(session: number, now: number): void {
    const lane = this.#find(session)
    if (lane === undefined || lane !== this.#active) return
    lane.deafSinceMs = now
    const spare = this.#bestSpare(now, other => other.isProven && !isDeaf(other, now))
    if (spare !== undefined) return this.#moveTo(spare, 'deaf', now)
    if (!this.#saidServerSilent) {
      this.#saidServerSilent = true
      this.#events.push({ kind: 'serverSilent' })
    }
    // Its peer lets no more handshakes through; a new lane may have three more.
    if (lane.isProven) return
    this.#problem = 'the server does not answer'
    this.#drop(lane, now)
  }

  /** There may be peers now that were not known before: a missing way is built at once. */
  retry(now: number): void {
    if (this.#active === undefined && Number.isFinite(this.#nextLaneMs)) this.#nextLaneMs = now
    this.handleDeadline(now)
  }

  /** The machine is on another network or was asleep, `sleptMs` of it while the clock stood still: whatever waits asks again. */
  handleWake(now: number, sleptMs = 0): void {
    for (const lane of this.#lanes) lane.handleWake(sleptMs)
    this.#failures = 0
    this.retry(now)
  }

  deadline(): number {
    if (this.#state === 'closed') return Number.POSITIVE_INFINITY
    let due = Math.min(this.#rotateAtMs, this.#nextLaneMs)
    for (const lane of this.#lanes) due = Math.min(due, lane.deadline(this.#isBusy(lane)))
    return due
  }

  handleDeadline(now: number): void {
    if (this.#state === 'closed') return
    // First, so that whoever picks peers has heard which ones failed before.
    if (this.#nextLaneMs <= now) this.#addLane(now)
    for (const lane of [...this.#lanes]) {
      lane.handleDeadline(now, this.#isBusy(lane))
      if (lane.proveAtMs <= now) this.#prove(lane, now)
      if (lane.endsAtMs <= now) this.#drop(lane, now)
    }
    this.#judge(now)
    if (this.#rotateAtMs <= now) this.#rotate(now)
  }

  /** Takes what happened since the last call. */
  takeEvents(): EntryEvent[] {
    const events = this.#events
    this.#events = []
    return events
  }

  close(now: number): void {
    if (this.#state === 'closed') return
    for (const lane of [...this.#lanes]) this.#drop(lane, now)
    this.#state = 'closed'
    this.#events = []
  }

  #addLane(now: number): void {
    const wanted = this.#active === undefined ? 1 : 1 + SPARES
    const isBuilding = this.#lanes.some(lane => lane.state === 'building')
    const kept = this.#lanes.filter(lane => lane.endsAtMs === Number.POSITIVE_INFINITY)
    if (isBuilding || kept.length >= wanted) {
      this.#nextLaneMs = Number.POSITIVE_INFINITY
      return
    }
    const choice = this.#options.pickPeers(this.#lanes.flatMap(({ hops }) => hops))
    if ('problem' in choice) {
      this.#failures++
      this.#problem = choice.problem
      this.#nextLaneMs = now + this.#retryMs()
      return this.#checkCutOff(now)
    }
    const { server, random, out, indices, newSession } = this.#options
    const lane = new EntryLane({ hops: choice.hops, server, random, out, indices, newSession })
    this.#lanes.push(lane)
    this.#nextLaneMs = Number.POSITIVE_INFINITY
    lane.begin(now, now => this.#handleLane(lane, now))
  }

  #handleLane(lane: EntryLane, now: number): void {
    if (lane.state === 'ended') {
      if (lane.failedHop !== undefined) this.#hopFailed(lane.failedHop, lane.failedSinceMs)
      this.#problem = 'the last peer did not answer, or would not open a flow to the server'
      return this.#drop(lane, now)
    }
    const { out, entry, ownClient } = this.#options
    out.push({ kind: 'installLeg', entry, session: lane.session, flow: 1 })
    if (ownClient) lane.proveAtMs = now
    this.#nextLaneMs = now + NEXT_SPARE_MS
    if (this.#active !== undefined) return
    this.#use(lane, now)
    this.#events.push({ kind: 'ready', hops: lane.hops })
  }

  #prove(lane: EntryLane, now: number): void {
    if (lane.proofs >= MAX_PROOFS) {
      lane.proveAtMs = Number.POSITIVE_INFINITY
      // The server answered by another lane meanwhile: this peer does not do what it says.
      if (this.#provenMs > lane.askedMs) this.#blame(lane, lane.askedMs)
      if (lane !== this.#active) this.#drop(lane, now)
      return
    }
    if (lane.proofs++ === 0) lane.askedMs = now
    lane.proveAtMs = now + PROVE_EVERY_MS
    this.#options.out.push({ kind: 'proveLeg', entry: this.#options.entry })
  }

  #judge(now: number): void {
    for (const lane of [...this.#lanes]) {
      if (lane === this.#active || lane.state !== 'open' || lane.isHealthy(now)) continue
      this.#blame(lane, silentSinceMs(lane, now))
      this.#drop(lane, now)
    }
    const active = this.#active
    if (active === undefined) return
    if (!active.isHealthy(now)) return this.#leave(active, now)
    this.#judgeSpeed(active, now)
  }

  /** The lane in use is silent. */
  #leave(active: EntryLane, now: number): void {
    this.#blame(active, silentSinceMs(active, now))
    const spare = this.#bestSpare(now)
    if (spare !== undefined) return this.#moveTo(spare, 'silent', now)
    this.#problem = 'the peer in use fell silent and no other is ready'
    this.#drop(active, now)
  }

  #judgeSpeed(active: EntryLane, now: number): void {
    const spare = this.#bestSpare(now, lane => lane.isProven)
    const rttMs = active.health.rttMs
    const spareRttMs = spare?.health.rttMs
    if (spare === undefined || rttMs === undefined || spareRttMs === undefined) return
    if (rttMs <= SLOW_FACTOR * spareRttMs + SLOW_MARGIN_MS) {
      active.slowSinceMs = undefined
      return
    }
    active.slowSinceMs ??= now
    if (now - active.slowSinceMs >= SLOW_FOR_MS) this.#moveTo(spare, 'slow', now)
  }

  #rotate(now: number): void {
    const spare = this.#bestSpare(now, lane => lane.isProven)
    if (spare === undefined) {
      this.#rotateAtMs = now + ROTATION_RETRY_MS
      return
    }
    this.#moveTo(spare, 'rotation', now)
  }

  #moveTo(spare: EntryLane, reason: MoveReason, now: number): void {
    const old = this.#active
    const silentMs = old?.health.silentMs(now) ?? 0
    this.#use(spare, now)
    this.#events.push({ kind: 'moved', hops: spare.hops, reason, silentMs })
    if (old === undefined) return
    if (reason === 'silent') this.#drop(old, now)
    else old.endsAtMs = now + OVERLAP_MS
    this.#nextLaneMs = Math.min(this.#nextLaneMs, now + NEXT_SPARE_MS)
  }

  #use(lane: EntryLane, now: number): void {
    const { out, entry } = this.#options
    this.#active = lane
    this.#state = 'ready'
    this.#cutOffSinceMs = undefined
    this.#rotateAtMs = this.#nextRotation(now)
    out.push({ kind: 'useLeg', entry, session: lane.session })
  }

  /** Gives a lane up, and looks for another soon. */
  #drop(lane: EntryLane, now: number): void {
    const { out, entry } = this.#options
    const wasPlanned = lane.endsAtMs <= now
    this.#lanes = this.#lanes.filter(other => other !== lane)
    if (lane === this.#active) {
      this.#active = undefined
      out.push({ kind: 'useLeg', entry, session: undefined })
    }
    out.push({ kind: 'removeLeg', entry, session: lane.session })
    lane.close(now)
    if (!wasPlanned) this.#failures++
    this.#nextLaneMs = Math.min(this.#nextLaneMs, now + (wasPlanned ? NEXT_SPARE_MS : this.#retryMs()))
    if (this.#active !== undefined) return
    const spare = this.#bestSpare(now)
    if (spare !== undefined) this.#moveTo(spare, 'silent', now)
    else this.#checkCutOff(now)
  }

  #checkCutOff(now: number): void {
    if (this.#active !== undefined || this.#cutOffSinceMs !== undefined) return
    // The first lane of all may fail without a word: the next peer is asked at once.
    if (this.#state === 'building' && this.#failures < 3) return
    this.#cutOffSinceMs = now
    this.#state = 'cutOff'
    this.#events.push({ kind: 'cutOff', problem: this.#problem ?? 'no peer is left' })
  }

  #blame(lane: EntryLane, sinceMs: number): void {
    const hop = lane.hops.at(-1)
    if (hop !== undefined) this.#hopFailed(hop, sinceMs)
  }

  /** `sinceMs`: what was heard from then on shows that the network was there. */
  #hopFailed(hop: RouteHop, sinceMs: number): void {
    this.#events.push({ kind: 'hopFailed', hop, isDoubtful: this.#options.heard.lastMs < sinceMs })
  }

  /** The spare to move to: proven ones first, then the nearest. */
  #bestSpare(now: number, fits: (lane: EntryLane) => boolean = () => true): EntryLane | undefined {
    const spares = this.#lanes.filter(
      lane => lane !== this.#active && lane.isHealthy(now) && lane.endsAtMs === Number.POSITIVE_INFINITY && fits(lane),
    )
    const costMs = (lane: EntryLane) =>
      (lane.isProven ? 0 : 1e6) + (isDeaf(lane, now) ? 1e7 : 0) + (lane.health.rttMs ?? 1e4)
    return spares.sort((a, b) => costMs(a) - costMs(b))[0]
  }

  #find(session: number): EntryLane | undefined {
    return this.#lanes.find(lane => lane.session === session)
  }

  #isBusy(lane: EntryLane): boolean {
    return lane === this.#active && this.#options.isBusy()
  }

  #retryMs(): number {
    const most = this.#active === undefined ? MAX_CUT_OFF_RETRY_MS : MAX_RETRY_MS
    return Math.min(FIRST_RETRY_MS * 2 ** Math.min(this.#failures, 16), most)
  }

  #nextRotation(now: number): number {
    const bytes = this.#options.random(4)
    const part = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0) / 2 ** 32
    return now + ROTATE_AFTER_MS + part * ROTATE_SPREAD_MS
  }
}

/** What came within a round trip of it was on its way before. */
function silentSinceMs({ health }: EntryLane, now: number): number {
  return now - health.silentMs(now) + (health.rttMs ?? 0)
}

function isDeaf(lane: EntryLane, now: number): boolean {
  return lane.deafSinceMs !== undefined && now - lane.deafSinceMs < DEAF_FOR_MS
}
