// A way: the hops before the end, built one after the other, and the flow at the last of them that leads to the end, which
// is an exit or a WireGuard server.
// A pure machine. With no hops the way is the socket itself.
//
//   building ──(every hop answered)──► ready ──(a hop failed, or declared dead)──► dead
//
// Extending by a hop costs one round trip: the hop's initiation travels inside the request that opens the flow to it.

import type { Random } from '#crypto/random.ts'
import type { Command, Via } from '#forward/commands.ts'
import type { Address } from '#wire/address.ts'
import { FLOW_PURPOSE } from '#wire/control.ts'
import { type Carry, Layer, type LayerIndices } from './layer.ts'

/** A relay as a route needs it. */
export interface RouteHop {
  readonly id: string
  readonly operator: string
  readonly address: Address
  /** The relay's X25519 key. */
  readonly key: Uint8Array
  /** Where it has no address that others reach: it waits at the hop before it, which joins both by this token. */
  readonly meeting?: Uint8Array
}

export interface WayOptions {
  readonly hops: readonly RouteHop[]
  /** What lies behind the last hop: an exit, or a server. */
  readonly end: Address
  readonly random: Random
  readonly out: Command[]
  readonly indices: LayerIndices
  readonly newSession: () => number
}

export type WayState = 'building' | 'ready' | 'dead'

/** The flow number that a way uses at each of its hops: one session, one way, so it needs no other. */
const NEXT_HOP_FLOW = 1
/** What comes within this time may have been on its way before the network went. */
export const IN_FLIGHT_MS = 500

export class Way {
  readonly hops: readonly RouteHop[]
  readonly layers: readonly Layer[]
  readonly #options: WayOptions
  #state: WayState = 'building'
  #exitFlowIsOpen = false
  /** The hop where building stopped; undefined when it was the exit, or it did not stop. */
  failedHop: RouteHop | undefined
  /** What came of other relays after this shows that it was the hop's fault and not the network's. */
  failedSinceMs = Number.POSITIVE_INFINITY
  /** Called when the way becomes ready or dead. */
  onChange: (now: number) => void = () => {}
  /** Called when a hop says that its flow onward has ended. */
  onNotice: () => void = () => {}

  constructor(options: WayOptions) {
    this.#options = options
    this.hops = options.hops
    this.layers = options.hops.map(hop => {
      const { random, out, indices } = options
      const layer = new Layer({ hopKey: hop.key, session: options.newSession(), random, out, indices })
      layer.onNotice = () => this.onNotice()
      return layer
    })
  }

  get state(): WayState {
    return this.#state
  }

  /** Where the exit's packets go along this way. */
  get via(): Via {
    const last = this.layers.at(-1)
    if (last === undefined) return { kind: 'socket', address: this.#options.end }
    return { kind: 'flow', session: last.session, flow: NEXT_HOP_FLOW }
  }

  /** How an initiation reaches the exit along this way; the first one opens the flow there. */
  reachExit(): Carry {
    const last = this.layers.at(-1)
    if (last === undefined || this.#exitFlowIsOpen) return { kind: 'via', via: this.via }
    this.#exitFlowIsOpen = true
    return carryThrough(last, this.#options.end)
  }

  /** Opens the flow to a WireGuard server behind the last hop; `settle` says whether the hop did. */
  openServerFlow(now: number, settle: (isOpen: boolean) => void): void {
    const { end } = this.#options
    const request = {
      kind: 'open',
      flow: NEXT_HOP_FLOW,
      purpose: FLOW_PURPOSE.wireguard,
      target: end,
      first: new Uint8Array(0),
    } as const
    this.layers.at(-1)?.ask(request, now, answer => settle(answer?.kind === 'open'))
  }

  /** Closes the flow at the last hop: it has no further use. */
  closeFlow(now: number): void {
    this.layers.at(-1)?.ask({ kind: 'close', flow: NEXT_HOP_FLOW }, now, () => {})
  }

  /** The round trip to the exit that the last hop's leads one to expect. */
  get expectedMs(): number {
    return 2 * (this.layers.at(-1)?.handshakeMs ?? 0)
  }

  begin(now: number): void {
    this.#extend(0, now)
  }

  deadline(): number {
    return this.layers.reduce((due, layer) => Math.min(due, layer.deadline()), Number.POSITIVE_INFINITY)
  }

  handleDeadline(now: number): void {
    for (const layer of this.layers) {
      layer.handleDeadline(now)
      if (layer.state === 'failed') this.kill(now, layer)
    }
  }

  /** Ends the way and its sessions. */
  kill(now: number, failed?: Layer): void {
    if (this.#state === 'dead') return
    this.#state = 'dead'
    if (failed !== undefined) {
      const at = this.layers.indexOf(failed)
      this.failedHop = this.hops[at]
      // The hop before has answered the request to open a flow; before the first there is nobody.
      this.failedSinceMs = failed.unansweredSinceMs + (at === 0 ? IN_FLIGHT_MS : 0)
    }
    for (const layer of [...this.layers].reverse()) layer.close()
    this.onChange(now)
  }

  #extend(position: number, now: number): void {
    const layer = this.layers[position]
    const hop = this.hops[position]
    if (layer === undefined || hop === undefined) {
      this.#state = 'ready'
      return this.onChange(now)
    }
    const before = this.layers[position - 1]
    const carry: Carry =
      before === undefined
        ? { kind: 'via', via: { kind: 'socket', address: hop.address } }
        : hop.meeting === undefined
          ? carryThrough(before, hop.address)
          : { kind: 'meet', opener: before, flow: NEXT_HOP_FLOW, token: hop.meeting }
    const settle = (isEstablished: boolean, now: number) => {
      if (this.#state === 'dead') return
      if (isEstablished) this.#extend(position + 1, now)
      else this.kill(now, layer)
    }
    layer.begin(carry, now, settle, 2 * (before?.handshakeMs ?? 0))
  }
}

function carryThrough(opener: Layer, target: Address): Carry {
  return {
    kind: 'open',
    opener,
    flow: NEXT_HOP_FLOW,
    request: { kind: 'open', flow: NEXT_HOP_FLOW, purpose: FLOW_PURPOSE.hop, target },
  }
}
