// What one device and we say of where we are: offers of paths, and where to meet while there is none.
//
// Offers go by letter. One may be lost, so the newest is said again while there is no path: after 20 s, then ever more rarely.
// A program that began anew has forgotten everything: its first offer is answered with ours, whole.

import { systemRandom } from '#crypto/random.ts'
import type { LinkPath, MeshOrder } from '#platform/paths/mesh-engine.ts'
import type { Address } from '#wire/address.ts'
import { MEETING_TOKEN_BYTES } from '#wire/control.ts'
import { type DeviceSignal, encodeDeviceSignal, type MeetingPlace } from '#wire/device-signal.ts'

const FIRST_AGAIN_MS = 20_000
const MAX_AGAIN_MS = 600_000

/** Meetings at relays: one at a time for each device, by the number of its link. */
export interface DeviceMeetings {
  /** The id of a relay to meet at; `undefined` while none is known. */
  pick(): string | undefined
  /** False when the relay is not known, or there are too many. */
  open(peer: number, place: MeetingPlace): boolean
  close(peer: number): void
}

/** What became of a meeting. */
export type MeetingNews =
  | { readonly kind: 'open'; readonly peer: number; readonly address: Address; readonly relay: Address }
  | { readonly kind: 'closed' | 'lost'; readonly peer: number }

export interface DeviceLinkOptions {
  readonly id: string
  /** Its number in the tunnels. */
  readonly peer: number
  /** Whether it is us who choose where to meet. */
  readonly isControlling: boolean
  readonly meetings: DeviceMeetings | undefined
  /** When the tunnels began, as the others are told. */
  readonly begunMs: () => number
  /** Carries something to the device by letter. */
  readonly say: (data: Uint8Array) => void
  /** Tells the tunnels, where they are up. */
  readonly order: (order: MeshOrder) => void
}

export class DeviceLink {
  readonly #options: DeviceLinkOptions
  #path: LinkPath | undefined
  #meeting: MeetingPlace | undefined
  #offer: Uint8Array | undefined
  /** When the other side's program began; 0 while nothing was heard. */
  #theirsMs = 0
  #epoch = 0
  #againMs = FIRST_AGAIN_MS
  #again: NodeJS.Timeout | undefined

  constructor(options: DeviceLinkOptions) {
    this.#options = options
  }

  get id(): string {
    return this.#options.id
  }

  get peer(): number {
    return this.#options.peer
  }

  get isControlling(): boolean {
    return this.#options.isControlling
  }

  get path(): LinkPath | undefined {
    return this.#path
  }

  /** What the device says by letter. */
  handleSignal(signal: DeviceSignal): void {
    const { peer, isControlling, begunMs, order } = this.#options
    const knowsUs = signal.heardMs === begunMs()
    if (signal.begunMs !== this.#theirsMs) {
      // Said by an earlier run of its program; unless its clock went back, which what it heard of us shows.
      if (signal.begunMs < this.#theirsMs && !knowsUs) return
      const isFirst = this.#theirsMs === 0
      this.#theirsMs = signal.begunMs
      this.#epoch++
      // Its flow at the relay may still be there, and nobody in it.
      if (!knowsUs && !isFirst && isControlling) this.#endMeeting()
      // It may have heard what we said meanwhile, and has lost our session all the same.
      if (!knowsUs || !isFirst) order({ kind: 'restart', peer })
    }
    if (!isControlling && signal.meeting !== undefined) this.#follow(signal.meeting)
    order({ kind: 'offer', peer, epoch: this.#epoch, offer: Uint8Array.from(signal.offer) })
  }

  /** What the tunnels have to say to the device. */
  handleOffer(offer: Uint8Array): void {
    this.#offer = offer
    this.#againMs = FIRST_AGAIN_MS
    this.#say()
  }

  handlePath(path: LinkPath | undefined): void {
    const wasLost = this.#path !== undefined && path === undefined
    this.#path = path
    if (path !== undefined) clearTimeout(this.#again)
    else if (wasLost && this.#offer !== undefined) {
      this.#againMs = FIRST_AGAIN_MS
      // Had the relay carried on, there would be a path.
      if (this.isControlling) this.#endMeeting()
      this.#say()
    }
  }

  handleMeeting(news: MeetingNews): void {
    const meeting = this.#meeting
    if (meeting === undefined) return
    const { peer, isControlling, order } = this.#options
    if (news.kind === 'closed') order({ kind: 'endMeeting', peer })
    if (news.kind === 'lost') this.#meeting = undefined
    if (news.kind !== 'open') return
    const { address, relay } = news
    order({ kind: 'meeting', peer, meeting: { address, relay, isControlling, token: meeting.token } })
  }

  /** A session with the device was lost, and what was said in it with that: it is told anew. */
  handleReset(): void {
    if (this.#path === undefined) this.#say()
  }

  /** What is to be said is still being found out: the relay is spoken to meanwhile. */
  meetEarly(): void {
    if (this.#path === undefined && this.#offer === undefined) this.#meet()
  }

  /** Relays may be known now. */
  meetAtLast(): void {
    if (this.#path !== undefined || this.#offer === undefined || this.#meeting !== undefined) return
    this.#meet()
    if (this.#meeting !== undefined) this.#say()
  }

  /** The tunnels begin anew. */
  forget(): void {
    this.#offer = undefined
    this.#endMeeting()
  }

  close(): void {
    clearTimeout(this.#again)
    this.#endMeeting()
  }

  /** Chooses where to meet, if it is ours to choose and nothing is chosen. */
  #meet(): void {
    const { meetings, isControlling, peer } = this.#options
    if (meetings === undefined || !isControlling || this.#meeting !== undefined) return
    const relay = meetings.pick()
    if (relay === undefined) return
    const place = { relay, token: systemRandom(MEETING_TOKEN_BYTES) }
    this.#meeting = place
    if (!meetings.open(peer, place)) this.#meeting = undefined
  }

  /** Goes where the other side says. */
  #follow(place: MeetingPlace): void {
    if (this.#meeting !== undefined && Buffer.compare(this.#meeting.token, place.token) === 0) return
    this.#endMeeting()
    this.#meeting = place
    if (this.#options.meetings?.open(this.peer, place) !== true) this.#meeting = undefined
  }

  #endMeeting(): void {
    if (this.#meeting === undefined) return
    const { meetings, peer, order } = this.#options
    meetings?.close(peer)
    this.#meeting = undefined
    order({ kind: 'endMeeting', peer })
  }

  #say(): void {
    if (this.#offer === undefined) return
    this.#meet()
    const { isControlling, begunMs, say } = this.#options
    const meeting = isControlling ? this.#meeting : undefined
    say(encodeDeviceSignal({ begunMs: begunMs(), heardMs: this.#theirsMs, meeting, offer: this.#offer }))
    clearTimeout(this.#again)
    this.#again = setTimeout(() => {
      if (this.#path !== undefined) return
      if (isControlling) this.#endMeeting()
      this.#say()
    }, this.#againMs)
    this.#again.unref()
    this.#againMs = Math.min(2 * this.#againMs, MAX_AGAIN_MS)
  }
}
