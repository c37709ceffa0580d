// A wallet: tokens, and what is under way with the issuer. A pure machine: it is told what happened, and says what to ask.
// Its state is one value; whoever keeps it writes it down after every change and before anything leaves the machine, so
// that a wallet that dies at any point knows afterwards what it owes and what it is owed.
//
//   balance ──withdrawal (blinded messages kept)──► tokens ──► hand ──shown──► a relay took it: settled
//      ▲                                              │          └──(refused, no answer, died)──► doubtful
//      └────────── deposit (a batch kept) ◄───────────┴────────────────────────────┘
//
// A withdrawal and a deposit are repeated, the same bytes, until they are answered. Tokens in the hand may be shown without
// writing again, and stay there until their relay has said that it took them; after a crash nobody knows which it did, so
// they are deposited: the issuer takes those that were not.

import type { Token } from '#wire/token.ts'

export const MAX_TOKENS = 4_096
export const MAX_WITHDRAWAL = 256
const MAX_HISTORY = 1_000
/** Tokens this close to their end are taken back to the issuer and withdrawn again. */
const RENEW_MS = 3 * 86_400_000

export interface WalletToken extends Token {
  readonly acceptedUntilMs: number
}

/** One message of a withdrawal, until its signature is there. */
export interface PendingToken {
  readonly nonce: Uint8Array
  readonly message: Uint8Array
  readonly inverse: Uint8Array
}

export interface Withdrawal {
  readonly keyId: Uint8Array
  readonly acceptedUntilMs: number
  readonly items: readonly PendingToken[]
}

export type HistoryKind =
  | 'withdrawn'
  | 'spent'
  | 'deposited'
  | 'voucher'
  | 'order'
  | 'lost'
  | 'restored'
  | 'sent'
  | 'received'

export interface HistoryEntry {
  readonly atMs: number
  readonly kind: HistoryKind
  readonly credits: number
}

export interface WalletAccount {
  readonly name: string
  readonly password: string
  readonly isRegistered: boolean
  /** Whether a person chose name and password; otherwise they are random. */
  readonly isNamed?: boolean
}

export interface WalletState {
  /** The issuer's id; a wallet has one issuer. */
  readonly issuerId: string
  /** The account at the issuer: both are secrets. */
  readonly account: WalletAccount
  readonly tokens: readonly WalletToken[]
  readonly hand: readonly WalletToken[]
  readonly doubtful: readonly WalletToken[]
  readonly withdrawal?: Withdrawal
  readonly deposit?: readonly WalletToken[]
  readonly history: readonly HistoryEntry[]
}

export interface WalletBalance {
  /** Ready to be spent. */
  readonly tokens: number
  /** Asked for, not yet received. */
  readonly withdrawing: number
  /** On the way back to the issuer. */
  readonly depositing: number
  /** In the hand when the wallet died: perhaps spent. */
  readonly doubtful: number
}

/** A wallet that has nothing yet. */
export function emptyWallet(
  issuerId: string,
  account: { readonly name: string; readonly password: string },
): WalletState {
  return { issuerId, account: { ...account, isRegistered: false }, tokens: [], hand: [], doubtful: [], history: [] }
}

export class Wallet {
  #state: WalletState
  /** Those of the hand that a relay has seen. */
  readonly #shown = new Set<WalletToken>()

  /** Goes on from a state that was written down. What was in the hand then may have been spent. */
  constructor(state: WalletState) {
    const { hand, doubtful } = state
    this.#state = hand.length === 0 ? state : { ...state, hand: [], doubtful: [...doubtful, ...hand] }
  }

  /** What is to be written down. */
  get state(): WalletState {
    return this.#state
  }

  balance(): WalletBalance {
    const { tokens, hand, doubtful, withdrawal, deposit } = this.#state
    return {
      tokens: tokens.length + hand.length,
      withdrawing: withdrawal?.items.length ?? 0,
      depositing: deposit?.length ?? 0,
      doubtful: doubtful.length,
    }
  }

  /** How many more tokens the wallet may hold. */
  room(): number {
    const { tokens, withdrawing, depositing, doubtful } = this.balance()
    return Math.max(0, MAX_TOKENS - tokens - withdrawing - depositing - doubtful)
  }

  registered(): void {
    this.#change({ account: { ...this.#state.account, isRegistered: true } })
  }

  /** Uses another account from now on. Nothing may be under way with the one before. */
  useAccount(account: WalletAccount): void {
    const { withdrawal, deposit } = this.#state
    if (withdrawal !== undefined || deposit !== undefined)
      throw new Error('use another account: something is under way')
    this.#change({ account })
  }

  /** Begins a withdrawal: `withdrawal` of the state is now to be asked for. One at a time. */
  beginWithdrawal(withdrawal: Withdrawal): void {
    const count = withdrawal.items.length
    if (this.#state.withdrawal !== undefined) throw new Error('begin a withdrawal: one is under way')
    if (count < 1 || count > Math.min(MAX_WITHDRAWAL, this.room())) throw new RangeError('begin a withdrawal: no room')
    this.#change({ withdrawal })
  }

  /** The issuer signed: `tokens` are those whose signatures hold. */
  finishWithdrawal(tokens: readonly WalletToken[], now: number): void {
    const { withdrawal, ...state } = this.#state
    if (withdrawal === undefined) return
    this.#state = { ...state, tokens: [...state.tokens, ...tokens] }
    this.#note('withdrawn', tokens.length, now)
    if (tokens.length < withdrawal.items.length) this.#note('lost', withdrawal.items.length - tokens.length, now)
  }

  /** The issuer refused: nothing was paid. */
  dropWithdrawal(): void {
    const { withdrawal: _, ...state } = this.#state
    this.#state = state
  }

  /**
   * Takes up to `count` tokens in the hand, those that end first; the state must be written down before one is spent.
   * Returns how many are in the hand and were not shown.
   */
  takeInHand(count: number, now: number): number {
    const { tokens, hand } = this.#state
    const good = tokens.filter(token => token.acceptedUntilMs > now)
    const ready = hand.length - this.#shown.size
    const taken = good.toSorted((a, b) => a.acceptedUntilMs - b.acceptedUntilMs).slice(0, Math.max(0, count - ready))
    const isTaken = new Set<WalletToken>(taken)
    if (taken.length > 0)
      this.#change({ tokens: tokens.filter(token => !isTaken.has(token)), hand: [...hand, ...taken] })
    return this.#state.hand.length - this.#shown.size
  }

  /** A token to show to a relay; `undefined` when the hand has none. It is to be settled or doubted. */
  show(): WalletToken | undefined {
    const token = this.#state.hand.find(token => !this.#shown.has(token))
    if (token !== undefined) this.#shown.add(token)
    return token
  }

  /** A relay took a token that was shown. */
  settle(token: WalletToken, now: number): void {
    if (!this.#shown.delete(token)) return
    this.#change({ hand: this.#state.hand.filter(other => other !== token) })
    this.#note('spent', 1, now)
  }

  /** Puts back what is in the hand and nobody has seen. */
  putBack(): void {
    const { tokens, hand } = this.#state
    const unseen = hand.filter(token => !this.#shown.has(token))
    if (unseen.length > 0)
      this.#change({ tokens: [...tokens, ...unseen], hand: hand.filter(token => this.#shown.has(token)) })
  }

  /** Up to `count` tokens for another wallet, which are then no longer this one's. */
  takeOut(count: number, now: number): readonly WalletToken[] {
    const taken = this.#state.tokens.slice(0, count)
    if (taken.length === 0) return []
    this.#change({ tokens: this.#state.tokens.slice(taken.length) })
    this.#note('sent', taken.length, now)
    return taken
  }

  /** Tokens of another wallet: nobody here knows whether they were spent. */
  takeIn(tokens: readonly WalletToken[], now: number): void {
    if (tokens.length > this.room()) throw new RangeError('take tokens in: no room')
    this.#change({ doubtful: [...this.#state.doubtful, ...tokens] })
    this.#note('received', tokens.length, now)
  }

  /** A token that was shown, and that its relay perhaps did not take. */
  doubt(token: WalletToken): void {
    if (!this.#shown.delete(token)) return
    const { hand, doubtful } = this.#state
    this.#change({ hand: hand.filter(other => other !== token), doubtful: [...doubtful, token] })
  }

  /**
   * Begins a deposit of doubtful tokens, then of others up to `count`: `deposit` of the state is now to be asked for. Returns
   * how many there are, 0 when there is nothing to do.
   */
  beginDeposit(count: number): number {
    const { deposit, doubtful, tokens } = this.#state
    if (deposit !== undefined) return deposit.length
    const first = doubtful.slice(0, MAX_WITHDRAWAL)
    const more = tokens.slice(0, Math.max(0, Math.min(count, MAX_WITHDRAWAL - first.length)))
    if (first.length + more.length === 0) return 0
    this.#change({
      deposit: [...first, ...more],
      doubtful: doubtful.slice(first.length),
      tokens: tokens.slice(more.length),
    })
    return first.length + more.length
  }

  /** The issuer took `taken` of the deposit's tokens; the rest had been spent, or has expired. */
  finishDeposit(taken: number, now: number): void {
    const { deposit: _, ...state } = this.#state
    this.#state = state
    if (taken > 0) this.#note('deposited', taken, now)
  }

  /** Moves tokens near their end to the doubtful ones, from where they are deposited. Returns how many. */
  retire(now: number): number {
    const { tokens, doubtful } = this.#state
    const ending = tokens.filter(token => token.acceptedUntilMs - now < RENEW_MS)
    if (ending.length === 0) return 0
    const rest = tokens.filter(token => token.acceptedUntilMs - now >= RENEW_MS)
    this.#change({ tokens: rest, doubtful: [...doubtful, ...ending] })
    return ending.length
  }

  /** Writes into the history, which nobody else has; the oldest entries go first, and spending of one day is one entry. */
  note(kind: HistoryKind, credits: number, now: number): void {
    this.#note(kind, credits, now)
  }

  #note(kind: HistoryKind, credits: number, now: number): void {
    const { history } = this.#state
    const last = history.at(-1)
    const isSame = kind === 'spent' && last?.kind === kind && sameDay(last.atMs, now)
    const entry = { atMs: isSame ? last.atMs : now, kind, credits: credits + (isSame ? last.credits : 0) }
    this.#change({ history: [...(isSame ? history.slice(0, -1) : history), entry].slice(-MAX_HISTORY) })
  }

  #change(change: Partial<WalletState>): void {
    this.#state = { ...this.#state, ...change }
  }
}

/** The state of a backup: nothing in it is certain to be unspent. */
export function restoredWallet(state: WalletState, now: number): WalletState {
  const { tokens, hand, doubtful, history } = state
  const all = [...doubtful, ...hand, ...tokens]
  const entry = { atMs: now, kind: 'restored' as const, credits: all.length }
  return { ...state, tokens: [], hand: [], doubtful: all, history: [...history, entry].slice(-MAX_HISTORY) }
}

function sameDay(a: number, b: number): boolean {
  return Math.floor(a / 86_400_000) === Math.floor(b / 86_400_000)
}
