// The sessions of a hop: who is answered, and which keys live. A pure machine.
//
//   initiation ──► mac1 ──► replayed? ──► cookie, when busy ──► respond ──► half-open session
//   half-open ──(first packet)──► established ──(180 s without new keys)──► keyless ──(5 min)──► removed
//       └──(10 s)──► removed
//
// A renewal is an initiation that carries the session's ticket: it adds keys to the session and leaves its flows alone.

import type { Random } from '#crypto/random.ts'
import type { Command, Keypair, Via } from '#forward/commands.ts'
import { indexOf, MAX_WORKERS } from '#forward/workers.ts'
import { Answerer } from '#session/control-exchange.ts'
import { CookieJar, checkMac1 } from '#session/cookie.ts'
import { type HopKeys, respond } from '#session/hop-handshake.ts'
import { ReplayFilter } from '#session/replay-filter.ts'
import { formatAddress } from '#wire/address.ts'

const HALF_OPEN_MS = 10_000
const KEY_LIFETIME_MS = 180_000
const KEYLESS_MS = 300_000
const MAX_KEYS = 3
/** In place of the address of those who come by a relay: all of them together are treated as one. */
const RELAYED = 'relayed'
/** Above this many initiations in a second, an initiator must show that it receives at its address. */
const BUSY_INITIATIONS_PER_SECOND = 300

export interface HopSession {
  readonly session: number
  /** Of the data plane. */
  readonly worker: number
  /** The IP address that it was begun from. */
  readonly host: string
  /** The session of ours with a relay that it came by, if it did. */
  readonly inside: number | undefined
  readonly ticket: string
  readonly answers: Answerer
  readonly flows: Set<number>
  readonly keys: Map<number, { readonly expiresMs: number }>
  sequence: number
  isConfirmed: boolean
  removeAtMs: number
}

export type SessionCounter =
  | 'handshakes'
  | 'renewals'
  | 'cookieReplies'
  | 'lostSessions'
  | 'dropMac1'
  | 'dropReplayedInitiation'
  | 'dropBadInitiation'
  | 'dropSessionLimit'
  | 'dropStaleRenewal'

export interface HopSessionsOptions {
  readonly keys: HopKeys
  readonly maxSessions: () => number
  readonly random: Random
  /** Which of the data plane's workers is to own the next session; always the first without this. */
  readonly place?: () => number
  /** Commands for the data plane are pushed here. */
  readonly out: Command[]
  readonly count: (name: SessionCounter) => void
  readonly onOpened: (session: HopSession) => void
  /** Nobody finds it any more; its removal from the data plane follows. */
  readonly onRemoved: (session: HopSession) => void
}

export class HopSessions {
  readonly #options: HopSessionsOptions
  readonly #out: Command[]
  readonly #sessions = new Map<number, HopSession>()
  readonly #byTicket = new Map<string, HopSession>()
  readonly #indices = new Set<number>()
  readonly #replays = new ReplayFilter()
  readonly #cookies: CookieJar
  #nextSession = 1
  #busySinceMs = 0
  #initiations = 0

  constructor(options: HopSessionsOptions, now: number) {
    this.#options = options
    this.#out = options.out
    this.#cookies = new CookieJar(options.keys.publicKey, options.random, now)
  }

  get size(): number {
    return this.#sessions.size
  }

  find(session: number): HopSession | undefined {
    return this.#sessions.get(session)
  }

  /** Whether a client is there that came by this session of ours with a relay. */
  serves(session: number): boolean {
    for (const { inside, keys } of this.#sessions.values()) if (inside === session && keys.size > 0) return true
    return false
  }

  handleInitiation(message: Uint8Array, from: Via, now: number): void {
    if (!checkMac1(message, this.#options.keys.mac1Key)) return this.#count('dropMac1')
    const address = Buffer.from(from.kind === 'socket' ? formatAddress(from.address) : RELAYED, 'latin1')
    if (this.#isBusy(now) && !this.#cookies.checkMac2(message, address, now)) {
      this.#count('cookieReplies')
      const bytes = this.#cookies.cookieReply(message, address, now)
      this.#out.push({ kind: 'sendHandshake', via: from, bytes })
      return
    }
    if (!this.#replays.admit(message, now)) return this.#count('dropReplayedInitiation')
    const result = respond({ keys: this.#options.keys, message, localIndex: renews => this.#indexFor(renews) })
    if ('error' in result) return this.#count('dropBadInitiation')
    const { localIndex, remoteIndex, send, receive } = result.keys
    const keypair: Keypair = { localIndex, remoteIndex, send, receive }
    const session =
      result.renews === undefined
        ? this.#installSession(keypair, keyOf(result.keys.ticket), from, now)
        : this.#renew(keypair, keyOf(result.renews), result.sequence, now)
    if (session !== undefined)
      this.#out.push({ kind: 'sendHandshake', via: from, bytes: result.response, session: session.session })
  }

  /** The client has the keys: its first packet came. */
  confirm(session: number): void {
    const entry = this.#sessions.get(session)
    if (entry === undefined || entry.isConfirmed) return
    entry.isConfirmed = true
    const expiresMs = [...entry.keys.values()].at(-1)?.expiresMs ?? 0
    entry.removeAtMs = expiresMs + KEYLESS_MS
  }

  /** Removes keys and sessions whose time is over. */
  expire(now: number): void {
    for (const session of this.#sessions.values()) {
      for (const [localIndex, { expiresMs }] of session.keys) {
        if (expiresMs <= now) this.#removeKeys(session, localIndex)
      }
      if (session.removeAtMs <= now) this.#remove(session)
    }
  }

  /** The data plane has a session no longer: nothing will be reported of it. */
  lose(session: number): void {
    const entry = this.#sessions.get(session)
    if (entry === undefined) return
    this.#count('lostSessions')
    this.#remove(entry)
  }

  #installSession(keys: Keypair, ticket: string, via: Via, now: number): HopSession | undefined {
    if (this.#sessions.size >= this.#options.maxSessions() && !this.#makeRoom()) {
      this.#count('dropSessionLimit')
      return undefined
    }
    const session: HopSession = {
      session: this.#nextSession++,
      worker: keys.localIndex & (MAX_WORKERS - 1),
      host: via.kind === 'socket' ? via.address.host : RELAYED,
      inside: via.kind === 'flow' ? via.session : undefined,
      ticket,
      answers: new Answerer(),
      flows: new Set(),
      keys: new Map([[keys.localIndex, { expiresMs: now + KEY_LIFETIME_MS }]]),
      sequence: 0,
      isConfirmed: false,
      removeAtMs: now + HALF_OPEN_MS,
    }
    this.#sessions.set(session.session, session)
    this.#byTicket.set(ticket, session)
    this.#indices.add(keys.localIndex)
    this.#out.push({ kind: 'installSession', session: session.session, role: 'responder', via, keys })
    this.#options.onOpened(session)
    this.#count('handshakes')
    return session
  }

  /** A ticket that is not known (any more) is not answered: the initiator then begins a session of its own. */
  #renew(keys: Keypair, ticket: string, sequence: number, now: number): HopSession | undefined {
    const session = this.#byTicket.get(ticket)
    if (session === undefined) return undefined
    if (sequence <= session.sequence) {
      this.#count('dropStaleRenewal')
      return undefined
    }
    session.sequence = sequence
    const expiresMs = now + KEY_LIFETIME_MS
    session.keys.set(keys.localIndex, { expiresMs })
    session.removeAtMs = expiresMs + KEYLESS_MS
    this.#indices.add(keys.localIndex)
    this.#out.push({ kind: 'installKeys', session: session.session, keys })
    while (session.keys.size > MAX_KEYS) {
      const oldest = session.keys.keys().next().value
      if (oldest !== undefined) this.#removeKeys(session, oldest)
    }
    this.#count('renewals')
    return session
  }

  #removeKeys(session: HopSession, localIndex: number): void {
    session.keys.delete(localIndex)
    this.#indices.delete(localIndex)
    this.#out.push({ kind: 'removeKeys', session: session.session, localIndex })
  }

  #remove(session: HopSession): void {
    this.#sessions.delete(session.session)
    this.#byTicket.delete(session.ticket)
    for (const localIndex of session.keys.keys()) this.#indices.delete(localIndex)
    this.#options.onRemoved(session)
    this.#out.push({ kind: 'removeSession', session: session.session })
  }

  /** Gives up a session that has no keys left, for a new one. */
  #makeRoom(): boolean {
    for (const session of this.#sessions.values()) {
      if (session.keys.size > 0) continue
      this.#remove(session)
      return true
    }
    return false
  }

  #isBusy(now: number): boolean {
    if (now - this.#busySinceMs >= 1_000) {
      this.#busySinceMs = now
      this.#initiations = 0
    }
    return ++this.#initiations > BUSY_INITIATIONS_PER_SECOND
  }

  /** An index of the worker that has the session, or is to have it. */
  #indexFor(renews: Uint8Array | undefined): number {
    const { random, place } = this.#options
    const renewed = renews && this.#byTicket.get(keyOf(renews))
    const worker = renewed?.worker ?? place?.() ?? 0
    for (;;) {
      const bytes = random(4)
      const index = indexOf(new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0), worker)
      if (!this.#indices.has(index)) return index
    }
  }

  #count(name: SessionCounter): void {
    this.#options.count(name)
  }
}

function keyOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
