// What a relay earns: takes tokens, hands them in by batches, and says what it took. The relay's account at the issuer is that
// of its wallet, made at random; what it earned comes out again as new blind tokens.

import { type EpochEntry, epochOf, proveEntry, stateEpoch } from '#credit/epoch.ts'
import { type IssuerKeys, refuseToken, type TokenRefusal } from '#credit/keys.ts'
import { SpentFilter } from '#credit/spent-filter.ts'
import type { Random } from '#crypto/random.ts'
import type { Identity } from '#crypto/signature.ts'
import { type EarningsCounts, EarningsStore } from '#platform/state/earnings-store.ts'
import { decodeToken, encodeToken } from '#wire/token.ts'
import { Backoff } from '../backoff.ts'
import type { WalletKeeper } from '../wallet/wallet-keeper.ts'

/** A batch that is not full waits this long, so that the issuer learns little from when tokens come. */
const GATHER_MS = 10 * 60_000
const FULL_BATCH = 256
const FIRST_RETRY_MS = 5_000
const MAX_RETRY_MS = 30 * 60_000
const DAY_MS = 86_400_000

export interface EarningsOptions {
  readonly directory: string
  readonly wallet: WalletKeeper
  readonly random: Random
}

export class Earnings {
  readonly #store: EarningsStore
  readonly #filter: SpentFilter
  readonly #wallet: WalletKeeper
  #keys: IssuerKeys
  #nextMs = 0
  readonly #backoff: Backoff
  #isHandingIn = false

  /** Opens the store and fetches the issuer's keys, or takes those of the last time: tokens are checked offline. */
  static async open(options: EarningsOptions, now: number): Promise<Earnings> {
    const { wallet } = options
    const keys = await wallet.keys.current().catch(error => {
      const kept = wallet.keys.kept()
      if (kept === undefined) throw error
      return kept
    })
    return new Earnings(options, keys, now)
  }

  private constructor({ directory, wallet, random }: EarningsOptions, keys: IssuerKeys, now: number) {
    this.#store = new EarningsStore(directory)
    this.#filter = new SpentFilter(this.#store, random(16))
    this.#backoff = new Backoff({ firstMs: FIRST_RETRY_MS, mostMs: MAX_RETRY_MS, random })
    this.#wallet = wallet
    this.#keys = keys
    this.#nextMs = now + GATHER_MS
  }

  /** Takes a token that a client shows, for good; or says why not. One that cannot be written down stays the client's. */
  take(bytes: Uint8Array, now: number): TokenRefusal | 'malformed' | 'spent' | 'unwritten' | undefined {
    const token = decodeToken(bytes)
    if (token === undefined) return 'malformed'
    // The signature first: a stranger's guesses shall not reach the table.
    const refusal = refuseToken(token, this.#keys, now)
    if (refusal !== undefined) return refusal
    const { keyId, nonce } = token
    const ends = this.#keys.keys.get(Buffer.from(keyId).toString('hex'))?.redeemedUntilMs ?? now
    if (this.#filter.has(keyId, nonce)) return 'spent'
    try {
      if (!this.#store.add(keyId, nonce, encodeToken(token), epochOf(now), ends)) return 'spent'
    } catch {
      return 'unwritten'
    }
    this.#filter.add(keyId, nonce)
    return undefined
  }

  /** When `handleDeadline` has something to do. */
  deadline(): number {
    return this.#nextMs
  }

  /**
   * Hands in what has gathered, and fetches the issuer's keys again. What fails is tried later, after longer and longer
   * waits; returns the failure for the log.
   */
  async handleDeadline(now: number): Promise<unknown> {
    if (this.#isHandingIn || now < this.#nextMs) return undefined
    this.#isHandingIn = true
    try {
      this.#store.sweep(now - DAY_MS)
      this.#keys = await this.#wallet.keys.fetch()
      this.#filter.keep([...this.#keys.keys.values()].map(key => key.id))
      while (await this.handIn()) if (this.#store.counts().queued < FULL_BATCH) break
      this.#backoff.succeed()
      this.#nextMs = now + GATHER_MS
      return undefined
    } catch (error) {
      this.#nextMs = now + this.#backoff.fail()
      return error
    } finally {
      this.#isHandingIn = false
    }
  }

  /** Hands one batch in; false when there was none. Throws what kept the issuer from answering. */
  async handIn(): Promise<boolean> {
    const batch = this.#store.batch()
    if (batch.length === 0) return false
    const results = await this.#wallet.handIn(batch)
    this.#store.finish(results.map(result => result === 'redeemed'))
    return true
  }

  counts(): EarningsCounts {
    return this.#store.counts()
  }

  /** What was redeemed on each day, the last ones first. */
  days(): ReturnType<EarningsStore['days']> {
    return this.#store.days()
  }

  /** The signed statement of what was redeemed in an epoch; one that is over does not change any more. */
  statement(epoch: number, identity: Identity): Uint8Array {
    return stateEpoch(this.#keys.issuerId, epoch, this.#tokens(epoch), identity)
  }

  /** Entry `index` of an epoch's statement, with its proof. */
  entry(epoch: number, index: number): EpochEntry {
    return proveEntry(this.#tokens(epoch), index)
  }

  close(): void {
    this.#store.close()
  }

  #tokens(epoch: number) {
    return this.#store.redeemed(epoch).flatMap(bytes => decodeToken(bytes) ?? [])
  }
}
