// How long the packets of a tunnel over an entry may be: joins path-mtu.ts to the lane in use. A pure machine.
//
//   device ══ peer ── server        through the server: a packet from the tunnel's own address to itself; a server that forwards
//      ▲                │           between its clients sends it back, over every part of the way in both directions
//      └────────────────┘
//   device ══ peer                  to the peer, where the server does not: a padded probe, whose echo is as long. What lies behind
//      ◄──────                      the peer is not tried then: a WireGuard server answers nothing but handshakes
//
//   asking ──(a short packet came back)──► searching through the server ──(not even short ones come back)──┐
//     ▲  └──(three did not)──► searching to the peer ◄─────────────────────────────────────────────────────┘
//     └────────────────── every ten minutes ───┘

import type { Random } from '#crypto/random.ts'
import type { Command } from '#forward/commands.ts'
import { BASE_MTU, PathMtu } from './path-mtu.ts'
import { probeKey } from './way-health.ts'

/** Headers of IPv6 and UDP; of IPv4 they are 20 bytes less. */
const UDP_BYTES = 48
/** Header, tag and frame header of one peer's session. */
const LAYER_BYTES = 36
/** There are one or two hops before the server. */
const MOST_LAYERS = 2
/** Header and tag of WireGuard. */
export const WIREGUARD_BYTES = 32
/** WireGuard makes the length of a packet a multiple of this. */
const PADDING_BYTES = 16
/** What a link of IPv6 carries at least. */
const MIN_LINK_BYTES = 1_280
/**
 * Passes wherever IPv6 does. The tunnel begins with it: connections are told at their beginning what may be sent to them, and one
 * that is told too much stands still for good.
 */
const FLOOR = roundDown(MIN_LINK_BYTES - UDP_BYTES - LAYER_BYTES * MOST_LAYERS - WIREGUARD_BYTES)
/** Passes everywhere. */
const SHORT_BYTES = 128
const ASK_MS = 500
const MAX_ASKED = 3
const ASK_AGAIN_MS = 600_000
const MAX_OUTSTANDING = 8

export interface EntryMtuOptions {
  readonly entry: number
  readonly random: Random
  readonly out: Command[]
  /** The longest packet that this machine's own link carries, or that is wanted: at least 1,280 bytes. */
  readonly offered: number
  readonly onResize: (mtu: number) => void
}

/** The lane that is searched: its last peer's session, and how long an answer may take. */
export interface SearchedLane {
  readonly session: number
  readonly timeoutMs: number
}

type End = 'server' | 'peer'

export class EntryMtu {
  readonly #options: EntryMtuOptions
  #lane: SearchedLane | undefined
  /** Whom probes are answered by; undefined until that is known. */
  #end: End | undefined
  #machine: PathMtu | undefined
  #mtu: number = FLOOR
  /** Short packets that were sent to learn whether the server sends any back; undefined while nobody asks. */
  #asked: { count: number; dueMs: number } | undefined
  #askAgainMs = Number.POSITIVE_INFINITY
  /** Probes by their tokens, with their sizes; of too many the oldest is forgotten. */
  readonly #sent = new Map<string, number>()
  #wasBusy = false

  constructor(options: EntryMtuOptions) {
    this.#options = options
  }

  /** The longest packet in bytes that may be sent: what passes everywhere, at first. */
  get mtu(): number {
    return this.#mtu
  }

  /** Another lane carries the tunnel: what held does no more than the base, until it is found out. */
  handleLane(lane: SearchedLane, now: number): void {
    if (this.#lane?.session === lane.session) return
    this.#lane = lane
    this.#sent.clear()
    this.#machine = undefined
    this.#resize(Math.min(this.#mtu, BASE_MTU))
    if (this.#end === 'server') this.#search('server', now)
    else this.#ask(now)
  }

  /** A probe came back from the server. */
  handleServerEcho(token: Uint8Array, now: number): void {
    const size = this.#take(token)
    if (size === undefined) return
    this.#asked = undefined
    if (this.#end === 'server') this.#machine?.handleAnswer(size, now)
    else this.#search('server', now)
    this.#drain()
  }

  /** The last peer of the lane in use has echoed so many bytes; false when its probe was not one of these. */
  handlePeerEcho(token: Uint8Array, bytes: number, now: number): boolean {
    const size = this.#take(token)
    if (size === undefined) return false
    if (bytes >= size + WIREGUARD_BYTES) this.#machine?.handleAnswer(size, now)
    this.#drain()
    return true
  }

  deadline(): number {
    if (this.#lane === undefined) return Number.POSITIVE_INFINITY
    return Math.min(
      this.#asked?.dueMs ?? Number.POSITIVE_INFINITY,
      this.#askAgainMs,
      this.#machine?.deadline() ?? Number.POSITIVE_INFINITY,
    )
  }

  /** `isBusy`: whether packets flow. That they suddenly do not may be a black hole. */
  handleDeadline(now: number, isBusy: boolean): void {
    if (this.#lane === undefined) return
    if (isBusy) this.#machine?.handleUse()
    else if (this.#wasBusy) this.#machine?.handleSuspicion(now)
    this.#wasBusy = isBusy
    this.#machine?.handleDeadline(now)
    this.#drain()
    if (this.#askAgainMs <= now) this.#ask(now)
    if (this.#asked !== undefined && this.#asked.dueMs <= now) this.#askOnce(this.#asked, now)
  }

  #ask(now: number): void {
    this.#askAgainMs = Number.POSITIVE_INFINITY
    this.#asked = { count: 0, dueMs: now }
    this.#askOnce(this.#asked, now)
  }

  #askOnce(asked: { count: number; dueMs: number }, now: number): void {
    if (asked.count >= MAX_ASKED) {
      this.#asked = undefined
      this.#askAgainMs = now + ASK_AGAIN_MS
      if (this.#end !== 'peer' || this.#machine === undefined) this.#search('peer', now)
      return
    }
    asked.count++
    asked.dueMs = now + Math.max(ASK_MS, this.#lane?.timeoutMs ?? 0)
    this.#probe('server', SHORT_BYTES)
  }

  #search(end: End, now: number): void {
    this.#end = end
    if (end === 'server') this.#askAgainMs = Number.POSITIVE_INFINITY
    const { offered } = this.#options
    const timeoutMs = this.#lane?.timeoutMs ?? 0
    this.#machine = new PathMtu({
      max: offered,
      floor: FLOOR,
      begin: Math.min(this.#mtu, BASE_MTU),
      now,
      timeoutMs,
    })
    this.#drain()
  }

  #drain(): void {
    const machine = this.#machine
    for (let command = machine?.take(); command !== undefined; command = machine?.take()) {
      if (command.kind === 'probe') {
        this.#probe(this.#end ?? 'peer', command.size)
        continue
      }
      const isLess = command.size < this.#mtu
      this.#resize(roundDown(command.size))
      // Perhaps it is not the way that fails, but the server that sends nothing back any more.
      if (isLess && this.#end === 'server' && this.#asked === undefined) this.#asked = { count: 0, dueMs: 0 }
    }
  }

  #resize(mtu: number): void {
    if (mtu === this.#mtu) return
    this.#mtu = mtu
    this.#options.onResize(mtu)
  }

  #probe(end: End, size: number): void {
    const { entry, random, out } = this.#options
    const token = random(8)
    const oldest = this.#sent.keys().next().value
    if (this.#sent.size >= MAX_OUTSTANDING && oldest !== undefined) this.#sent.delete(oldest)
    this.#sent.set(probeKey(token), size)
    const isWhole = size > BASE_MTU
    if (end === 'server') out.push({ kind: 'probeTunnel', entry, token, bytes: size, isWhole })
    else {
      const session = this.#lane?.session ?? 0
      out.push({ kind: 'sendProbe', session, claims: false, token, bytes: size + WIREGUARD_BYTES, isWhole })
    }
  }

  #take(token: Uint8Array): number | undefined {
    const key = probeKey(token)
    const size = this.#sent.get(key)
    this.#sent.delete(key)
    return size
  }
}

/** To what WireGuard's padding makes no longer. */
function roundDown(size: number): number {
  return size - (size % PADDING_BYTES)
}
