// Guards: the few relays that a client enters by, for months. Who saw a client's address once goes on seeing it; who did
// not, does not get a chance with every new route. Pure; the state is kept in a file.
//
// Three guards are drawn, weighted by capacity, each for 60 to 120 days. One that does not answer is tried again later
// and keeps its place: else an attacker could go through a client's guards by knocking them out.

import type { Random } from '#crypto/random.ts'
import { areRelated, type Candidate, chooseRoute } from './choose.ts'

export const GUARD_COUNT = 3
const DAY_MS = 86_400_000
const MIN_LIFETIME_MS = 60 * DAY_MS
const MAX_LIFETIME_MS = 120 * DAY_MS
/** A guard that left the directory for this long is replaced. */
const GONE_MS = 14 * DAY_MS
const FIRST_REST_MS = 10_000
const MAX_REST_MS = 3_600_000

export interface Guard {
  readonly id: string
  /** Unix ms. */
  readonly untilMs: number
  /** When the directory last had it, Unix ms. */
  readonly seenMs: number
  readonly failures: number
  /** Not tried before this, Unix ms. */
  readonly restUntilMs: number
}

export class Guards {
  #guards: Guard[]

  constructor(guards: readonly Guard[] = []) {
    this.#guards = guards.slice(0, GUARD_COUNT)
  }

  get all(): readonly Guard[] {
    return this.#guards
  }

  /** The guards to enter by now, best first: those that answer, then those that rest, soonest first. */
  order(now: number): string[] {
    const rests = (guard: Guard) => (guard.restUntilMs > now ? guard.restUntilMs : 0)
    return [...this.#guards].sort((a, b) => rests(a) - rests(b)).map(({ id }) => id)
  }

  /** Draws guards until there are enough, and drops those whose time is over; true when anything changed. */
  maintain(relays: readonly Candidate[], random: Random, now: number): boolean {
    const before = this.#guards
    const known = new Map(relays.map(relay => [relay.id, relay]))
    this.#guards = before
      .map(guard => (known.has(guard.id) && now - guard.seenMs > DAY_MS ? { ...guard, seenMs: now } : guard))
      .filter(guard => guard.untilMs > now && now - guard.seenMs < GONE_MS)
    while (this.#guards.length < GUARD_COUNT) {
      const held = this.#guards.flatMap(guard => known.get(guard.id) ?? [])
      const fresh = relays.filter(relay => !this.#guards.some(({ id }) => id === relay.id))
      const unrelated = fresh.filter(relay => !held.some(other => areRelated(relay, other)))
      // An exit should not know its client from elsewhere: one becomes a guard only where there is nobody else at all.
      const chosen =
        draw(unrelated.filter(isNoExit), random) ??
        draw(fresh.filter(isNoExit), random) ??
        (this.#guards.length === 0 ? draw(fresh, random) : undefined)
      if (chosen === undefined) break
      const share = Buffer.from(random(4)).readUInt32BE(0) / 2 ** 32
      const untilMs = Math.round(now + MIN_LIFETIME_MS + share * (MAX_LIFETIME_MS - MIN_LIFETIME_MS))
      this.#guards = [...this.#guards, { id: chosen.id, untilMs, seenMs: now, failures: 0, restUntilMs: 0 }]
    }
    return JSON.stringify(before) !== JSON.stringify(this.#guards)
  }

  /** The guard answered. */
  handleSuccess(id: string): void {
    this.#replace(id, guard => ({ ...guard, failures: 0, restUntilMs: 0 }))
  }

  /** The guard did not answer: it rests, longer each time. */
  handleFailure(id: string, now: number): void {
    this.#replace(id, guard => ({
      ...guard,
      failures: guard.failures + 1,
      restUntilMs: now + Math.min(FIRST_REST_MS * 2 ** guard.failures, MAX_REST_MS),
    }))
  }

  encode(): string {
    return `${JSON.stringify({ version: 1, guards: this.#guards })}\n`
  }

  /** Reads what `encode` wrote; `undefined` when it is anything else. */
  static decode(text: string): Guards | undefined {
    try {
      const state = JSON.parse(text) as { version?: unknown; guards?: unknown }
      if (state?.version !== 1 || !Array.isArray(state.guards) || state.guards.length > GUARD_COUNT) return undefined
      return state.guards.every(isGuard) ? new Guards(state.guards) : undefined
    } catch {
      return undefined
    }
  }

  #replace(id: string, change: (guard: Guard) => Guard): void {
    this.#guards = this.#guards.map(guard => (guard.id === id ? change(guard) : guard))
  }
}

function draw(relays: readonly Candidate[], random: Random): Candidate | undefined {
  const asExits = relays
    .filter(relay => relay.roles.includes('guard'))
    .map(relay => ({ ...relay, roles: ['exit' as const] }))
  const chosen = chooseRoute({ relays: asExits, hopCount: 1, random })
  return 'exit' in chosen ? chosen.exit : undefined
}

function isNoExit(relay: Candidate): boolean {
  return !relay.roles.includes('exit')
}

function isGuard(value: unknown): value is Guard {
  const guard = value as Guard
  return (
    typeof guard === 'object' &&
    guard !== null &&
    /^[0-9a-f]{64}$/.test(guard.id) &&
    [guard.untilMs, guard.seenMs, guard.failures, guard.restUntilMs].every(n => Number.isSafeInteger(n) && n >= 0)
  )
}
