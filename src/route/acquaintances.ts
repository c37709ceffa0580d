// Acquaintances: relays that this client has lately contacted itself, as a first hop, for the directory or to ask what its
// address looks like from outside. They know its address, so for some hours none of them should learn where it goes. Pure; the
// state is kept in a file, because a restart makes nobody forget.

/** For how long a relay counts as one that may remember this client's address. */
export const REMEMBERED_MS = 12 * 3_600_000
/** The one that was met longest ago goes first. */
const MAX_ACQUAINTANCES = 1_024
/** Meeting again changes nothing worth writing down before this. */
const FRESH_MS = 600_000

export class Acquaintances {
  /** When each was met last, Unix ms, oldest first. */
  readonly #metMs: Map<string, number>

  constructor(metMs: readonly (readonly [string, number])[] = []) {
    this.#metMs = new Map(metMs)
  }

  /** The relay learns this client's address now; true when that is worth keeping. */
  meet(id: string, now: number): boolean {
    const before = this.#metMs.get(id)
    if (before !== undefined && before <= now && now - before < FRESH_MS) return false
    this.#metMs.delete(id)
    this.#metMs.set(id, now)
    if (this.#metMs.size > MAX_ACQUAINTANCES) this.#metMs.delete(this.#metMs.keys().next().value ?? '')
    return true
  }

  /** Who may remember this client's address, by id. */
  all(now: number): Set<string> {
    for (const [id, metMs] of this.#metMs) if (now - metMs >= REMEMBERED_MS) this.#metMs.delete(id)
    return new Set(this.#metMs.keys())
  }

  encode(): string {
    return `${JSON.stringify({ version: 1, met: [...this.#metMs] })}\n`
  }

  /** Reads what `encode` wrote; `undefined` when it is anything else. */
  static decode(text: string): Acquaintances | undefined {
    try {
      const state = JSON.parse(text) as { version?: unknown; met?: unknown }
      if (state?.version !== 1 || !Array.isArray(state.met) || state.met.length > MAX_ACQUAINTANCES) return undefined
      return state.met.every(isMeeting) ? new Acquaintances(state.met) : undefined
    } catch {
      return undefined
    }
  }
}

function isMeeting(value: unknown): value is [string, number] {
  if (!Array.isArray(value) || value.length !== 2) return false
  const [id, metMs] = value as unknown[]
  return typeof id === 'string' && /^[0-9a-f]{64}$/.test(id) && Number.isSafeInteger(metMs) && Number(metMs) >= 0
}
