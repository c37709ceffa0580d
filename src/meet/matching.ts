// Anonymous matching: who wants a peer asks one that serves, and nobody else learns who asked whom (docs/spec/letters.md).
//
//   asker    picks a server from the whole directory, at home; seals a request for its key
//   server   finds the request by opening what comes in its bucket; seals an answer for the key in the request
//
// Neither name nor address stands anywhere but inside. The asker's key serves for one request, so two requests cannot be
// told to be of one asker, not even by the server. Bounds: 16 requests at once; so many answers in a minute, and no more.

import type { Random } from '#crypto/random.ts'
import type { XWingKeyPair } from '#crypto/xwing.ts'
import { encodeMatch, MATCH_NONCE_BYTES, type MatchMessage } from '#wire/match.ts'
import type { Draft } from './letter.ts'

const MAX_ASKED = 16
const ASK_LIFETIME_MS = 60_000
const MINUTE_MS = 60_000

export interface MatchingOptions {
  readonly random: Random
  /** A key for one answer (keyInBucket). */
  readonly newKey: () => XWingKeyPair
  /** Letters for this key are now for us; and no longer. */
  readonly hold: (key: XWingKeyPair) => void
  readonly drop: (key: XWingKeyPair) => void
  /** Answers an offer with another, at once or a little later; `undefined` says no. Absent where nothing is served. */
  readonly serve?: (offer: Uint8Array, answer: Answer) => void
  readonly maxAnswersPerMinute: number
}

/** `onTurn`: the answer's turn to be posted has come; what is done about the asker before that would tell who asked. */
export type Answer = (offer: Uint8Array | undefined, onTurn?: () => void) => void

export type MatchEvent =
  | { readonly kind: 'answered'; readonly ask: string; readonly isAccepted: boolean; readonly offer: Uint8Array }
  | { readonly kind: 'unanswered'; readonly ask: string }

interface Asked {
  readonly key: XWingKeyPair
  readonly expiresMs: number
}

export class Matching {
  readonly #options: MatchingOptions
  readonly #asked = new Map<string, Asked>()
  readonly #drafts: Draft[] = []
  readonly #events: MatchEvent[] = []
  #answers = 0
  #minuteMs = Number.NEGATIVE_INFINITY

  constructor(options: MatchingOptions) {
    this.#options = options
  }

  /** Asks the holder of `serverKey`; names the request, or gives `undefined` when 16 are under way. */
  ask(serverKey: Uint8Array, offer: Uint8Array, now: number): string | undefined {
    if (this.#asked.size >= MAX_ASKED) return undefined
    const { random, newKey, hold } = this.#options
    const nonce = random(MATCH_NONCE_BYTES)
    const key = newKey()
    const ask = nameOf(nonce)
    this.#asked.set(ask, { key, expiresMs: now + ASK_LIFETIME_MS })
    hold(key)
    const content = encodeMatch({ kind: 'request', nonce, replyKey: key.publicKey, offer })
    this.#drafts.push({ to: serverKey, content })
    return ask
  }

  handle(message: MatchMessage, now: number): void {
    this.handleDeadline(now)
    if (message.kind === 'request') this.#answer(message, now)
    else if (this.#forget(nameOf(message.nonce)))
      this.#events.push({
        kind: 'answered',
        ask: nameOf(message.nonce),
        isAccepted: message.isAccepted,
        offer: Uint8Array.from(message.offer),
      })
  }

  deadline(): number {
    return Math.min(Number.POSITIVE_INFINITY, ...[...this.#asked.values()].map(({ expiresMs }) => expiresMs))
  }

  handleDeadline(now: number): void {
    for (const [ask, { expiresMs }] of this.#asked) {
      if (now < expiresMs) continue
      this.#forget(ask)
      this.#events.push({ kind: 'unanswered', ask })
    }
  }

  /** The drafts that are to be posted now. */
  take(): Draft[] {
    return this.#drafts.splice(0)
  }

  takeEvents(): MatchEvent[] {
    return this.#events.splice(0)
  }

  #answer(request: MatchMessage & { kind: 'request' }, now: number): void {
    const { serve, maxAnswersPerMinute } = this.#options
    if (serve === undefined) return
    if (now - this.#minuteMs >= MINUTE_MS) {
      this.#minuteMs = now
      this.#answers = 0
    }
    if (++this.#answers > maxAnswersPerMinute) return
    const nonce = Uint8Array.from(request.nonce)
    const to = Uint8Array.from(request.replyKey)
    serve(Uint8Array.from(request.offer), (offer, onTurn) => {
      const isAccepted = offer !== undefined
      const content = encodeMatch({ kind: 'answer', nonce, isAccepted, offer: offer ?? new Uint8Array(0) })
      this.#drafts.push({ to, content, ...(onTurn && { onTurn }) })
    })
  }

  /** Gives a request up; whatever answers it is not read. */
  withdraw(ask: string): void {
    this.#forget(ask)
  }

  #forget(ask: string): boolean {
    const asked = this.#asked.get(ask)
    if (asked === undefined) return false
    this.#asked.delete(ask)
    this.#options.drop(asked.key)
    return true
  }
}

function nameOf(nonce: Uint8Array): string {
  return Buffer.from(nonce).toString('hex')
}
