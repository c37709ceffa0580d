// A client's TUN and the exit that carries its packets: each new exit is asked for a tunnel, and the TUN is led there.
//
//   no exit ──(a route is ready)──► asking ──(the exit agrees)──► carried ──(the exit is lost)──► no exit
//                                     └──(it refuses, or is silent)──► no exit; another is looked for
//
// The exit's session outlives the ways to it, so losing a hop before it changes nothing here but how long packets may be: both
// ends are told of that whenever it is found out.

import type { Command, TunOffload } from '#forward/commands.ts'
import { BASE_MTU } from '#route/path-mtu.ts'
import type { Route } from '#route/route.ts'
import type { ControlAnswer, ControlRequest } from '#wire/control.ts'
import { CLIENT_ADDRESS_4, CLIENT_ADDRESS_6 } from '#wire/tunnel-addresses.ts'

/** The longest packet in bytes until more is known: most ways carry it (36 more for each of three hops, and IPv6, below 1500). */
export const TUNNEL_MTU = BASE_MTU
/** The TUN's addresses. */
export const CLIENT_ADDRESSES = [`${CLIENT_ADDRESS_4}/32`, `${CLIENT_ADDRESS_6}/128`] as const

/** A TUN that is up. */
export interface OpenTun {
  readonly fd: number
  readonly offload: TunOffload
  /** Sets its MTU in bytes; undefined where somebody else does. */
  readonly resize?: (mtu: number) => void
}

export interface TunnelFlowOptions {
  readonly ask: (route: Route, request: ControlRequest, settle: (answer: ControlAnswer | undefined) => void) => void
  readonly send: (...commands: Command[]) => void
  /** The exit agrees to carry packets of at most `offered` bytes. */
  readonly onAgreed: (route: Route, offered: number) => void
  /** The exit carries the TUN's packets from now on. */
  readonly onCarried: () => void
  /** The exit of a route that is still the one in use will not. */
  readonly onRefused: (route: Route) => void
}

export class TunnelFlow {
  readonly #options: TunnelFlowOptions
  #isOpen = false
  #route: Route | undefined
  #carried: { readonly session: number; readonly flow: number } | undefined
  #mtu: number = TUNNEL_MTU
  #isTelling = false

  constructor(options: TunnelFlowOptions) {
    this.#options = options
  }

  /** Whether packets of the TUN have an exit. */
  get isCarried(): boolean {
    return this.#isOpen && this.#carried !== undefined
  }

  /** The longest packet in bytes. */
  get mtu(): number {
    return this.#mtu
  }

  /** Gives the TUN to the data plane, which owns it from then on. */
  open({ fd, offload }: OpenTun): void {
    this.#isOpen = true
    this.#options.send({ kind: 'openPort', port: { fd, offload, mtu: TUNNEL_MTU } })
    this.#install()
  }

  handleReady(route: Route): void {
    const flow = route.newFlow()
    this.#route = route
    this.#carried = undefined
    this.#mtu = TUNNEL_MTU
    this.#isTelling = false
    this.#options.ask(route, { kind: 'openTunnel', flow, mtu: TUNNEL_MTU }, answer => {
      if (this.#route !== route) return
      if (answer?.kind !== 'openTunnel') {
        this.#route = undefined
        return this.#options.onRefused(route)
      }
      this.#carried = { session: route.exitLayer.session, flow }
      this.#install()
      this.#options.onAgreed(route, answer.mtu)
    })
  }

  /** The way carries packets of `mtu` bytes from now on, and no more. */
  handleResized(route: Route, mtu: number): void {
    const carried = this.#carried
    if (this.#route !== route || carried === undefined) return
    this.#mtu = mtu
    if (this.#isOpen) this.#options.send({ kind: 'resizePacketFlow', ...carried, mtu })
    if (!this.#isTelling) this.#tell(route, carried.flow)
  }

  /** Tells the exit how long packets may be: one size after the other, so that the last that it hears of is the last. */
  #tell(route: Route, flow: number): void {
    const mtu = this.#mtu
    this.#isTelling = true
    this.#options.ask(route, { kind: 'openTunnel', flow, mtu }, () => {
      if (this.#route !== route) return
      this.#isTelling = false
      if (this.#mtu !== mtu) this.#tell(route, flow)
    })
  }

  handleLost(): void {
    this.#route = undefined
    this.#carried = undefined
  }

  #install(): void {
    if (!this.#isOpen || this.#carried === undefined) return
    this.#options.send({ kind: 'installPacketFlow', ...this.#carried, mtu: this.#mtu })
    this.#options.onCarried()
  }
}
