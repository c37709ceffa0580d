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

import type { Address } from '#wire/address.ts'
import type { PathOffer } from '#wire/path-offer.ts'
import type { DecodedStun } from '#wire/stun.ts'
import type { Base } from './base.ts'
import { Checklist, isBetter, type Pair } from './checklist.ts'
import { Checks } from './checks.ts'
import type { Ground, Path } from './ground.ts'
import { BUSY_CHECK_MS, isSilent, type Keeping, nextAskMs, SILENT_CHECKS } from './keeping.ts'
import { Offering } from './offering.ts'
import type { Check } from './outstanding.ts'
import { Punching } from './punching.ts'
import { RemoteAddresses } from './remote-addresses.ts'
import { Retransmission } from './retransmission.ts'

export interface AgentOptions {
  readonly peer: number
  /** Exactly one side is; if both think so, the tie-breaker decides (RFC 8445 §7.3.1.1). */
  readonly isControlling: boolean
  readonly ground: Ground
}

export type AgentState = 'waiting' | 'checking' | 'connected' | 'failed' | 'closed'

const TA_MS = 50
const BUSY_FOR_MS = 6_000
const WORRIED_CHECKS = 2
/** Without a direct path everything is tried anew after this long, doubled each time. */
const MIN_RETRY_MS = 4_000
const MAX_RETRY_MS = 120_000
const FAILED_MS = 300_000
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
  readonly #checks: Checks
  readonly #checklist = new Checklist()
  readonly #punching: Punching
  readonly #addresses = new RemoteAddresses()
  #state: AgentState = 'waiting'
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
    this.#offering = new Offering(ground, now)
    this.#checks = new Checks(ground, this.#offering, isControlling)
    this.#punching = new Punching(peer, ground, this.#checklist)
    this.#searchingSinceMs = now
  }

  /** Transaction ids of ours begin with it, so that answers find us (`tagOf`). */
  get tag(): string {
    return this.#checks.tag
  }

  get state(): AgentState {
    return this.#state
  }

  /** The names by which the peer's checks are for us. */
  get ufrags(): readonly string[] {
    return this.#offering.credentials.map(({ ufrag }) => ufrag)
  }

  get isControlling(): boolean {
    return this.#checks.isControlling
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
    const last = this.#checks.remote
    if (last !== undefined) {
      if (offer.generation < last.generation) return
      if (offer.generation === last.generation && offer.revision <= last.revision) return
    }
    this.#checks.learn(offer)
    this.#addresses.offer(offer.candidates)
    this.#checklist.learn(this.#addresses.offered)
    for (const { base, from, priority, nominated } of this.#early.splice(0)) {
      this.#trigger(base, from, priority, nominated, now)
    }
    this.#search(now)
  }

  /** Our bases or candidates changed. */
  handleGroundChange(now: number): void {
    if (this.#state === 'closed') return
    this.#offering.soon(now)
    if (this.#checks.remote !== undefined) this.#checklist.form(this.#ground.bases(this.peer), this.#addresses.all())
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
    if (this.#checks.remote !== undefined) this.#search(now)
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

  /** Of a stranger, whose word alone is not enough: guesses ports this once, if that is of use. */
  guessOnce(now: number): void {
    if (this.#state !== 'closed' && this.#current()?.isRelayed !== false) this.#punch(now, true)
  }

  /** A socket that was asked for. */
  addSocket(base: Base): void {
    this.#punching.addSocket(base)
  }

  close(): void {
    this.#state = 'closed'
    this.#checklist.clear()
    this.#checks.clear()
    this.#punching.close()
    this.#triggered = []
    this.#selected = undefined
    this.#nominating = undefined
  }

  /** Takes a binding request whose USERNAME is ours; nothing is done unless it proves the password. */
  handleRequest(bytes: Uint8Array, message: DecodedStun, from: Address, base: Base, now: number): void {
    if (this.#state === 'closed') return
    const heard = this.#checks.handleRequest(bytes, message, from, base, now)
    if (heard === undefined) return
    if (heard.isRoleChanged) this.#nominating = undefined
    this.#trigger(base, from, heard.priority, heard.nomination, now)
    this.#settle(now)
  }

  /** Takes an answer whose transaction id has our tag. */
  handleAnswer(bytes: Uint8Array, message: DecodedStun, from: Address, base: Base, now: number): void {
    const outcome = this.#checks.handleAnswer(bytes, message, from, base)
    if (outcome === undefined) return
    const { check } = outcome
    if (outcome.kind === 'roleConflict') {
      const pair = this.#checklist.get(check.base, check.to)
      if (pair?.state === 'inProgress') this.#retrigger(pair)
      return
    }
    this.#ground.budget.prove(from.host, now)
    this.#confirm(check, now)
    this.#settle(now)
  }

  deadline(): number {
    if (this.#state === 'closed') return Number.POSITIVE_INFINITY
    let due = this.#offering.deadline()
    if (this.#state === 'waiting' || this.#state === 'failed') return due
    due = Math.min(due, this.#retryMs, this.#punching.deadline())
    const keeping = this.#keeping()
    let isWaiting = this.#triggered.length > 0
    for (const pair of this.#checklist.pairs()) {
      if (pair.state === 'waiting') isWaiting = true
      else if (pair.check !== undefined) due = Math.min(due, pair.check.timer.dueMs)
      else if (pair.state === 'valid') due = Math.min(due, nextAskMs(pair, keeping))
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
    for (const { base, to } of this.#punching.handleDeadline(now)) this.#checks.send(base, to, now, undefined, true)
    if (this.#retryMs <= now) this.#retry(now)
    this.#settle(now)
  }

  #current(): Pair | undefined {
    const { state, unanswered } = this.#selected ?? { state: 'failed', unanswered: 0 }
    return state === 'valid' && unanswered < SILENT_CHECKS ? this.#selected : this.#checklist.bestValid()
  }

  #search(now: number): void {
    if (this.#checks.remote === undefined) return
    this.#checklist.form(this.#ground.bases(this.peer), this.#addresses.all())
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
    this.#checklist.form(this.#ground.bases(this.peer), this.#addresses.all())
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
    const bytes = this.#checks.send(pair.base, pair.remote.address, now)
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
    this.#checks.send(pair.base, pair.remote.address, now, nomination)
  }

  /** A check was answered: the pair works. */
  #confirm(check: Check, now: number): void {
    const { base, to, nomination } = check
    const pair = this.#checklist.get(base, to) ?? this.#checklist.add(base, this.#addresses.seen(base, to, 0))
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
    if (!this.#checks.isControlling && pair.nominated > 0 && pair.nominated >= this.#nomination) this.#accept(pair)
  }

  // ---- the peer's checks

  #trigger(base: Base, from: Address, priority: number, nominated: number, now: number): void {
    if (this.#checks.remote === undefined) {
      if (this.#early.length < MAX_EARLY) this.#early.push({ base, from: { ...from }, priority, nominated })
      return
    }
    const known = this.#checklist.get(base, from)
    const pair = known ?? this.#checklist.add(base, this.#addresses.seen(base, from, priority))
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

  #accept(pair: Pair): void {
    this.#nomination = Math.max(this.#nomination, pair.nominated)
    this.#selected = pair
  }

  // ---- keeping what works

  #keeping(): Keeping {
    return {
      kept: this.#checklist.kept(this.#current()),
      busyUntilMs: this.#busyUntilMs,
      keepaliveMs: this.#ground.keepaliveMs(),
    }
  }

  #keep(now: number): void {
    const current = this.#current()
    const keeping = this.#keeping()
    const isWorried = current !== undefined && current.unanswered >= WORRIED_CHECKS
    let wasLost = false
    for (const pair of this.#checklist.pairs()) {
      if (pair.state !== 'valid') continue
      const isDue = nextAskMs(pair, keeping) <= now
      if (isSilent(pair, now) || (isDue && !keeping.kept.includes(pair))) {
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

  #punch(now: number, isAllowed = this.#ground.guesses): void {
    const remote = isAllowed ? this.#checks.remote : undefined
    if (remote !== undefined && this.#punching.begin(remote.nat, remote.candidates, now)) {
      this.#checks.forgetGuesses()
    }
  }

  // ---- after every change

  #settle(now: number): void {
    if (this.#state === 'closed') return
    const current = this.#current()
    if (this.#checks.isControlling) this.#nominate(now)
    if (current !== undefined && this.#state !== 'connected') this.#state = 'connected'
    if (current === undefined && this.#state === 'connected') {
      this.#state = 'checking'
      this.#searchingSinceMs = now
    }
    if (current !== undefined && !current.isRelayed) {
      this.#retryMs = Number.POSITIVE_INFINITY
      this.#retryDelayMs = MIN_RETRY_MS
      this.#punching.end(now)
      this.#checks.forgetGuesses()
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
