// How long the packets of one route may be, end to end: joins path-mtu.ts to the way in use. A pure machine.
//
//   client ══ hop ══ hop ══ exit      probe: a frame as long as a packet of its size, padded; it only arrives if every leg
//      ◄──────── echo ───────         carries it, and the echo is as long, so both directions are tried
//
// An exit that answers what did not arrive, or echoes less than it got, costs its client throughput and nothing else.

import type { Random } from '#crypto/random.ts'
import type { Command } from '#forward/commands.ts'
import { BASE_MTU, PathMtu } from './path-mtu.ts'
import { probeKey } from './way-health.ts'

/** Headers of IPv6 and UDP; of IPv4 they are 20 bytes less, but who knows what the legs further out use. */
const UDP_BYTES = 48
/** Header, tag and frame header of one session. */
const LAYER_BYTES = 36
/** What a link of IPv6 carries at least. */
const MIN_LINK_BYTES = 1_280
const MAX_OUTSTANDING = 8

export interface RouteMtuOptions {
  readonly session: number
  readonly random: Random
  readonly out: Command[]
  /** What this machine's own link carries, in bytes. */
  readonly link: number
  /** The longest packet that the exit takes. */
  readonly offered: number
  readonly onResize: (mtu: number) => void
}

/** The way that is searched: how many sessions its packets are sealed in, and how long an answer may take. */
export interface SearchedWay {
  readonly layers: number
  readonly timeoutMs: number
  readonly now: number
}

export class RouteMtu {
  readonly #options: RouteMtuOptions
  #machine: PathMtu
  /** Probes by their tokens; of too many the oldest is forgotten. */
  readonly #sent = new Map<string, number>()
  #wasBusy = false

  constructor(options: RouteMtuOptions, way: SearchedWay) {
    this.#options = options
    this.#machine = this.#begin(way, BASE_MTU)
    this.#drain()
  }

  /** The longest packet in bytes that may be sent. */
  get mtu(): number {
    return this.#machine.mtu
  }

  /** Another way is in use: the base holds at once, or less if that was all that passed, and the search begins anew. */
  handleMoved(way: SearchedWay): void {
    const { mtu } = this
    this.#sent.clear()
    this.#machine = this.#begin(way, Math.min(mtu, BASE_MTU))
    if (this.mtu !== mtu) this.#options.onResize(this.mtu)
    this.#drain()
  }

  /** An echo of the exit; false when its probe was not one of these. */
  handleEcho(token: Uint8Array, bytes: number, now: number): boolean {
    const key = probeKey(token)
    const size = this.#sent.get(key)
    if (size === undefined) return false
    this.#sent.delete(key)
    if (bytes === size) this.#machine.handleAnswer(size, now)
    this.#drain()
    return true
  }

  deadline(): number {
    return this.#machine.deadline()
  }

  /** `isBusy`: whether packets flow. That they suddenly do not may be a black hole. */
  handleDeadline(now: number, isBusy: boolean): void {
    if (isBusy) this.#machine.handleUse()
    else if (this.#wasBusy) this.#machine.handleSuspicion(now)
    this.#wasBusy = isBusy
    this.#machine.handleDeadline(now)
    this.#drain()
  }

  #begin({ layers, timeoutMs, now }: SearchedWay, begin: number): PathMtu {
    const { link, offered } = this.#options
    const around = UDP_BYTES + LAYER_BYTES * layers
    const floor = Math.min(begin, MIN_LINK_BYTES - around)
    return new PathMtu({ max: Math.min(link - around, offered), floor, begin, now, timeoutMs })
  }

  #drain(): void {
    const { session, random, out, onResize } = this.#options
    for (let command = this.#machine.take(); command !== undefined; command = this.#machine.take()) {
      if (command.kind === 'resize') {
        onResize(command.size)
        continue
      }
      const oldest = this.#sent.keys().next().value
      if (this.#sent.size >= MAX_OUTSTANDING && oldest !== undefined) this.#sent.delete(oldest)
      const token = random(8)
      this.#sent.set(probeKey(token), command.size)
      const isWhole = command.size > BASE_MTU
      out.push({ kind: 'sendProbe', session, claims: false, token, bytes: command.size, isWhole })
    }
  }
}
