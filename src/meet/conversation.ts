// What one paired device and we say to each other, whatever gets lost, repeated or restored from a backup.
//
// Up to four sessions are known; the one begun last (by its time, then its id) is spoken on, and the others may still be
// heard. Who begins repeats the handshake with every message until the other was heard. A message that does not open, though
// it claims to be of this device, means that one of the two has forgotten something: a new session is begun, and both are
// told (`reset`). That happens once in 30 seconds at most, and more rarely while it does not help. A handshake that is older
// than the newest known is not taken, so one that somebody recorded is of no use.
//
// Bounds: 4 sessions, of which the oldest goes first; 128 message marks.

import { createHash } from 'node:crypto'
import type { Random } from '#crypto/random.ts'
import { type DeviceCard, decodeCard, encodeCard } from '#wire/device-card.ts'
import {
  type BeginHandshake,
  type DeviceMessage,
  type DevicePayload,
  decodePayload,
  encodeDeviceMessage,
  encodePayload,
  MAX_DATA_BYTES,
} from '#wire/device-message.ts'
import { acceptSession, beginSession, firstRatchetKey, type SessionSecrets } from './handshake.ts'
import type { OwnDevice } from './own-device.ts'
import { initiatorRatchet, type RatchetState, ratchetOpen, ratchetSeal, responderRatchet } from './ratchet.ts'

const MAX_SESSIONS = 4
const MAX_MARKS = 128
const FIRST_RESET_WAIT_MS = 30_000
const MAX_RESET_WAIT_MS = 3_600_000
/** Clocks may differ by this much. */
const SKEW_MS = 600_000

export interface Session {
  readonly id: Uint8Array
  readonly begunMs: number
  readonly binding: Uint8Array
  readonly tunnelSecret: Uint8Array
  /** Goes along with every message until the other was heard. */
  readonly begin: BeginHandshake | undefined
  readonly ratchet: RatchetState
}

/** Everything a conversation is, to be written down. */
export interface ConversationState {
  /** The one begun last is first. */
  readonly sessions: readonly Session[]
  /** The newest handshake of the other side that was taken. */
  readonly heardBegunMs: number
  /** Marks of the last messages that opened. */
  readonly marks: readonly string[]
}

export type ConversationEvent =
  | { readonly kind: 'data'; readonly data: Uint8Array }
  /** The other side has new keys. */
  | { readonly kind: 'card'; readonly card: DeviceCard }
  /** The other side has removed us. */
  | { readonly kind: 'bye' }
  /** A new session has taken the place of one that was in use: what was not answered may be lost. */
  | { readonly kind: 'reset' }

export type NotOpened = 'unknownKeys' | 'oldHandshake' | 'unknownSession' | 'repeated' | 'tooFarAhead' | 'forged'

export interface Parties {
  readonly own: OwnDevice
  readonly peer: DeviceCard
  readonly random: Random
}

/** The content of a letter, and whether it is of use tomorrow. */
export interface Said {
  readonly content: Uint8Array
  readonly keeps: boolean
  /** What it is about: of words about one thing that wait, only the newest counts. */
  readonly topic: string
}

export const NEW_CONVERSATION: ConversationState = { sessions: [], heardBegunMs: 0, marks: [] }

export class Conversation {
  readonly #parties: () => Parties
  #state: ConversationState
  #nextResetMs = Number.NEGATIVE_INFINITY
  #resetWaitMs = FIRST_RESET_WAIT_MS
  #events: ConversationEvent[] = []
  #contents: Said[] = []

  /** @param parties the present keys of both, asked for each time: they change */
  constructor(parties: () => Parties, state: ConversationState) {
    this.#parties = parties
    this.#state = state
  }

  /** To be written down before what `take` gives is posted. */
  get state(): ConversationState {
    return this.#state
  }

  /** The secret of the session in use for the tunnel's pre-shared key; `undefined` until both have spoken. */
  get tunnelSecret(): Uint8Array | undefined {
    return this.#state.sessions.find(({ begin }) => begin === undefined)?.tunnelSecret
  }

  /** Whether the other side was heard on the session in use. */
  get isConfirmed(): boolean {
    const [current] = this.#state.sessions
    return current !== undefined && current.begin === undefined
  }

  /** Says something; false when the other's keys are unusable, or a new card must wait until the session is confirmed. */
  send(
    payload: { readonly kind: 'data'; readonly body: Uint8Array } | { readonly kind: 'hello' | 'bye' },
    now: number,
    topic = '',
  ): boolean {
    const body = 'body' in payload ? payload.body : new Uint8Array(0)
    if (body.length > MAX_DATA_BYTES) throw new RangeError(`say something: ${body.length} bytes`)
    return this.#say({ kind: payload.kind, body }, now, topic)
  }

  /** Tells the other side our present keys. A card does not fit beside a handshake: false until the session is confirmed. */
  sendCard(card: DeviceCard, now: number): boolean {
    return this.isConfirmed && this.#say({ kind: 'card', body: encodeCard(card) }, now)
  }

  /** A message that claims to be of the other device; the reason when it is not taken. */
  handle(message: DeviceMessage, now: number): NotOpened | undefined {
    const mark = markOf(message)
    if (this.#state.marks.includes(mark)) return 'repeated'
    const found = this.#find(message, now)
    if (typeof found === 'string') return this.#notOpened(found, now)
    const opened = ratchetOpen(found.session.ratchet, message.ratchet, found.session.binding, this.#parties().random)
    if ('error' in opened) return this.#notOpened(opened.error, now)
    this.#resetWaitMs = FIRST_RESET_WAIT_MS
    const wasInUse = this.#state.sessions.length > 0
    if (found.isNew && wasInUse) this.#events.push({ kind: 'reset' })
    this.#keep({ ...found.session, ratchet: opened.state, begin: undefined })
    const { heardBegunMs, marks } = this.#state
    this.#state = {
      ...this.#state,
      heardBegunMs: Math.max(heardBegunMs, message.begin?.begunMs ?? 0),
      marks: [...marks, mark].slice(-MAX_MARKS),
    }
    this.#take(decodePayload(opened.plain))
    // Who began goes on repeating its handshake until it hears us.
    if (found.isNew) this.#say({ kind: 'hello', body: new Uint8Array(0) }, now)
    return undefined
  }

  /** Contents of letters for the other device, to be posted now. */
  take(): Said[] {
    return this.#contents.splice(0)
  }

  takeEvents(): ConversationEvent[] {
    return this.#events.splice(0)
  }

  #find(
    message: DeviceMessage,
    now: number,
  ): { readonly session: Session; readonly isNew: boolean } | 'unknownKeys' | 'oldHandshake' | 'unknownSession' {
    const known = this.#state.sessions.find(({ id }) => Buffer.compare(id, message.session) === 0)
    if (known !== undefined) return { session: known, isNew: false }
    const { begin } = message
    if (begin === undefined) return 'unknownSession'
    if (begin.begunMs <= this.#state.heardBegunMs || begin.begunMs > now + SKEW_MS) return 'oldHandshake'
    const { own, peer } = this.#parties()
    const keys = own.keys.find(({ generation }) => generation === begin.generation)
    const secrets = keys && acceptSession({ id: own.id, keys }, peer, begin)
    if (keys === undefined || secrets === undefined) return 'unknownKeys'
    if (Buffer.compare(secrets.session, message.session) !== 0) return 'unknownKeys'
    const ratchet = responderRatchet(secrets.root, firstRatchetKey(keys))
    return { session: sessionOf(secrets, begin.begunMs, undefined, ratchet), isNew: true }
  }

  #notOpened(reason: NotOpened, now: number): NotOpened {
    if (now < this.#nextResetMs) return reason
    this.#nextResetMs = now + this.#resetWaitMs
    this.#resetWaitMs = Math.min(2 * this.#resetWaitMs, MAX_RESET_WAIT_MS)
    const wasInUse = this.#state.sessions.length > 0
    if (this.#begin(now) === undefined) return reason
    if (wasInUse) this.#events.push({ kind: 'reset' })
    this.#say({ kind: 'hello', body: new Uint8Array(0) }, now)
    return reason
  }

  #say(payload: DevicePayload, now: number, topic = ''): boolean {
    const { own, random } = this.#parties()
    const session = this.#state.sessions[0] ?? this.#begin(now)
    if (session === undefined) return false
    const { state, message } = ratchetSeal(session.ratchet, encodePayload(payload), session.binding, random)
    this.#keep({ ...session, ratchet: state })
    const said = { sender: own.id, session: session.id, begin: session.begin, ratchet: message }
    // What the program says is about now; keys and farewells are not.
    this.#contents.push({ content: encodeDeviceMessage(said), keeps: payload.kind !== 'data', topic })
    return true
  }

  #begin(now: number): Session | undefined {
    const { own, peer, random } = this.#parties()
    // Later than any session that is known, even if a clock went back.
    const begunMs = Math.max(now, ...this.#state.sessions.map(session => session.begunMs + 1))
    const begun = beginSession({ id: own.id, keys: own.keys[0] }, peer, begunMs, random)
    const ratchet = begun && initiatorRatchet(begun.secrets.root, peer.prekey, random)
    if (begun === undefined || ratchet === undefined) return undefined
    const session = sessionOf(begun.secrets, begunMs, begun.begin, ratchet)
    this.#keep(session)
    return session
  }

  #keep(session: Session): void {
    const others = this.#state.sessions.filter(({ id }) => Buffer.compare(id, session.id) !== 0)
    const sessions = [...others, session].toSorted((a, b) => b.begunMs - a.begunMs || Buffer.compare(b.id, a.id))
    this.#state = { ...this.#state, sessions: sessions.slice(0, MAX_SESSIONS) }
  }

  #take(payload: DevicePayload | undefined): void {
    switch (payload?.kind) {
      case 'data':
        this.#events.push({ kind: 'data', data: Uint8Array.from(payload.body) })
        return
      case 'card': {
        const card = decodeCard(payload.body)
        const { peer } = this.#parties()
        if (card?.id === peer.id && card.generation > peer.generation) this.#events.push({ kind: 'card', card })
        return
      }
      case 'bye':
        this.#events.push({ kind: 'bye' })
        return
      case 'hello':
      case undefined:
        return
    }
  }
}

function sessionOf(
  { session, binding, tunnelSecret }: SessionSecrets,
  begunMs: number,
  begin: BeginHandshake | undefined,
  ratchet: RatchetState,
): Session {
  return { id: session, begunMs, binding, tunnelSecret, begin, ratchet }
}

function markOf({ session, ratchet }: DeviceMessage): string {
  const hash = createHash('sha256').update(session).update(ratchet.salt).update(ratchet.ciphertext)
  return hash.digest('base64').slice(0, 12)
}
