// A lane of an entry: a way over peers, the flow that its last peer holds to the WireGuard server, and the probes that tell
// whether it carries. A pure machine.
//
//   building ──(the last peer opens the flow)──► open ──(a peer falls silent, or ends the flow)──► ended
//       └──(a peer is silent, or refuses)──► ended

import type { Random } from '#crypto/random.ts'
import type { Command } from '#forward/commands.ts'
import type { Address } from '#wire/address.ts'
import type { LayerIndices } from './layer.ts'
import { type RouteHop, Way } from './way.ts'
import { WayHealth } from './way-health.ts'

export interface LaneOptions {
  readonly hops: readonly RouteHop[]
  /** The WireGuard server. */
  readonly server: Address
  readonly random: Random
  readonly out: Command[]
  readonly indices: LayerIndices
  readonly newSession: () => number
}

export type LaneState = 'building' | 'open' | 'ended'

export class EntryLane {
  readonly way: Way
  readonly health = new WayHealth()
  readonly #options: LaneOptions
  #state: LaneState = 'building'
  #onChange: (now: number) => void = () => {}
  /** A peer said that a flow of this way has ended. */
  #wasNoticed = false
  /** The peer that is to blame for the end; undefined when nobody is. */
  failedHop: RouteHop | undefined
  /** As that of a way: what was heard from then on shows that it was the peer's fault. */
  failedSinceMs = Number.NEGATIVE_INFINITY
  /** Whether the server has answered a handshake through it. */
  isProven = false
  /** When our own client is asked to prove it again, how often it was, and when for the first time. */
  proveAtMs = Number.POSITIVE_INFINITY
  proofs = 0
  askedMs = Number.POSITIVE_INFINITY
  /** Since when the server does not answer through it, as far as is known. */
  deafSinceMs: number | undefined
  /** Since when it is much slower than a spare. */
  slowSinceMs: number | undefined
  /** When it may end, because another carries the flow. */
  endsAtMs = Number.POSITIVE_INFINITY

  constructor(options: LaneOptions) {
    const { hops, server, ...rest } = options
    this.#options = options
    this.way = new Way({ hops, end: server, ...rest })
  }

  get state(): LaneState {
    return this.#state
  }

  get hops(): readonly RouteHop[] {
    return this.way.hops
  }

  /** The session with the last peer, whose flow leads to the server. */
  get session(): number {
    return this.way.layers.at(-1)?.session ?? 0
  }

  /** Begins to build; `onChange` is called when the lane is open, and when it has ended. */
  begin(now: number, onChange: (now: number) => void): void {
    const { way } = this
    this.#onChange = onChange
    way.onNotice = () => {
      this.#wasNoticed = true
      this.health.hurry()
    }
    way.onChange = now => {
      if (way.state === 'dead') {
        this.failedHop = way.failedHop
        this.failedSinceMs = way.failedSinceMs
        return this.#end(now)
      }
      way.openServerFlow(now, isOpen => {
        if (isOpen) this.#open(now)
        else {
          this.failedHop = this.hops.at(-1)
          this.#end(now)
        }
      })
    }
    way.begin(now)
  }

  handleEcho(session: number, token: Uint8Array, now: number): void {
    if (session === this.session) this.health.handleEcho(token, now)
  }

  /** The machine was asleep, `sleptMs` of it while the clock stood still: what was asked before means nothing. */
  handleWake(sleptMs: number): void {
    for (const layer of this.way.layers) layer.handleSleep(sleptMs)
    this.health.forget()
  }

  deadline(isBusy: boolean): number {
    const due = Math.min(this.way.deadline(), this.proveAtMs, this.endsAtMs)
    return this.#state === 'open' ? Math.min(due, this.health.nextProbeMs(isBusy), this.health.silentAtMs) : due
  }

  handleDeadline(now: number, isBusy: boolean): void {
    this.way.handleDeadline(now)
    if (this.#wasNoticed) return this.#end(now)
    if (this.#state !== 'open' || this.health.nextProbeMs(isBusy) > now) return
    const token = this.#options.random(8)
    this.health.handleProbe(token, now)
    this.#options.out.push({ kind: 'sendProbe', session: this.session, claims: true, token })
  }

  /** Whether packets come back from its last peer. */
  isHealthy(now: number): boolean {
    return this.#state === 'open' && !this.health.isSilent(now)
  }

  /** Ends the lane; a peer that still answers is told to close the flow. */
  close(now: number): void {
    if (this.#state === 'open') this.way.closeFlow(now)
    this.#onChange = () => {}
    this.#end(now)
  }

  #open(now: number): void {
    if (this.#state !== 'building') return
    this.#state = 'open'
    this.health.expect(this.way.layers.at(-1)?.handshakeMs ?? 0)
    this.#onChange(now)
  }

  #end(now: number): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.way.onChange = () => {}
    this.way.kill(now)
    this.#onChange(now)
  }
}
