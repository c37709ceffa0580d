// A route: the session with one exit, the way that carries it, and a spare way kept ready. A pure machine.
//
//   building ──► ready ◄──(a way answers again)── moving
//      │           │ └──(the way falls silent, no spare)──►│
//      └──► lost ◄─┴──(the exit is silent on every way while the hop before it answers; or no way
//                      is found for six seconds while relays answer)
//
// The exit's session outlives the ways: its packets are sent along another way, the exit sees them come authenticated from
// a new address and moves the session there. A spare is proved by renewing the exit's keys through it.
// When an exit is lost its streams are too; a new route is somebody else's decision. While nobody at all answers it is the
// network that is gone: the exit is kept for as long as its keys live, and the failures of hops are told as doubtful.

import type { Random } from '#crypto/random.ts'
import type { Command } from '#forward/commands.ts'
import type { AnswerRun } from './answer-run.ts'
import { Layer, type LayerIndices, type Settle } from './layer.ts'
import { RouteLane } from './route-lane.ts'
import { RouteMtu } from './route-mtu.ts'
import { IN_FLIGHT_MS, type RouteHop } from './way.ts'

const SPARE_RETRY_MS = 1_000
const SPARE_DELAY_MS = 20
const MAX_SPARE_RETRY_MS = 30_000
/** A route with no hops before the exit cannot ask anybody else. */
const LONE_EXIT_SILENT_MS = 2_000
const MOVING_RETRY_MS = 500
/** An exit that no way was found to for this long, while relays answer, is given up. */
const GIVE_UP_MS = 6_000

export type RouteState = 'building' | 'ready' | 'moving' | 'lost' | 'closed'

export interface RouteOptions {
  readonly hops: readonly RouteHop[]
  readonly exit: RouteHop
  readonly random: Random
  readonly out: Command[]
  readonly indices: LayerIndices
  readonly newSession: () => number
  /** Other hops that lead to the same exit, without those named; undefined when there are none. */
  readonly pickWay: (avoid: readonly RouteHop[]) => readonly RouteHop[] | undefined
  /** Whether applications wait for data now: probes are then sent more often. */
  readonly isBusy: () => boolean
  /** What was heard of any relay at all. */
  readonly heard: AnswerRun
}

export type RouteEvent =
  | { readonly kind: 'ready' }
  | { readonly kind: 'moved'; readonly silentMs: number }
  | { readonly kind: 'spareReady'; readonly hops: readonly RouteHop[] }
  | { readonly kind: 'silent' }
  /** Packets of IP may have this many bytes from now on (`searchMtu`). */
  | { readonly kind: 'resized'; readonly mtu: number }
  /** Doubtful: nobody else was heard either, so it may be the network. */
  | { readonly kind: 'hopFailed'; readonly hop: RouteHop; readonly isDoubtful: boolean }
  | { readonly kind: 'lost'; readonly reason: 'unreachable' | 'exitSilent' | 'expired' }

export class Route {
  readonly exit: RouteHop
  readonly exitLayer: Layer
  readonly #options: RouteOptions
  #state: RouteState = 'building'
  #active: RouteLane
  #spare: RouteLane | undefined
  #nextSpareMs = Number.POSITIVE_INFINITY
  #spareRetryMs = SPARE_RETRY_MS
  #silentSinceMs: number | undefined
  #nextFlow = 2
  #mtu: RouteMtu | undefined
  #events: RouteEvent[] = []

  constructor(options: RouteOptions) {
    this.#options = options
    this.exit = options.exit
    const { random, out, indices } = options
    this.exitLayer = new Layer({ hopKey: options.exit.key, session: options.newSession(), random, out, indices })
    this.#active = this.#newLane(options.hops)
  }

  get state(): RouteState {
    return this.#state
  }

  /** The hops in use, the exit last. */
  get hops(): readonly RouteHop[] {
    return [...this.#active.way.hops, this.exit]
  }

  /** The hops of the spare way that is ready; undefined while there is none. */
  get spareHops(): readonly RouteHop[] | undefined {
    return this.#spare?.isProved ? this.#spare.way.hops : undefined
  }

  /** The relays that this machine itself sends to: the first of every way in use or being built. */
  get firstHops(): readonly RouteHop[] {
    return this.#lanes().map(({ way }) => way.hops[0] ?? this.exit)
  }

  /** Round trip to the exit and back. */
  get rttMs(): number | undefined {
    return this.#active.health.rttMs
  }

  /** Every session of the route, so that reports find it. */
  layers(): Layer[] {
    return [this.exitLayer, ...this.#active.way.layers, ...(this.#spare?.way.layers ?? [])]
  }

  /** A flow number of the exit's session that was not used before. */
  newFlow(): number {
    return this.#nextFlow++
  }

  /**
   * Searches, from now on, how long packets to the exit may be; `resized` tells. `link`: what this machine's link carries;
   * `offered`: what the exit takes; in bytes.
   */
  searchMtu({ link, offered }: { readonly link: number; readonly offered: number }, now: number): void {
    const { random, out } = this.#options
    const { session } = this.exitLayer
    const onResize = (mtu: number) => this.#events.push({ kind: 'resized', mtu })
    this.#mtu = new RouteMtu({ session, random, out, link, offered, onResize }, this.#searched(now))
  }

  begin(now: number): void {
    const lane = this.#active
    this.#whenBuilt(lane, (isEstablished, now) => {
      if (!isEstablished) return this.#lose('unreachable', now)
      lane.isProved = true
      this.#state = 'ready'
      this.#nextSpareMs = now
      this.#events.push({ kind: 'ready' })
    })
    lane.way.begin(now)
  }

  /** `bytes`: as long as the echo was. */
  handleEcho(session: number, token: Uint8Array, bytes: number, now: number): void {
    if (session === this.exitLayer.session && this.#mtu?.handleEcho(token, bytes, now)) return
    for (const lane of this.#lanes()) {
      if (session === this.exitLayer.session) lane.handleExitEcho(token, now)
      else lane.handleHopEcho(session, now)
    }
  }

  /**
   * The machine is on another network or was asleep, `sleptMs` of it while the clock stood still: what was asked before is asked
   * again, at once.
   */
  handleWake(now: number, sleptMs = 0): void {
    for (const layer of this.layers()) layer.handleSleep(sleptMs)
    for (const lane of this.#lanes()) {
      if (this.#isSilent) lane.health.hurry()
      else lane.handleWake()
    }
    this.handleDeadline(now)
  }

  deadline(): number {
    if (this.#state === 'lost' || this.#state === 'closed') return Number.POSITIVE_INFINITY
    let due = Math.min(this.exitLayer.deadline(), this.#nextSpareMs)
    if (this.#mtu !== undefined && !this.#isSilent) due = Math.min(due, this.#mtu.deadline())
    for (const lane of this.#lanes()) {
      due = Math.min(due, lane.way.deadline())
      if (lane.isProved || this.#isSilent) due = Math.min(due, lane.probeMs(this.#isBusy(lane)))
    }
    return due
  }

  handleDeadline(now: number): void {
    if (this.#state === 'lost' || this.#state === 'closed') return
    this.exitLayer.handleDeadline(now)
    if (this.exitLayer.state === 'failed')
      return this.#lose(this.#state === 'building' ? 'unreachable' : 'expired', now)
    for (const lane of this.#lanes()) lane.way.handleDeadline(now)
    if (this.#state === 'building') return
    for (const lane of this.#lanes()) this.#probe(lane, now)
    this.#judge(now)
    // What a silent way loses tells nothing of sizes.
    if (!this.#isSilent) this.#mtu?.handleDeadline(now, this.#options.isBusy())
    if (this.#nextSpareMs <= now) this.#buildSpare(now)
  }

  /** Takes what happened since the last call. */
  takeEvents(): RouteEvent[] {
    const events = this.#events
    this.#events = []
    return events
  }

  close(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#tearDown()
  }

  #probe(lane: RouteLane, now: number): void {
    // A way that is being proved is nobody's concern while the one in use carries.
    if (!lane.isProved && !this.#isSilent) return
    const isLate = lane.probe(this.exitLayer.session, lane === this.#active, this.#isBusy(lane), now)
    if (isLate && lane === this.#active) this.#spare?.health.hurry()
  }

  #judge(now: number): void {
    const active = this.#active
    const isDown = active.way.state === 'dead' || active.health.isSilent(now)
    if (!isDown) {
      if (this.#state === 'moving') this.#state = 'ready'
      this.#silentSinceMs = undefined
      return
    }
    this.#silentSinceMs ??= now - active.health.silentMs(now)
    const spare = this.#spare
    // The spare must have answered since the silence began: else it may be the exit that is silent.
    if (spare?.isProved && spare.way.state === 'ready' && spare.health.lastEchoMs > this.#silentSinceMs) {
      return this.#moveTo(spare, now)
    }
    if (this.#exitIsLost(now)) return this.#lose('exitSilent', now)
    if (this.#isGivenUp(now)) return this.#lose('unreachable', now)
    if (this.#state === 'ready') {
      this.#state = 'moving'
      this.#events.push({ kind: 'silent' })
    }
    // Where its last hop answers it is no worse than another: it is the exit that is silent.
    if (spare?.isSilent(now) && !spare.doorAnswers(now)) this.#dropSpare(spare, now)
    if (this.#spare === undefined && this.#nextSpareMs > now + MOVING_RETRY_MS) this.#nextSpareMs = now
  }

  /** Whether some way leads up to the exit, and the exit answers on none. */
  #exitIsLost(now: number): boolean {
    const since = this.#silentSinceMs ?? now
    if (this.#active.way.layers.length === 0) return now - since > LONE_EXIT_SILENT_MS
    const lanes = this.#lanes().filter(({ way }) => way.state === 'ready')
    return !lanes.some(lane => lane.isProved && !lane.isSilent(now)) && lanes.some(lane => lane.missesExit(now))
  }

  /** Whether relays have answered all the time and no way to the exit was found. */
  #isGivenUp(now: number): boolean {
    const since = Math.max(this.#silentSinceMs ?? now, this.#options.heard.sinceMs(now))
    return now - since >= GIVE_UP_MS
  }

  #moveTo(spare: RouteLane, now: number): void {
    const old = this.#active
    this.#blame(old)
    this.#active = spare
    this.#spare = undefined
    this.exitLayer.setVia(spare.way.via)
    // The exit moves with the first claim; until then it sends to where nobody is.
    spare.health.hurry()
    this.#probe(spare, now)
    this.#mtu?.handleMoved(this.#searched(now))
    old.way.onChange = () => {}
    old.way.kill(now)
    this.#state = 'ready'
    this.#events.push({ kind: 'moved', silentMs: now - (this.#silentSinceMs ?? now) })
    this.#silentSinceMs = undefined
    this.#spareRetryMs = SPARE_RETRY_MS
    // Not before the failed hop's name has reached whoever picks the next way.
    this.#nextSpareMs = now + SPARE_DELAY_MS
  }

  /** A spare that fell silent with the way in use makes room for a third way. */
  #dropSpare(spare: RouteLane, now: number): void {
    this.#blame(spare)
    this.#spare = undefined
    spare.way.onChange = () => {}
    spare.way.kill(now)
    this.#spareRetryMs = SPARE_RETRY_MS
    // Not before the failed hop's name has reached whoever picks the next way.
    this.#nextSpareMs = now + SPARE_DELAY_MS
  }

  /** Names the first hop of a silent way that did not answer either. */
  #blame(lane: RouteLane): void {
    const since = this.#silentSinceMs ?? 0
    const hop = lane.firstSilentHop(since)
    if (hop !== undefined) this.#hopFailed(hop, since + this.#inFlightMs)
  }

  #buildSpare(now: number): void {
    if (this.#spare !== undefined || this.#active.way.hops.length === 0) {
      this.#nextSpareMs = Number.POSITIVE_INFINITY
      return
    }
    this.#nextSpareMs = now + this.#spareRetryMs
    this.#spareRetryMs = Math.min(this.#spareRetryMs * 2, MAX_SPARE_RETRY_MS)
    const hops = this.#options.pickWay(this.#active.way.hops)
    // The same hops again would fall silent together.
    if (hops === undefined || (this.#state === 'ready' && isSame(hops, this.#active.way.hops))) return
    const lane = this.#newLane(hops)
    this.#spare = lane
    this.#whenBuilt(lane, (isEstablished, now) => {
      if (lane !== this.#spare) return
      if (!isEstablished) return lane.way.kill(now)
      lane.isProved = true
      this.#spareRetryMs = SPARE_RETRY_MS
      this.#events.push({ kind: 'spareReady', hops })
    })
    lane.way.begin(now)
  }

  /** Once the way is built, a handshake with the exit proves it end to end. */
  #whenBuilt(lane: RouteLane, settle: Settle): void {
    const { way, health } = lane
    way.onChange = now => {
      if (way.state === 'dead') return this.#onWayDead(lane, now)
      lane.handleReady(now)
      const proved: Settle = (isEstablished, now) => {
        health.expect(this.exitLayer.handshakeMs)
        settle(isEstablished, now)
      }
      this.exitLayer.begin(way.reachExit(), now, proved, way.expectedMs)
    }
  }

  #onWayDead(lane: RouteLane, now: number): void {
    const { failedHop, failedSinceMs } = lane.way
    if (failedHop !== undefined) this.#hopFailed(failedHop, failedSinceMs)
    if (lane === this.#active && this.#state === 'building') return this.#lose('unreachable', now)
    if (lane !== this.#spare) return
    this.#spare = undefined
    this.#nextSpareMs = now + (this.#state === 'moving' ? MOVING_RETRY_MS : this.#spareRetryMs)
  }

  /** `sinceMs`: what was heard from then on shows that the network was there. */
  #hopFailed(hop: RouteHop, sinceMs: number): void {
    this.#events.push({ kind: 'hopFailed', hop, isDoubtful: this.#options.heard.lastMs < sinceMs })
  }

  #lose(reason: 'unreachable' | 'exitSilent' | 'expired', now: number): void {
    if (this.#state === 'lost' || this.#state === 'closed') return
    this.#state = 'lost'
    if (reason === 'exitSilent') this.#hopFailed(this.exit, (this.#silentSinceMs ?? now) + this.#inFlightMs)
    this.#events.push({ kind: 'lost', reason })
    this.#tearDown()
  }

  #tearDown(): void {
    this.exitLayer.close()
    for (const lane of this.#lanes()) {
      lane.way.onChange = () => {}
      lane.way.kill(0)
    }
  }

  /** What comes within this time was on its way before. */
  get #inFlightMs(): number {
    return this.#active.health.rttMs ?? IN_FLIGHT_MS
  }

  get #isSilent(): boolean {
    return this.#silentSinceMs !== undefined
  }

  #searched(now: number) {
    const { way, health } = this.#active
    return { layers: way.layers.length + 1, timeoutMs: health.timeoutMs, now }
  }

  #isBusy(lane: RouteLane): boolean {
    return (lane === this.#active && this.#options.isBusy()) || this.#silentSinceMs !== undefined
  }

  #lanes(): RouteLane[] {
    return this.#spare === undefined ? [this.#active] : [this.#active, this.#spare]
  }

  #newLane(hops: readonly RouteHop[]): RouteLane {
    const { exit, random, out, indices, newSession } = this.#options
    return new RouteLane({ hops, exit, random, out, indices, newSession })
  }
}

function isSame(a: readonly RouteHop[], b: readonly RouteHop[]): boolean {
  return a.length === b.length && a.every(({ id }, i) => id === b[i]?.id)
}
