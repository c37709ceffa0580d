// How much is sent to an address that never answered. A peer chooses the addresses that we check, so it could point us at
// somebody else: until an answer has come from an IP address, all peers together may cause this much and no more.
//
// Only answers prove: the sender of a request can be forged, a transaction id cannot be guessed.
// Bound: 1,024 addresses; the one that was used longest ago goes first.

const MAX_TARGETS = 1_024
const CHECKS = 160
const GUESSES = 4_500
const CHECK_REFILL_MS = 2_000
const GUESS_REFILL_MS = 2_000
const PROVEN_MS = 120_000
/** A stranger says where he is: fewer checks, and no guesses until somebody else has said so too. */
const STRANGERS_CHECKS = 48
const STRANGERS_REFILL_MS = 10_000
/** For one try of either part (punch.ts). */
const STRANGERS_GUESSES = 2_048
const MAX_VOUCHED = 2
const VOUCH_EVERY_MS = 30_000
const VOUCH_HOST_EVERY_MS = 600_000

interface Target {
  checks: number
  guesses: number
  refilledMs: number
  provenMs: number
  vouchedMs: number
}

export class ProbeBudget {
  readonly #targets = new Map<string, Target>()
  readonly #checks: number
  readonly #guesses: number
  readonly #refillMs: number
  readonly #isForStrangers: boolean
  /** Hosts that may be vouched for now. */
  #vouches = MAX_VOUCHED
  #vouchedMs = Number.NEGATIVE_INFINITY

  constructor(isForStrangers = false) {
    this.#isForStrangers = isForStrangers
    this.#checks = isForStrangers ? STRANGERS_CHECKS : CHECKS
    this.#guesses = isForStrangers ? 0 : GUESSES
    this.#refillMs = isForStrangers ? STRANGERS_REFILL_MS : CHECK_REFILL_MS
  }

  /** Whether one more datagram may be sent to that host; it counts as sent. */
  spend(host: string, kind: 'check' | 'guess', now: number): boolean {
    const target = this.#target(host, now)
    if (now - target.provenMs < PROVEN_MS && kind === 'check') return true
    const elapsedMs = now - target.refilledMs
    target.refilledMs = now
    target.checks = Math.min(this.#checks, target.checks + elapsedMs / this.#refillMs)
    if (!this.#isForStrangers) target.guesses = Math.min(this.#guesses, target.guesses + elapsedMs / GUESS_REFILL_MS)
    const field = kind === 'check' ? 'checks' : 'guesses'
    if (target[field] < 1) return false
    target[field]--
    return true
  }

  /** An answer came from there. */
  prove(host: string, now: number): void {
    const target = this.#target(host, now)
    target.provenMs = now
    target.checks = this.#checks
    target.guesses = this.#guesses
  }

  /**
   * Somebody whom a stranger did not choose says that the stranger is at that host: ports may be guessed there, 2,048 of them. Of one
   * host once in ten minutes, of all together one in 30 s and two at once, so that whoever has others say so gains little; false when
   * that is not yet.
   */
  vouch(host: string, now: number): boolean {
    const target = this.#target(host, now)
    this.#vouches = Math.min(MAX_VOUCHED, this.#vouches + (now - this.#vouchedMs) / VOUCH_EVERY_MS)
    this.#vouchedMs = now
    if (this.#vouches < 1 || now - target.vouchedMs < VOUCH_HOST_EVERY_MS) return false
    this.#vouches--
    target.vouchedMs = now
    target.guesses = STRANGERS_GUESSES
    return true
  }

  #target(host: string, now: number): Target {
    const known = this.#targets.get(host)
    const target = known ?? {
      checks: this.#checks,
      guesses: this.#guesses,
      refilledMs: now,
      provenMs: Number.NEGATIVE_INFINITY,
      vouchedMs: Number.NEGATIVE_INFINITY,
    }
    this.#targets.delete(host)
    this.#targets.set(host, target)
    if (this.#targets.size > MAX_TARGETS) {
      for (const oldest of this.#targets.keys()) {
        this.#targets.delete(oldest)
        break
      }
    }
    return target
  }
}
