// An ICE agent: finds, keeps and mends the path to one peer (RFC 8445, trickle RFC 8838, consent RFC 7675). A pure machine.
//
//   waiting ──offer──► checking ──a pair answers──► connected ◄──(better pairs are nominated as they come up)
//                         │  ▲                          │
//                         │  └──────(all silent)────────┘
//                         └──(5 minutes of nothing)──► failed ──(offer, traffic, new network)──► checking
//
// What differs from RFC 8445, and why: there is one pair per base and remote address (base.ts); the controlling side
// nominates again whenever a better pair works, the newest number counts, so a relay is used at once and left without a gap;
// checks never end, because NATs forget. Every answer and request is verified before anything is done about it.
// Bounds: 24 candidates of the peer and 32 that it was seen at, 96 pairs, 512 checks and 4,096 guesses outstanding.

import { copyBytes } from '#bytes/copy.ts'
import type { Address } from '#wire/address.ts'
import { MAX_CANDIDATES, type PathOffer } from '#wire/path-offer.ts'
import { type DecodedStun, STUN_ATTRIBUTE, type StunMessage, stunAttribute, unknownRequired } from '#wire/stun.ts'
import { readErrorCode } from '#wire/stun-value.ts'
import { type Base, candidatePriority, isSameAddress } from './base.ts'
import {
  checkAnswer,
  checkRequest,
  conflictingTieBreaker,
  ROLE_CONFLICT,
  readCheck,
  roleConflict,
  unknownAttributes,
} from './check-message.ts'
import { Checklist, isBetter, type Pair, type RemoteCandidate } from './checklist.ts'
import { ufragOf } from './credentials.ts'
import type { Ground, Path } from './ground.ts'
import { Offering } from './offering.ts'
import { type Check, Outstanding } from './outstanding.ts'
import { Punching } from './punching.ts'
import { Retransmission } from './retransmission.ts'
import { iceKey, iceText, isAuthentic, type StunKey, sealStun } from './stun-auth.ts'

export interface AgentOptions {
  readonly peer: number
  /** Exactly one side is; if both think so, the tie-breaker decides (RFC 8445 §7.3.1.1). */
  readonly isControlling: boolean
  readonly ground: Ground
}

export type AgentState = 'waiting' | 'checking' | 'connected' | 'failed' | 'closed'

const TA_MS = 50
/** A pair in use is asked this often while there is traffic, or while it does not answer. */
const BUSY_CHECK_MS = 400
/** Pairs that are not in use, while there is traffic. */
const SPARE_CHECK_MS = 4_000
/** Pairs that work and are not kept are forgotten after this long. */
const UNUSED_MS = 20_000
const BUSY_FOR_MS = 6_000
/** A pair is dead after this long without an answer and this many questions. */
const SILENT_MS = 1_400
const SILENT_CHECKS = 4
const WORRIED_CHECKS = 2
/** Without a direct path everything is tried anew after this long, doubled each time. */
const MIN_RETRY_MS = 4_000
const MAX_RETRY_MS = 120_000
const FAILED_MS = 300_000
const MAX_SEEN_AT = 32
const MAX_EARLY = 8

/** A check of the peer's that came before its offer. */
interface EarlyCheck {
  readonly base: Base
  readonly from: Address
  readonly priority: number
  readonly nominated: number
}

export class Agent {
  readonly peer: number
  readonly #ground: Ground
  readonly #offering: Offering
  readonly #outstanding: Outstanding
  readonly #checklist = new Checklist()
  readonly #punching: Punching
  readonly #tieBreaker: Uint8Array
  #isControlling: boolean
  #state: AgentState = 'waiting'
  #remote: PathOffer | undefined
  #remoteKey: StunKey | undefined
  #candidates: RemoteCandidate[] = []
  #seenAt: RemoteCandidate[] = []
  #early: EarlyCheck[] = []
  #triggered: Pair[] = []
  #selected: Pair | undefined
  #nominating: Pair | undefined
  #nomination = 0
  #slotMs = Number.NEGATIVE_INFINITY
  #slotIsRelayed = false
  #busyUntilMs = Number.NEGATIVE_INFINITY
  #retryMs = Number.POSITIVE_INFINITY
  #retryDelayMs = MIN_RETRY_MS
  #searchingSinceMs: number
  #told = ''

  constructor({ peer, ground, isControlling }: AgentOptions, now: number) {
    this.peer = peer
    this.#ground = ground
    this.#isControlling = isControlling
    this.#offering = new Offering(ground, now)
    this.#outstanding = new Outstanding(ground.random)
    this.#punching = new Punching(peer, ground, this.#checklist)
    this.#tieBreaker = copyBytes(ground.random(8))
    this.#searchingSinceMs = now
  }

  /** Transaction ids of ours begin with it, so that answers find us (`tagOf`). */
  get tag(): string {
    return this.#outstanding.tag
  }

  get state(): AgentState {
    return this.#state
  }

  /** The names by which the peer's checks are for us. */
  get ufrags(): readonly string[] {
    return this.#offering.credentials.map(({ ufrag }) => ufrag)
  }

  get isControlling(): boolean {
    return this.#isControlling
  }

  /** Where packets go now. */
  path(now: number): Path | undefined {
    const pair = this.#current()
    return pair && this.#ground.path(pair.base, pair.remote.address, pair.isRelayed, now)
  }

  /** Sends a packet along the path; false while there is none. */
  send(bytes: Uint8Array, now: number): boolean {
    const pair = this.#current()
    if (pair === undefined) return false
    this.#ground.send(pair.base, pair.remote.address, bytes, now)
    return true
  }

  /** Takes what the peer says about itself; older offers than the last are ignored. */
  handleOffer(offer: PathOffer, now: number): void {
    if (this.#state === 'closed') return
    const last = this.#remote
    if (last !== undefined) {
      if (offer.generation < last.generation) return
      if (offer.generation === last.generation && offer.revision <= last.revision) return
    }
    this.#remote = offer
    this.#remoteKey = iceKey(offer.password)
    this.#candidates = offer.candidates.slice(0, MAX_CANDIDATES)
    this.#checklist.learn(this.#candidates)
    for (const { base, from, priority, nominated } of this.#early.splice(0)) {
      this.#trigger(base, from, priority, nominated, now)
    }
    this.#search(now)
  }

  /** Our bases or candidates changed. */
  handleGroundChange(now: number): void {
    if (this.#state === 'closed') return
    this.#offering.soon(now)
    if (this.#remote !== undefined) this.#checklist.form(this.#ground.bases(), this.#allCandidates())
  }

  /** A base is gone, with everything that went over it. */
  handleBaseRemoved(local: number, now: number): void {
    const wasInUse = this.#current()?.base.local === local
    if (this.#selected?.base.local === local) this.#selected = undefined
    if (this.#nominating?.base.local === local) this.#nominating = undefined
    this.#checklist.removeBase(local)
    this.#triggered = this.#triggered.filter(({ base }) => base.local !== local)
    this.#punching.removeBase(local)
    if (wasInUse) this.#search(now)
    this.#settle(now)
  }

  /** The network changed: what worked is asked at once, everything else is tried anew. */
  handleNetworkChange(now: number): void {
    if (this.#state === 'closed') return
    this.#busyUntilMs = now + BUSY_FOR_MS
    for (const pair of this.#checklist.pairs()) if (pair.state === 'valid') this.#ask(pair, now)
    this.#retryDelayMs = MIN_RETRY_MS
    this.#offering.soon(now)
    if (this.#remote !== undefined) this.#search(now)
  }

  /** ICE restart (RFC 8445 §9): new credentials, and every pair is checked anew; the path stays in use meanwhile. */
  restart(now: number): void {
    if (this.#state === 'closed') return
    this.#offering.restart(now)
    this.handleNetworkChange(now)
  }

  /** Application data is sent or awaited: a silence is found within seconds. Cheap enough to be told every 100 ms. */
  handleTraffic(now: number): void {
    this.#busyUntilMs = now + BUSY_FOR_MS
    if (this.#state === 'failed') this.#search(now)
  }

  /** A socket that was asked for. */
  addSocket(base: Base): void {
    this.#punching.addSocket(base)
  }

  close(): void {
    this.#state = 'closed'
    this.#checklist.clear()
    this.#outstanding.clear()
    this.#punching.close()
    this.#triggered = []
    this.#selected = undefined
    this.#nominating = undefined
  }

  /** Takes a binding request whose USERNAME is ours; nothing is done unless it proves the password. */
  handleRequest(bytes: Uint8Array, message: DecodedStun, from: Address, base: Base, now: number): void {
    if (this.#state === 'closed') return
    const ufrag = ufragOf(message)
    const own = this.#offering.credentials.find(each => each.ufrag === ufrag)
    if (own === undefined || !isAuthentic(bytes, message, own.key.key)) return
    const answer = (reply: StunMessage) => this.#ground.send(base, from, sealStun(reply, own.key), now)
    const unknown = unknownRequired(message)
    if (unknown.length > 0) return answer(unknownAttributes(message, unknown))
    if (!this.#settleRoles(message)) return answer(roleConflict(message))
    answer(checkAnswer(message, from))
    const { priority, nomination } = readCheck(message)
    this.#trigger(base, from, priority, this.#isControlling ? 0 : nomination, now)
    this.#settle(now)
  }

  /** Takes an answer whose transaction id has our tag. */
  handleAnswer(bytes: Uint8Array, message: DecodedStun, from: Address, base: Base, now: number): void {
    const check = this.#outstanding.get(message.transaction)
    const key = this.#remoteKey
    if (check === undefined || key === undefined || !isAuthentic(bytes, message, key.key)) return
    this.#outstanding.delete(message.transaction)
    if (message.class === 'error') {
      const code = readErrorCode(stunAttribute(message, STUN_ATTRIBUTE.errorCode))
      if (code !== ROLE_CONFLICT) return
      if (check.wasControlling === this.#isControlling) this.#isControlling = !check.wasControlling
      const pair = this.#checklist.get(check.base, check.to)
      if (pair?.state === 'inProgress') this.#retrigger(pair)
      return
    }
    // RFC 8445 §7.2.5.2.1: an answer that came another way shows no path.
    if (base !== check.base || !isSameAddress(from, check.to)) return
    this.#ground.budget.prove(from.host, now)
    this.#confirm(check, now)
    this.#settle(now)
  }

  deadline(): number {
    if (this.#state === 'closed') return Number.POSITIVE_INFINITY
    let due = this.#offering.deadline()
    if (this.#state === 'waiting' || this.#state === 'failed') return due
    due = Math.min(due, this.#retryMs, this.#punching.deadline())
    const kept = this.#checklist.kept(this.#current())
    let isWaiting = this.#triggered.length > 0
    for (const pair of this.#checklist.pairs()) {
      if (pair.state === 'waiting') isWaiting = true
      else if (pair.check !== undefined) due = Math.min(due, pair.check.timer.dueMs)
      else if (pair.state === 'valid') due = Math.min(due, this.#nextAskMs(pair, kept))
    }
    return isWaiting ? Math.min(due, this.#slotMs + TA_MS) : due
  }

  handleDeadline(now: number): void {
    if (this.#state === 'closed') return
    const offer = this.#offering.next(now)
    if (offer !== undefined) this.#ground.out.push({ kind: 'offer', peer: this.peer, offer })
    if (this.#state === 'waiting' || this.#state === 'failed') return
    if (this.#slotMs + TA_MS <= now) this.#fillSlot(now)
    for (const pair of this.#checklist.pairs()) if (pair.check !== undefined) this.#repeat(pair, now)
    this.#keep(now)
    for (const { base, to } of this.#punching.handleDeadline(now)) this.#check(base, to, now, undefined, true)
    if (this.#retryMs <= now) this.#retry(now)
    this.#settle(now)
  }

  #allCandidates(): RemoteCandidate[] {
    return [...this.#candidates, ...this.#seenAt]
  }

  #current(): Pair | undefined {
    const { state, unanswered } = this.#selected ?? { state: 'failed', unanswered: 0 }
    return state === 'valid' && unanswered < SILENT_CHECKS ? this.#selected : this.#checklist.bestValid()
  }

  #search(now: number): void {
    if (this.#remote === undefined) return
    this.#checklist.form(this.#ground.bases(), this.#allCandidates())
    this.#checklist.revive()
    if (this.#state !== 'connected') {
      this.#state = 'checking'
      this.#searchingSinceMs = now
    }
    if (this.#current()?.isRelayed === false) return
    this.#retryMs = now + this.#retryDelayMs
    this.#punch(now)
  }

  #retry(now: number): void {
    if (this.#state === 'checking' && now - this.#searchingSinceMs >= FAILED_MS) {
      this.#state = 'failed'
      this.#retryMs = Number.POSITIVE_INFINITY
      this.#ground.out.push({ kind: 'failed', peer: this.peer })
      return
    }
    this.#retryDelayMs = Math.min(this.#retryDelayMs * 2, MAX_RETRY_MS)
    this.#ground.refresh(now)
    this.#checklist.form(this.#ground.bases(), this.#allCandidates())
    this.#checklist.revive()
    this.#retryMs = now + this.#retryDelayMs
    this.#punch(now)
  }

  // ---- checks

  #fillSlot(now: number): void {
    const triggered = this.#triggered.shift()
    if (triggered !== undefined) {
      this.#slotMs = now
      return this.#begin(triggered, now)
    }
    // Until something works, every other check goes over a relay: it is what is usable first.
    this.#slotIsRelayed = this.#checklist.bestValid() === undefined && !this.#slotIsRelayed
    const pair = this.#checklist.nextWaiting(this.#slotIsRelayed) ?? this.#checklist.nextWaiting(!this.#slotIsRelayed)
    if (pair === undefined) return
    this.#slotMs = now
    this.#begin(pair, now)
  }

  #begin(pair: Pair, now: number): void {
    if (pair.state === 'valid') return this.#ask(pair, now)
    const bytes = this.#check(pair.base, pair.remote.address, now)
    if (bytes === undefined) {
      pair.state = 'failed'
      return
    }
    pair.state = 'inProgress'
    pair.check = { bytes, timer: new Retransmission(now) }
  }

  #repeat(pair: Pair, now: number): void {
    const what = pair.check?.timer.next(now) ?? 'wait'
    const { address } = pair.remote
    if (what === 'wait' || pair.check === undefined) return
    if (what === 'send' && this.#ground.budget.spend(address.host, 'check', now)) {
      return this.#ground.send(pair.base, address, pair.check.bytes, now)
    }
    pair.check = undefined
    pair.state = 'failed'
  }

  /** Asks a pair that works whether it still does. */
  #ask(pair: Pair, now: number, nomination?: number): void {
    pair.askedMs = now
    pair.unanswered++
    pair.silentSinceMs = Math.min(pair.silentSinceMs, now)
    this.#check(pair.base, pair.remote.address, now, nomination)
  }

  /** Sends a new check; `undefined` when that address has had enough of them. */
  #check(base: Base, to: Address, now: number, nomination?: number, isGuess = false): Uint8Array | undefined {
    const remote = this.#remote
    if (remote === undefined || !this.#ground.budget.spend(to.host, isGuess ? 'guess' : 'check', now)) return undefined
    const isControlling = this.#isControlling
    const check = { base, to, sentMs: now, nomination, wasControlling: isControlling }
    const request = checkRequest(this.#outstanding.add(check, isGuess), {
      username: `${iceText(remote.ufrag)}:${this.#offering.credentials[0].ufrag}`,
      priority: candidatePriority('peerReflexive', base.family),
      isControlling,
      tieBreaker: this.#tieBreaker,
      nomination,
    })
    const bytes = sealStun(request, this.#remoteKey)
    this.#ground.send(base, to, bytes, now)
    return bytes
  }

  /** A check was answered: the pair works. */
  #confirm(check: Check, now: number): void {
    const { base, to, nomination } = check
    const pair = this.#checklist.get(base, to) ?? this.#checklist.add(base, this.#seen(base, to, 0))
    if (pair === undefined) return
    if (pair.check === undefined || pair.check.timer.sends === 1) pair.rttMs = now - check.sentMs
    pair.check = undefined
    pair.heardMs = now
    pair.unanswered = 0
    pair.silentSinceMs = Number.POSITIVE_INFINITY
    pair.state = 'valid'
    if (nomination !== undefined && pair === this.#nominating && nomination === this.#nomination) {
      this.#selected = pair
      this.#nominating = undefined
    }
    if (!this.#isControlling && pair.nominated > 0 && pair.nominated >= this.#nomination) this.#accept(pair)
  }

  // ---- the peer's checks

  /** RFC 8445 §7.3.1.1; false when the peer has to change its role. */
  #settleRoles(message: DecodedStun): boolean {
    const theirs = conflictingTieBreaker(message, this.#isControlling)
    if (theirs === undefined) return true
    const isOursLarger = Buffer.compare(this.#tieBreaker, theirs) >= 0
    if (this.#isControlling && isOursLarger) return false
    if (!this.#isControlling && !isOursLarger) return false
    this.#isControlling = !this.#isControlling
    this.#nominating = undefined
    return true
  }

  #trigger(base: Base, from: Address, priority: number, nominated: number, now: number): void {
    if (this.#remote === undefined) {
      if (this.#early.length < MAX_EARLY) this.#early.push({ base, from: { ...from }, priority, nominated })
      return
    }
    const known = this.#checklist.get(base, from)
    const pair = known ?? this.#checklist.add(base, this.#seen(base, from, priority))
    if (pair === undefined) return
    if (nominated > 0 && nominated >= Math.max(pair.nominated, this.#nomination)) {
      pair.nominated = nominated
      if (pair.state === 'valid') this.#accept(pair)
    }
    if (pair.state === 'valid') return
    // RFC 8445 §7.3.1.4: a check in progress was perhaps dropped by a filter that is open now.
    this.#retrigger(pair)
    if (this.#state === 'failed') this.#search(now)
  }

  #retrigger(pair: Pair): void {
    pair.check = undefined
    pair.state = 'waiting'
    if (!this.#triggered.includes(pair)) this.#triggered.push(pair)
  }

  /** The candidate at an address that a packet of the peer came from. */
  #seen(base: Base, from: Address, priority: number): RemoteCandidate {
    const known = this.#allCandidates().find(({ address }) => isSameAddress(address, from))
    if (known !== undefined) return known
    const kind = 'peerReflexive' as const
    const candidate = { kind, priority: priority || candidatePriority(kind, base.family), address: { ...from } }
    if (!base.isExtra) {
      this.#seenAt.push(candidate)
      if (this.#seenAt.length > MAX_SEEN_AT) this.#seenAt.shift()
    }
    return candidate
  }

  #accept(pair: Pair): void {
    this.#nomination = Math.max(this.#nomination, pair.nominated)
    this.#selected = pair
  }

  // ---- keeping what works

  /** When a pair that works is asked, or let go of if it is none of those that are kept. */
  #nextAskMs(pair: Pair, kept: readonly (Pair | undefined)[]): number {
    if (!kept.includes(pair)) return pair.heardMs + UNUSED_MS
    if (pair.unanswered > 0) return pair.askedMs + BUSY_CHECK_MS
    if (pair.askedMs >= this.#busyUntilMs) return pair.askedMs + this.#ground.keepaliveMs()
    return pair.askedMs + (pair === kept[0] ? BUSY_CHECK_MS : SPARE_CHECK_MS)
  }

  #keep(now: number): void {
    const current = this.#current()
    const kept = this.#checklist.kept(current)
    const isWorried = current !== undefined && current.unanswered >= WORRIED_CHECKS
    let wasLost = false
    for (const pair of this.#checklist.pairs()) {
      if (pair.state !== 'valid') continue
      const isDue = this.#nextAskMs(pair, kept) <= now
      if (isSilent(pair, now) || (isDue && !kept.includes(pair))) {
        wasLost ||= pair === current || !pair.isRelayed
        this.#giveUp(pair)
      } else if (isDue || (isWorried && pair !== current && now - pair.askedMs >= BUSY_CHECK_MS)) {
        this.#ask(pair, now, this.#nominating === pair ? this.#nomination : undefined)
      }
    }
    if (!wasLost || this.#current()?.isRelayed === false) return
    // Our NAT may have forgotten us, or our address may be another: ask, and tell the peer.
    this.#retryDelayMs = MIN_RETRY_MS
    this.#ground.refresh(now)
    this.#offering.soon(now)
    this.#search(now)
  }

  #giveUp(pair: Pair): void {
    pair.state = 'failed'
    pair.unanswered = 0
    pair.nominated = 0
    pair.silentSinceMs = Number.POSITIVE_INFINITY
    if (this.#selected === pair) this.#selected = undefined
    if (this.#nominating === pair) this.#nominating = undefined
  }

  #punch(now: number): void {
    const remote = this.#remote
    if (remote !== undefined && this.#punching.begin(remote.nat, remote.candidates, now)) {
      this.#outstanding.forgetGuesses()
    }
  }

  // ---- after every change

  #settle(now: number): void {
    if (this.#state === 'closed') return
    const current = this.#current()
    if (this.#isControlling) this.#nominate(now)
    if (current !== undefined && this.#state !== 'connected') this.#state = 'connected'
    if (current === undefined && this.#state === 'connected') {
      this.#state = 'checking'
      this.#searchingSinceMs = now
    }
    if (current !== undefined && !current.isRelayed) {
      this.#retryMs = Number.POSITIVE_INFINITY
      this.#retryDelayMs = MIN_RETRY_MS
      this.#punching.end(now)
      this.#outstanding.forgetGuesses()
    }
    this.#tell(now)
  }

  #nominate(now: number): void {
    const best = this.#checklist.bestValid()
    if (best === undefined || best === this.#selected || best === this.#nominating) return
    const used = this.#nominating ?? this.#selected
    if (used?.state === 'valid' && used.unanswered < SILENT_CHECKS - 1 && !isBetter(best, used)) return
    this.#nomination++
    this.#nominating = best
    this.#ask(best, now, this.#nomination)
  }

  #tell(now: number): void {
    const pair = this.#current()
    const path = pair && this.#ground.path(pair.base, pair.remote.address, pair.isRelayed, now)
    const told = path === undefined ? '' : JSON.stringify(path)
    if (told === this.#told) return
    this.#told = told
    this.#ground.out.push({ kind: 'path', peer: this.peer, path, rttMs: pair?.rttMs })
  }
}

function isSilent(pair: Pair, now: number): boolean {
  const deadAfterMs = Math.max(SILENT_MS, 3 * (pair.rttMs ?? 0))
  return pair.unanswered >= SILENT_CHECKS && now - pair.silentSinceMs >= deadAfterMs
}
