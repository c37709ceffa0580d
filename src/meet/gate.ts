// Whether a letter may pass: what is checked before anybody spends an opening on it, or passes it on. Carriers and mailboxes
// have a gate for what goes through them, readers one for what they open.
//
//   form and size → the source's allowance → expiry → seen before → work
//
// Bounds: 65,536 letters remembered, in two generations of which the older is dropped whole; 1,024 sources, of which the
// one silent for longest goes first.

import { decodeLetterHead, type LetterHead } from '#wire/letter.ts'
import { letterId, workOf } from './work.ts'

const MAX_REMEMBERED = 32_768
const MAX_SOURCES = 1_024
/** Clocks may differ by this much. */
const SKEW_MS = 5 * 60_000

export interface GateOptions {
  /** The least work. */
  readonly workBits: number
  /** A letter may live this long at most. */
  readonly maxLifetimeMs: number
  /** Letters that one source may bring, in a second and at once. */
  readonly perSecond: number
  readonly burst: number
}

export type Refused = 'malformed' | 'tooMany' | 'expired' | 'livesTooLong' | 'repeated' | 'tooLittleWork'

interface Allowance {
  letters: number
  atMs: number
}

export class LetterGate {
  readonly #options: GateOptions
  readonly #sources = new Map<string, Allowance>()
  #seen = new Set<string>()
  #seenBefore = new Set<string>()
  #sinceMs = 0

  constructor(options: GateOptions) {
    this.#options = options
  }

  /** How many letters and sources are remembered. */
  get size(): { readonly letters: number; readonly sources: number } {
    return { letters: this.#seen.size + this.#seenBefore.size, sources: this.#sources.size }
  }

  /** The head of a letter that may pass, from now on known; or why it may not. `source` is whoever handed it over. */
  admit(letter: Uint8Array, source: string, now: number): LetterHead | { readonly refused: Refused } {
    const { workBits, maxLifetimeMs } = this.#options
    const head = decodeLetterHead(letter)
    if (!this.#allows(source, now)) return { refused: 'tooMany' }
    if (head === undefined) return { refused: 'malformed' }
    if (head.expiresMs <= now - SKEW_MS) return { refused: 'expired' }
    if (head.expiresMs > now + maxLifetimeMs + SKEW_MS) return { refused: 'livesTooLong' }
    const id = letterId(letter)
    if (this.#seen.has(id) || this.#seenBefore.has(id)) return { refused: 'repeated' }
    if (workOf(letter) < workBits) return { refused: 'tooLittleWork' }
    this.#remember(id, now)
    return head
  }

  #allows(source: string, now: number): boolean {
    const { perSecond, burst } = this.#options
    const known = this.#sources.get(source)
    const earned = known === undefined ? burst : known.letters + ((now - known.atMs) * perSecond) / 1000
    const letters = Math.min(burst, Math.max(0, earned))
    this.#sources.delete(source)
    this.#sources.set(source, { letters: letters < 1 ? letters : letters - 1, atMs: now })
    if (this.#sources.size > MAX_SOURCES) this.#sources.delete(this.#sources.keys().next().value as string)
    return letters >= 1
  }

  /** A letter is remembered for as long as it could come again: a generation lasts a whole life. */
  #remember(id: string, now: number): void {
    const lastsMs = this.#options.maxLifetimeMs + 2 * SKEW_MS
    if (this.#seen.size >= MAX_REMEMBERED || now - this.#sinceMs >= lastsMs) {
      this.#seenBefore = now - this.#sinceMs >= 2 * lastsMs ? new Set() : this.#seen
      this.#seen = new Set()
      this.#sinceMs = now
    }
    this.#seen.add(id)
  }
}
