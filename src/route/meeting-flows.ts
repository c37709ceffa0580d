// A client's meetings with others at relays: a session with the relay, in it a flow that the relay joins to the other's, and
// before the flow a socket on loopback for whoever speaks in it. A pure machine; who is met, and with which token, is decided
// elsewhere.
//
//   beginning ──(handshake)──► asking ──(answer)──► open ──(the relay ended the flow)──► asking
//       └──(failed)──► waiting ◄──(refused)──┘          └──(the session failed)──► waiting
//                         └──(2 s, 4 s, 8 s)──► beginning, at most three times between answers; then lost
//
// Bound: 16 meetings; one more is not begun.

import type { Random } from '#crypto/random.ts'
import type { Command, Report } from '#forward/commands.ts'
import type { Address } from '#wire/address.ts'
import { Layer, type LayerIndices } from './layer.ts'

const MAX_MEETINGS = 16
/** Sessions and associations of meetings are counted from here: those of routes never get so far. */
const FIRST_NUMBER = 2 ** 40
const FLOW = 1
const MAX_TRIES = 4
const FIRST_RETRY_MS = 2_000

export interface MeetingRelay {
  readonly key: Uint8Array
  readonly address: Address
}

export interface MeetingFlowsOptions {
  readonly random: Random
  /** Shared with the client's routes. */
  readonly indices: LayerIndices
  /**
   * Stands before every datagram at the socket on loopback (`installAssociationTarget`). Without it there is no socket: what comes
   * in the flow are packets of sessions of our own.
   */
  readonly header?: Uint8Array
}

export type MeetingFlowsEvent =
  /** The relay has taken the flow; what the other sends comes to whoever speaks to `address` first. */
  | { readonly kind: 'open'; readonly key: number; readonly address: Address }
  /** The relay has taken the flow, which is `flow` of the session. */
  | { readonly kind: 'nested'; readonly key: number; readonly session: number; readonly flow: number }
  /** The relay says where the other is that is met. */
  | { readonly kind: 'other'; readonly key: number; readonly host: string }
  /** The socket is gone; it may come back as another one. */
  | { readonly kind: 'closed'; readonly key: number }
  /** The relay did not answer this time. */
  | { readonly kind: 'silent'; readonly key: number }
  /** The relay is of no use: it did not answer, or it refused. */
  | { readonly kind: 'lost'; readonly key: number; readonly isRefused: boolean }

interface Meeting {
  readonly key: number
  readonly relay: MeetingRelay
  readonly token: Uint8Array
  layer: Layer | undefined
  association: number | undefined
  tries: number
  retryAtMs: number
}

export class MeetingFlows {
  readonly #options: MeetingFlowsOptions
  readonly #meetings = new Map<number, Meeting>()
  readonly #out: Command[] = []
  #events: MeetingFlowsEvent[] = []
  #next = FIRST_NUMBER
  /** The time of the last input, for what comes of an answer. */
  #clockMs = 0

  constructor(options: MeetingFlowsOptions) {
    this.#options = options
  }

  /** The relays in use. */
  get relays(): Address[] {
    return [...this.#meetings.values()].map(({ relay }) => relay.address)
  }

  /** Meets whoever shows `token` (32 bytes) at `relay`; instead of what `key` stood for. False when there are too many. */
  open(key: number, relay: MeetingRelay, token: Uint8Array, now: number): boolean {
    this.#clockMs = now
    this.close(key)
    if (this.#meetings.size >= MAX_MEETINGS) return false
    const known = { layer: undefined, association: undefined, tries: 0, retryAtMs: Number.POSITIVE_INFINITY }
    const meeting: Meeting = { key, relay, token, ...known }
    this.#meetings.set(key, meeting)
    this.#begin(meeting, now)
    return true
  }

  /** Asks the relay where the other is; an event tells, if it knows. */
  askOther(key: number, now: number): void {
    this.#clockMs = now
    const layer = this.#meetings.get(key)?.layer
    layer?.ask({ kind: 'other', flow: FLOW }, now, answer => {
      if (answer?.kind === 'other') this.#events.push({ kind: 'other', key, host: answer.host })
    })
  }

  /** Ends a meeting, and says so to the relay. */
  close(key: number): void {
    const meeting = this.#meetings.get(key)
    if (meeting === undefined) return
    this.#meetings.delete(key)
    const { layer } = meeting
    layer?.ask({ kind: 'close', flow: FLOW }, this.#clockMs, () => undefined)
    this.#end(meeting)
  }

  handleReport(report: Report, now: number): void {
    this.#clockMs = now
    switch (report.kind) {
      case 'handshake':
        return this.#options.indices.handleHandshake(report.bytes, now)
      case 'control':
        for (const { layer } of this.#meetings.values())
          if (layer?.session === report.session) layer.handleControl(report.bytes, now)
        return
      case 'associationReady':
        for (const { key, association } of this.#meetings.values())
          if (association === report.association) this.#events.push({ kind: 'open', key, address: report.address })
        return
      default:
        return
    }
  }

  deadline(): number {
    let due = Number.POSITIVE_INFINITY
    for (const { layer, retryAtMs } of this.#meetings.values()) {
      due = Math.min(due, retryAtMs, layer?.deadline() ?? Number.POSITIVE_INFINITY)
    }
    return due
  }

  handleDeadline(now: number): void {
    this.#clockMs = now
    for (const meeting of this.#meetings.values()) {
      meeting.layer?.handleDeadline(now)
      if (meeting.layer?.state === 'failed') this.#fail(meeting)
      if (meeting.retryAtMs <= now) this.#begin(meeting, now)
    }
  }

  /** The commands decided since the last call, in order. */
  take(): Command[] {
    return this.#out.splice(0)
  }

  takeEvents(): MeetingFlowsEvent[] {
    const events = this.#events
    this.#events = []
    return events
  }

  #begin(meeting: Meeting, now: number): void {
    const { random, indices } = this.#options
    meeting.retryAtMs = Number.POSITIVE_INFINITY
    meeting.tries++
    const { relay } = meeting
    const layer = new Layer({ hopKey: relay.key, session: this.#next++, random, out: this.#out, indices })
    meeting.layer = layer
    layer.onNotice = () => {
      if (layer.state !== 'established') return
      if (this.#options.header !== undefined) return this.#ask(meeting, layer)
      // The other has gone; with another it will be another meeting.
      this.close(meeting.key)
      this.#events.push({ kind: 'lost', key: meeting.key, isRefused: true })
    }
    layer.begin({ kind: 'via', via: { kind: 'socket', address: relay.address } }, now, isEstablished => {
      if (meeting.layer !== layer || meeting.association !== undefined) return
      if (isEstablished) this.#ask(meeting, layer)
      else this.#fail(meeting)
    })
  }

  #ask(meeting: Meeting, layer: Layer): void {
    layer.ask({ kind: 'meet', flow: FLOW, token: meeting.token }, this.#clockMs, answer => {
      if (meeting.layer !== layer) return
      if (answer?.kind !== 'meet') return this.#fail(meeting, answer !== undefined)
      meeting.tries = 0
      if (meeting.association !== undefined) return
      const { session } = layer
      const { header } = this.#options
      if (header === undefined) {
        this.#out.push({ kind: 'installNesting', session, flow: FLOW })
        this.#events.push({ kind: 'nested', key: meeting.key, session, flow: FLOW })
        return
      }
      const association = this.#next++
      meeting.association = association
      const target = { association, header, flow: FLOW }
      this.#out.push({ kind: 'installAssociation', association, session, host: '127.0.0.1' })
      this.#out.push({ kind: 'installAssociationTarget', ...target })
    })
  }

  #fail(meeting: Meeting, isRefused = false): void {
    if (!this.#meetings.has(meeting.key)) return
    this.#end(meeting)
    if (!isRefused) this.#events.push({ kind: 'silent', key: meeting.key })
    if (meeting.tries < MAX_TRIES) {
      meeting.retryAtMs = this.#clockMs + FIRST_RETRY_MS * 2 ** (meeting.tries - 1)
      return
    }
    this.#meetings.delete(meeting.key)
    this.#events.push({ kind: 'lost', key: meeting.key, isRefused })
  }

  #end(meeting: Meeting): void {
    const { key, layer, association } = meeting
    meeting.layer = undefined
    meeting.association = undefined
    if (association !== undefined) {
      this.#out.push({ kind: 'removeAssociation', association })
      this.#events.push({ kind: 'closed', key })
    }
    layer?.close()
  }
}
