// One way of a route to its exit, and what is known of it: whether the exit answers along it, and which of its hops do. A pure
// machine.
//
//   client ══ hop ══ hop (the door) ══ exit      the exit is probed always, the hops while the exit is late

import type { Random } from '#crypto/random.ts'
import type { Command } from '#forward/commands.ts'
import { AnswerRun } from './answer-run.ts'
import type { LayerIndices } from './layer.ts'
import { type RouteHop, Way } from './way.ts'
import { WayHealth } from './way-health.ts'

const HOP_PROBE_MS = 200
/** A door that is probed five times and says nothing answers no more. */
const DOOR_GAP_MS = 1_000
/** An exit is silent after this long without an echo, while the hop before it answers. */
const EXIT_SILENT_MS = 1_000
/** An exit to which a fresh way leads has this long for its part of the handshake: three tries. */
const FRESH_WAY_MS = 2_500

export interface RouteLaneOptions {
  readonly hops: readonly RouteHop[]
  readonly exit: RouteHop
  readonly random: Random
  readonly out: Command[]
  readonly indices: LayerIndices
  readonly newSession: () => number
}

export class RouteLane {
  readonly way: Way
  readonly health = new WayHealth()
  /** Whether the exit has answered a handshake along this way. */
  isProved = false
  readonly #options: RouteLaneOptions
  /** Echoes of the hops' own probes, by session. */
  readonly #hopEchoes = new Map<number, number>()
  readonly #door = new AnswerRun(DOOR_GAP_MS)
  #readyMs = Number.POSITIVE_INFINITY
  #hopsProbedMs = Number.NEGATIVE_INFINITY

  constructor(options: RouteLaneOptions) {
    this.#options = options
    const { exit, ...rest } = options
    this.way = new Way({ ...rest, end: exit.address })
    this.way.onNotice = () => this.health.hurry()
  }

  /** Every hop before the exit has answered; from here on the exit alone can be missing. */
  handleReady(now: number): void {
    this.#readyMs = now
  }

  /** An echo of the exit, if its probe went along this way. */
  handleExitEcho(token: Uint8Array, now: number): void {
    if (this.health.handleEcho(token, now)) this.#door.reset()
  }

  handleHopEcho(session: number, now: number): void {
    const at = this.way.layers.findIndex(layer => layer.session === session)
    if (at < 0) return
    this.#hopEchoes.set(session, now)
    if (at === this.way.layers.length - 1) this.#door.handleAnswer(now)
  }

  /** The machine was asleep: what was asked before will not be answered, and means nothing. */
  handleWake(): void {
    this.health.forget()
    this.#door.reset()
  }

  /** When a probe is due; `isBusy`: whether applications wait for data. */
  probeMs(isBusy: boolean): number {
    if (this.way.state !== 'ready') return Number.POSITIVE_INFINITY
    return this.isProved ? this.health.nextProbeMs(isBusy) : this.#hopsProbedMs + HOP_PROBE_MS
  }

  /** Sends the probes that are due; says whether the exit is late. `claims`: whether the exit is to move to this way. */
  probe(exitSession: number, claims: boolean, isBusy: boolean, now: number): boolean {
    if (this.way.state !== 'ready') return false
    const { random, out } = this.#options
    if (this.isProved && this.health.nextProbeMs(isBusy) <= now) {
      const token = random(8)
      this.health.handleProbe(token, now)
      out.push({ kind: 'sendProbe', session: exitSession, via: this.way.via, claims, token })
    }
    const isLate = !this.isProved || this.health.silentMs(now) > this.health.timeoutMs / 2
    if (!isLate || now - this.#hopsProbedMs < HOP_PROBE_MS) return false
    this.#hopsProbedMs = now
    for (const { session } of this.way.layers) out.push({ kind: 'sendProbe', session, claims: true, token: random(8) })
    return true
  }

  /** Whether the way is there and the exit does not answer along it. */
  isSilent(now: number): boolean {
    return this.isProved && this.health.isSilent(now)
  }

  /** Whether the way leads up to the exit, and it is the exit that is missing. */
  missesExit(now: number): boolean {
    const doorSinceMs = this.#door.sinceMs(now)
    if (this.way.state !== 'ready' || doorSinceMs === Number.POSITIVE_INFINITY) return false
    const { timeoutMs } = this.health
    if (!this.isProved) return now - this.#readyMs >= Math.max(FRESH_WAY_MS, 3 * this.way.expectedMs)
    // Its answers come by a longer way than the door's: where both are only just back, the exit is not missing.
    return this.health.silentMs(now) >= Math.max(EXIT_SILENT_MS, 1.5 * timeoutMs) && now - doorSinceMs >= timeoutMs
  }

  /** Whether the hop before the exit answers. */
  doorAnswers(now: number): boolean {
    return this.#door.sinceMs(now) !== Number.POSITIVE_INFINITY
  }

  /** The first hop that has not answered since then; undefined when all have. */
  firstSilentHop(sinceMs: number): RouteHop | undefined {
    if (this.way.failedHop !== undefined) return this.way.failedHop
    const at = this.way.layers.findIndex(({ session }) => (this.#hopEchoes.get(session) ?? 0) < sinceMs)
    return this.way.hops[at]
  }
}
