// What one's devices offer each other beside themselves, networks and the internet, and what of it is accepted. Pure; what must
// outlive the process is `state`.
//
// A device tells each of the others its name and its offers as one whole (wire/device-sharing.ts), under a version, and says it
// again until the other says that it has that version. What was heard last counts; an older version changes nothing.
//
//   told ──the whole, again and again──► heard        nothing offered, and the name of the card: known without a word
//        ◄──────── version ──────────────┘
//
// Bounds: 16 offers of our own, and what a message has room for of each other device.

import {
  decodeSharing,
  encodeSharing,
  MAX_SHARED_NETWORKS,
  type Shared,
  type SharingMessage,
} from '#wire/device-sharing.ts'
import { formatPrefix } from '#wire/ip-prefix.ts'

export const INTERNET = 'internet'
/** All other devices, as a phone reaches them through this one. */
export const DEVICES = 'devices'
const FIRST_AGAIN_MS = 20_000
const MAX_AGAIN_MS = 3_600_000

/** A network as `address/bits`, masked, or `internet`, and who may use it: ids of devices, or `*`. */
export interface NetworkOffer {
  readonly network: string
  readonly to: readonly string[]
}

/** What stands between us and one other device. */
export interface PeerSharing {
  readonly id: string
  /** The version of what it is told, and whether it has said that it came. 0: what every device knows. */
  readonly version: number
  readonly isHeard: boolean
  /** What it is told, as text to compare. */
  readonly told: string
  /** What it told last. */
  readonly heard: SharingMessage | undefined
  /** What of its offers is accepted, whether it offers it now or not. */
  readonly accepted: readonly string[]
}

export interface SharingState {
  readonly offers: readonly NetworkOffer[]
  readonly peers: readonly PeerSharing[]
}

export const NO_SHARING: SharingState = { offers: [], peers: [] }

interface Waiting {
  againMs: number
  dueMs: number
}

export class Sharing {
  #offers: readonly NetworkOffer[]
  readonly #peers = new Map<string, PeerSharing>()
  readonly #waiting = new Map<string, Waiting>()
  /** What each is told now. */
  readonly #shared = new Map<string, Shared>()
  readonly #sayings = new Map<string, Uint8Array>()

  constructor(state: SharingState) {
    this.#offers = state.offers
    for (const peer of state.peers) this.#peers.set(peer.id, peer)
  }

  get state(): SharingState {
    return { offers: this.#offers, peers: [...this.#peers.values()] }
  }

  get offers(): readonly NetworkOffer[] {
    return this.#offers
  }

  /** Offers a network, in the place of an earlier offer of it; false when there are 16. */
  offer(offer: NetworkOffer): boolean {
    const others = this.#offers.filter(({ network }) => network !== offer.network)
    if (others.length >= MAX_SHARED_NETWORKS) return false
    this.#offers = [...others, offer]
    return true
  }

  /** False when it was not offered. */
  withdraw(network: string): boolean {
    const others = this.#offers.filter(offer => offer.network !== network)
    const wasOffered = others.length < this.#offers.length
    this.#offers = others
    return wasOffered
  }

  /** What a device offers as it said last, in words: networks and `internet`. */
  offered(id: string): readonly string[] {
    const heard = this.#peers.get(id)?.heard
    if (heard === undefined) return []
    return [...heard.networks.map(formatPrefix), ...(heard.internet4 || heard.internet6 ? [INTERNET] : [])]
  }

  heard(id: string): SharingMessage | undefined {
    return this.#peers.get(id)?.heard
  }

  accepted(id: string): readonly string[] {
    return this.#peers.get(id)?.accepted ?? []
  }

  /** Accepts what a device offers; false when it does not. */
  accept(id: string, network: string): boolean {
    const peer = this.#peers.get(id)
    if (peer === undefined || !this.offered(id).includes(network)) return false
    if (!peer.accepted.includes(network)) this.#peers.set(id, { ...peer, accepted: [...peer.accepted, network] })
    return true
  }

  /** False when it was not accepted. */
  decline(id: string, network: string): boolean {
    const peer = this.#peers.get(id)
    if (peer === undefined || !peer.accepted.includes(network)) return false
    this.#peers.set(id, { ...peer, accepted: peer.accepted.filter(each => each !== network) })
    return true
  }

  /** These are the devices now; each is told what it was told before. Who is new knows our name, and nothing else. */
  keep(ids: ReadonlySet<string>, ownName: string): void {
    for (const id of [...this.#peers.keys()]) if (!ids.has(id)) this.#forget(id)
    for (const id of ids) {
      if (this.#peers.has(id)) continue
      const told = wordsOf({ name: ownName, networks: [], internet4: false, internet6: false })
      this.#peers.set(id, { id, version: 0, isHeard: true, told, heard: undefined, accepted: [] })
    }
  }

  /** These are the devices now, and what each is told. */
  update(devices: ReadonlyMap<string, Shared>, now: number): void {
    const [name = ''] = [...devices.values()].map(shared => shared.name)
    this.keep(new Set(devices.keys()), name)
    for (const [id, shared] of devices) {
      this.#shared.set(id, shared)
      const told = wordsOf(shared)
      const peer = this.#peers.get(id)
      if (peer === undefined) continue
      if (peer.told !== told) {
        // Later than any before, even if the clock went back.
        this.#peers.set(id, { ...peer, told, version: Math.max(now, peer.version + 1), isHeard: false })
        this.#waiting.set(id, { againMs: FIRST_AGAIN_MS, dueMs: now })
      } else if (!peer.isHeard && !this.#waiting.has(id)) {
        this.#waiting.set(id, { againMs: FIRST_AGAIN_MS, dueMs: now })
      }
    }
    this.handleDeadline(now)
  }

  /** What a device says; false when it is malformed, or of nobody known. */
  handle(id: string, bytes: Uint8Array, now: number): boolean {
    const message = decodeSharing(bytes)
    const peer = this.#peers.get(id)
    if (message === undefined || peer === undefined) return false
    const isNewer = message.version > (peer.heard?.version ?? 0)
    const isHeard = peer.isHeard || message.heard === peer.version
    if (isHeard) this.#waiting.delete(id)
    this.#peers.set(id, { ...peer, isHeard, heard: isNewer ? message : peer.heard })
    if (message.asks) this.#say(id, now)
    return true
  }

  /** What was said to a device may be lost. */
  handleReset(id: string, now: number): void {
    const waiting = this.#waiting.get(id)
    if (waiting !== undefined) waiting.dueMs = now
    this.handleDeadline(now)
  }

  /** What is to be said now, by the ids of devices. */
  take(): ReadonlyMap<string, Uint8Array> {
    const sayings = new Map(this.#sayings)
    this.#sayings.clear()
    return sayings
  }

  deadline(): number {
    return Math.min(Number.POSITIVE_INFINITY, ...[...this.#waiting.values()].map(({ dueMs }) => dueMs))
  }

  handleDeadline(now: number): void {
    for (const [id, waiting] of this.#waiting) {
      if (now < waiting.dueMs) continue
      this.#say(id, now)
      waiting.dueMs = now + waiting.againMs
      waiting.againMs = Math.min(2 * waiting.againMs, MAX_AGAIN_MS)
    }
  }

  #say(id: string, now: number): void {
    const shared = this.#shared.get(id)
    const peer = this.#peers.get(id)
    if (shared === undefined || peer === undefined) return
    const version = Math.max(peer.version, 1)
    const heard = peer.heard?.version ?? 0
    const waiting = this.#waiting.get(id)
    if (waiting !== undefined) waiting.dueMs = now + waiting.againMs
    this.#sayings.set(id, encodeSharing({ ...shared, version, heard, asks: !peer.isHeard }))
  }

  #forget(id: string): void {
    this.#peers.delete(id)
    this.#waiting.delete(id)
    this.#shared.delete(id)
    this.#sayings.delete(id)
  }
}

function wordsOf({ name, networks, internet4, internet6 }: Shared): string {
  return JSON.stringify([name, networks.map(formatPrefix), internet4, internet6])
}
