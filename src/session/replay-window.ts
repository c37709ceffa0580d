// Which packet counters were seen: a sliding window of 8,192 counters (RFC 6479's scheme, WireGuard's size).
//
// Counters come from authenticated packets only: `isFresh` may be asked before opening a packet, `mark` only after.

const WORDS = 256
const BITS = WORDS * 32
/** One word is always being cleared, so this many counters behind the newest are still told apart. */
export const REPLAY_WINDOW = BITS - 32

export class ReplayWindow {
  readonly #words = new Uint32Array(WORDS)
  #newest = -1

  /** The highest counter marked, -1 before the first. */
  get newest(): number {
    return this.#newest
  }

  /** Whether `counter` was neither seen nor is too old to tell. */
  isFresh(counter: number): boolean {
    if (counter > this.#newest) return true
    if (this.#newest - counter >= REPLAY_WINDOW) return false
    return ((this.#words[this.#word(counter)] ?? 0) & (1 << (counter % 32))) === 0
  }

  /** Records a counter for which `isFresh` holds. */
  mark(counter: number): void {
    if (counter > this.#newest) {
      const from = Math.floor(Math.max(this.#newest, 0) / 32)
      const to = Math.floor(counter / 32)
      const steps = Math.min(to - from, WORDS)
      for (let i = 1; i <= steps; i++) this.#words[(to - steps + i) % WORDS] = 0
      this.#newest = counter
    }
    const word = this.#word(counter)
    this.#words[word] = (this.#words[word] ?? 0) | (1 << (counter % 32))
  }

  #word(counter: number): number {
    return Math.floor(counter / 32) % WORDS
  }
}
