// How large packets may be along a path, found by sending some that nobody would miss (RFC 8899, for a path without trusted
// ICMP). A pure machine: it says which probe to send and what size holds, the caller sends and times nothing.
//
//            ┌────────────────────────── raise, every 10 minutes ───────────────────────┐
//            ▼                                                                          │
//   base ──answer──► searching ──nothing left between what passes and what does not──► complete
//     ▲                                                                                 │  ▲
//     │                                                          every 30 s of use,     │  │ answer
//     │                                                          or on suspicion        ▼  │
//     └───────────────────── 3 probes in a row unanswered ──────────────────────── confirming
//
// Sizes are in bytes, of what the caller sends. The largest is tried first, as it mostly passes; then halves. A probe is as
// long as a packet of its size, and the other end answers it; the answer is authenticated, so its size is a fact. Three
// lost probes of a size mean that it does not pass: a loss tells nothing else, and no data is ever sent larger than what
// has passed. When the size in use passes no more (a black hole), the floor holds at once, the base as soon as it is answered,
// and the search begins below what was lost. When the base is not answered at the start, the floor holds until it is.

/** Searches begin here: the size that every host of IPv6 expects of a link (RFC 8200 §5). */
export const BASE_MTU = 1_280
const MAX_PROBES = 3
/** Finer than this is not searched. */
const STEP = 16
const PROBE_TIMEOUT_MS = 1_000
/** The base is probed for as long as it is unanswered, ever less often. */
const MAX_BASE_TIMEOUT_MS = 60_000
const CONFIRM_MS = 30_000
const RAISE_MS = 600_000

/** `probe`: send a packet of `size` bytes and say when it was answered. `resize`: packets may have `size` bytes from now on. */
export type PathMtuCommand = { readonly kind: 'probe' | 'resize'; readonly size: number }

interface Probe {
  readonly size: number
  readonly tries: number
  readonly dueMs: number
}

type State =
  | { readonly kind: 'base'; readonly probe: Probe; readonly tooLarge: number }
  /** Nothing of `tooLarge` bytes and more passes, as far as is known. */
  | { readonly kind: 'searching'; readonly probe: Probe; readonly tooLarge: number }
  | { readonly kind: 'complete'; readonly raiseMs: number; readonly confirmMs: number }
  | { readonly kind: 'confirming'; readonly probe: Probe; readonly raiseMs: number }

export interface PathMtuOptions {
  /** What the first network on the path carries, in bytes: nothing larger is tried. */
  readonly max: number
  /** What holds while the base is unanswered; the base itself unless told. */
  readonly floor?: number
  /** What holds at first: the base or less. */
  readonly begin?: number
  readonly now: number
  /** How long an answer may take, when the round trip is known to be long; at least a second (RFC 8899 §5.1.1). */
  readonly timeoutMs?: number
}

export class PathMtu {
  readonly #max: number
  readonly #floor: number
  readonly #timeoutMs: number
  #commands: PathMtuCommand[] = []
  #state: State
  #mtu: number
  #isUsed = false

  constructor({ max, floor = BASE_MTU, begin = BASE_MTU, now, timeoutMs = PROBE_TIMEOUT_MS }: PathMtuOptions) {
    this.#max = Math.max(max, BASE_MTU)
    this.#floor = floor
    this.#mtu = begin
    this.#timeoutMs = Math.max(timeoutMs, PROBE_TIMEOUT_MS)
    this.#state = this.#base(this.#max + 1, now)
  }

  /** The size of packets that pass. */
  get mtu(): number {
    return this.#mtu
  }

  /** Packets were sent: a black hole would be felt. */
  handleUse(): void {
    this.#isUsed = true
  }

  /** Something hints that large packets get lost: the size in use is confirmed at once. */
  handleSuspicion(now: number): void {
    const state = this.#state
    if (state.kind === 'complete' && this.#mtu > this.#floor) {
      this.#state = { kind: 'confirming', probe: this.#send(this.#mtu, 1, now), raiseMs: state.raiseMs }
    }
  }

  /** The other end has answered a probe of `size` bytes. */
  handleAnswer(size: number, now: number): void {
    const state = this.#state
    switch (state.kind) {
      case 'base':
        if (size !== BASE_MTU) return
        if (this.#mtu < BASE_MTU) this.#resize(BASE_MTU)
        return this.#search(state.tooLarge, now)
      case 'searching':
        // The answer to an earlier probe may come late, and is a fact nonetheless.
        if (size <= this.#mtu || size >= state.tooLarge) return
        this.#resize(size)
        if (size >= state.probe.size) this.#search(state.tooLarge, now)
        return
      case 'confirming':
        if (size === this.#mtu) this.#complete(now, state.raiseMs)
        return
      case 'complete':
        return
      default:
        return state satisfies never
    }
  }

  deadline(): number {
    const state = this.#state
    switch (state.kind) {
      case 'base':
      case 'searching':
      case 'confirming':
        return state.probe.dueMs
      case 'complete':
        return Math.min(state.raiseMs, state.confirmMs)
      default:
        return state satisfies never
    }
  }

  handleDeadline(now: number): void {
    const state = this.#state
    if (now < this.deadline()) return
    switch (state.kind) {
      case 'base':
        if (state.probe.tries >= MAX_PROBES && this.#mtu > this.#floor) this.#resize(this.#floor)
        this.#state = { ...state, probe: this.#send(BASE_MTU, state.probe.tries + 1, now) }
        return
      case 'searching': {
        const { size, tries } = state.probe
        if (tries >= MAX_PROBES) this.#search(size, now)
        else this.#state = { ...state, probe: this.#send(size, tries + 1, now) }
        return
      }
      case 'confirming':
        this.#handleUnconfirmed(state.probe.tries, state.raiseMs, now)
        return
      case 'complete':
        this.#handleComplete(state.raiseMs, now)
        return
      default:
        state satisfies never
    }
  }

  /** The next command; undefined when there is none. At most three wait. */
  take(): PathMtuCommand | undefined {
    return this.#commands.shift()
  }

  #handleUnconfirmed(tries: number, raiseMs: number, now: number): void {
    if (tries < MAX_PROBES) {
      this.#state = { kind: 'confirming', probe: this.#send(this.#mtu, tries + 1, now), raiseMs }
      return
    }
    const held = this.#mtu
    // If the base passes, that is known in a round trip; if it does not, nothing stands still for three probes more.
    this.#resize(this.#floor)
    this.#state = this.#base(held > BASE_MTU ? held : this.#max + 1, now)
  }

  #handleComplete(raiseMs: number, now: number): void {
    if (now >= raiseMs) return this.#search(this.#max + 1, now)
    const isWorthIt = this.#isUsed && this.#mtu > this.#floor
    if (!isWorthIt) return this.#complete(now, raiseMs)
    this.#state = { kind: 'confirming', probe: this.#send(this.#mtu, 1, now), raiseMs }
  }

  #base(tooLarge: number, now: number): State {
    return { kind: 'base', probe: this.#send(BASE_MTU, 1, now), tooLarge }
  }

  /** Goes on between what holds and what is too large: at the top, if that is the largest of all, else halfway. */
  #search(tooLarge: number, now: number): void {
    const gap = tooLarge - this.#mtu
    const isTop = tooLarge > this.#max
    if (gap <= 1 || (gap < STEP && !isTop)) return this.#complete(now, now + RAISE_MS)
    const size = isTop ? tooLarge - 1 : this.#mtu + (gap >>> 1)
    this.#state = { kind: 'searching', probe: this.#send(size, 1, now), tooLarge }
  }

  #complete(now: number, raiseMs: number): void {
    this.#isUsed = false
    this.#state = { kind: 'complete', raiseMs, confirmMs: now + CONFIRM_MS }
  }

  #resize(size: number): void {
    this.#mtu = size
    this.#commands = this.#commands.filter(({ kind }) => kind !== 'resize')
    this.#commands.push({ kind: 'resize', size })
  }

  #send(size: number, tries: number, now: number): Probe {
    this.#commands = this.#commands.filter(({ kind }) => kind !== 'probe')
    this.#commands.push({ kind: 'probe', size })
    const backoff = size === BASE_MTU ? 2 ** Math.min(Math.max(tries - MAX_PROBES, 0), 6) : 1
    return {
      size,
      tries,
      dueMs: now + Math.min(this.#timeoutMs * backoff, Math.max(MAX_BASE_TIMEOUT_MS, this.#timeoutMs)),
    }
  }
}
