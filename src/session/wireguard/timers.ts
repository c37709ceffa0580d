// When a WireGuard peer does what of its own accord (WireGuard paper §6): a pure machine of five alarms.
//
//   alarm       set by                              unset by                    then
//   retransmit  initiation sent                     response                    initiation again, or give up
//   answer      data sent, 15 s                     any authenticated packet    initiation: nobody answers
//   keepalive   data received, 10 s                 any packet sent             an empty packet
//   zero        keys made, 540 s                                                keys are wiped
//   persistent  any authenticated packet            set to 0                    an empty packet
//
// A keepalive carries no data, so it sets neither `answer` at its sender nor `keepalive` at its receiver: no keepalive
// answers another. Times are in milliseconds.

/** A key seals at most this many packets. The paper has 2^64 - 2^13 - 1; our counters are numbers that stay exact. */
export const REJECT_AFTER_MESSAGES = 2 ** 48
/** The part of it after which keys are renewed: a sixteenth, as in the paper. */
export const REKEY_AFTER_MESSAGES_PART = 1 / 16
export const REKEY_AFTER_MS = 120_000
export const REJECT_AFTER_MS = 180_000
export const REKEY_ATTEMPT_MS = 90_000
export const REKEY_TIMEOUT_MS = 5_000
export const REKEY_JITTER_MS = 333
export const KEEPALIVE_TIMEOUT_MS = 10_000
/** At this age of the keys their initiator renews them when something is received. */
export const REKEY_ON_RECEIVE_MS = REJECT_AFTER_MS - KEEPALIVE_TIMEOUT_MS - REKEY_TIMEOUT_MS
const ZERO_KEYS_MS = REJECT_AFTER_MS * 3
const NEVER = Number.POSITIVE_INFINITY

/** What is to be done now. */
export type TimerAction = 'retransmit' | 'giveUp' | 'initiate' | 'keepalive' | 'zeroKeys'

export class PeerTimers {
  #retransmitAt = NEVER
  #answerAt = NEVER
  #keepaliveAt = NEVER
  #zeroAt = NEVER
  #persistentAt = NEVER
  #persistentMs = 0
  #needsAnotherKeepalive = false
  #attemptSince = NEVER
  #jitter = 0

  /** The persistent keepalive interval; 0 for none. */
  get persistentKeepaliveMs(): number {
    return this.#persistentMs
  }

  /** When `take` has something to give; Infinity for never. */
  deadline(): number {
    return Math.min(this.#retransmitAt, this.#answerAt, this.#keepaliveAt, this.#zeroAt, this.#persistentAt)
  }

  /** The next thing that is due, which from then on is done; `undefined` when nothing is. */
  take(now: number): TimerAction | undefined {
    if (this.#retransmitAt <= now) return this.#takeRetransmit(now)
    if (this.#answerAt <= now) {
      this.#answerAt = NEVER
      return 'initiate'
    }
    if (this.#keepaliveAt <= now) {
      this.#keepaliveAt = this.#needsAnotherKeepalive ? now + KEEPALIVE_TIMEOUT_MS : NEVER
      this.#needsAnotherKeepalive = false
      return 'keepalive'
    }
    if (this.#zeroAt <= now) {
      this.#zeroAt = NEVER
      return 'zeroKeys'
    }
    if (this.#persistentAt <= now) {
      this.#persistentAt = now + this.#persistentMs
      return 'keepalive'
    }
    return undefined
  }

  /** An initiation was sent; `jitter` is 0 to 1, and `isRetry` that `retransmit` asked for it. */
  initiationSent(now: number, jitter: number, isRetry: boolean): void {
    if (!isRetry || this.#attemptSince === NEVER) this.#attemptSince = now
    this.#jitter = jitter * REKEY_JITTER_MS
    this.#retransmitAt = now + REKEY_TIMEOUT_MS + this.#jitter
  }

  /** New keys were made, by either side's initiation. */
  keysMade(now: number): void {
    this.#zeroAt = now + ZERO_KEYS_MS
  }

  /** New keys are in use at both ends. */
  handshakeCompleted(): void {
    this.#retransmitAt = NEVER
    this.#attemptSince = NEVER
  }

  /** A packet with data was sent. */
  dataSent(now: number): void {
    if (this.#answerAt === NEVER) this.#answerAt = now + KEEPALIVE_TIMEOUT_MS + REKEY_TIMEOUT_MS + this.#jitter
  }

  /** An authenticated packet with data was received. */
  dataReceived(now: number): void {
    if (this.#keepaliveAt === NEVER) this.#keepaliveAt = now + KEEPALIVE_TIMEOUT_MS
    else this.#needsAnotherKeepalive = true
  }

  /** Anything was sent: a handshake message, data, a keepalive. */
  packetSent(now: number): void {
    this.#keepaliveAt = NEVER
    this.#needsAnotherKeepalive = false
    this.#movePersistent(now)
  }

  /** Anything authenticated was received. */
  packetReceived(now: number): void {
    this.#answerAt = NEVER
    this.#movePersistent(now)
  }

  /** Sets the persistent keepalive; 0 for none. The first one is the caller's to send. */
  setPersistentKeepalive(intervalMs: number, now: number): void {
    this.#persistentMs = intervalMs
    this.#persistentAt = intervalMs > 0 ? now + intervalMs : NEVER
  }

  /** Forgets everything but the persistent keepalive: the keys are gone, or the identity is another. */
  reset(): void {
    this.#retransmitAt = NEVER
    this.#answerAt = NEVER
    this.#keepaliveAt = NEVER
    this.#zeroAt = NEVER
    this.#attemptSince = NEVER
    this.#needsAnotherKeepalive = false
  }

  #movePersistent(now: number): void {
    if (this.#persistentMs > 0) this.#persistentAt = now + this.#persistentMs
  }

  #takeRetransmit(now: number): TimerAction {
    this.#retransmitAt = NEVER
    if (now - this.#attemptSince < REKEY_ATTEMPT_MS) return 'retransmit'
    this.#attemptSince = NEVER
    this.#keepaliveAt = NEVER
    this.#needsAnotherKeepalive = false
    if (this.#zeroAt === NEVER) this.#zeroAt = now + ZERO_KEYS_MS
    return 'giveUp'
  }
}
