// The wallet with its file and its issuer: carries out what the machine in #credit/wallet.ts decides. Whatever is begun is
// written down first, so that the next start goes on with it. On a full disk the issuer is asked nothing and no token is shown
// that the file does not know of.

import { mkdirSync } from 'node:fs'
import { HopliteError } from '#api/errors.ts'
import { signingKey } from '#credit/keys.ts'
import {
  emptyWallet,
  MAX_WITHDRAWAL,
  Wallet,
  type WalletBalance,
  type WalletState,
  type WalletToken,
} from '#credit/wallet.ts'
import type { Random } from '#crypto/random.ts'
import type { AnswerOf } from '#issuer/endpoints.ts'
import { type IssuerClient, IssuerRefusal } from '#issuer/issuer-client.ts'
import { type Credentials, changePassword, logIn, register, type Stretching } from '#issuer/sign-in.ts'
import { BlindingThread } from '#platform/blinding.ts'
import { lockState } from '#platform/state/state-lock.ts'
import { decodeToken, encodeToken, NONCE_BYTES, tokenInput } from '#wire/token.ts'
import { KeptIssuerKeys } from './issuer-keys.ts'
import { readWallet, writeWallet } from './wallet-store.ts'

/** Tokens that are in the hand at once: what a crash makes doubtful. */
const HAND = 32
const SESSION_MARGIN_MS = 30_000

export interface WalletKeeperOptions {
  /** Where the wallet's file is; made when it is not there. */
  readonly directory: string
  readonly issuerId: string
  readonly client: IssuerClient
  readonly random: Random
  readonly clock: () => number
  /** How passwords are stretched: without it as they need it, a person's more than a generated one. */
  readonly stretching?: Stretching
}

export class WalletKeeper {
  readonly keys: KeptIssuerKeys
  readonly #options: WalletKeeperOptions
  readonly #unlock: () => void
  readonly #blinding = new BlindingThread()
  #wallet: Wallet
  #session: { readonly bearer: string; readonly expiresMs: number } | undefined
  #turn: Promise<unknown> = Promise.resolve()
  #isWritten = false
  #isClosed = false

  /** Opens the wallet of a directory. Throws STATE_LOCKED, STATE_UNREADABLE, WALLET_FAILED. */
  static open(options: WalletKeeperOptions): WalletKeeper {
    mkdirSync(options.directory, { recursive: true, mode: 0o700 })
    const unlock = lockState(options.directory)
    try {
      const { random, issuerId } = options
      const found = readWallet(options.directory)
      if (found !== undefined && found.issuerId !== issuerId)
        throw new HopliteError(
          'WALLET_FAILED',
          'open the wallet: it belongs to another issuer',
          'set [credit] issuer_id back, or use another --state-dir',
        )
      const name = () => Buffer.from(random(32)).toString('base64url')
      return new WalletKeeper(options, found ?? emptyWallet(issuerId, { name: name(), password: name() }), unlock)
    } catch (error) {
      unlock()
      throw error
    }
  }

  private constructor(options: WalletKeeperOptions, state: WalletState, unlock: () => void) {
    this.keys = new KeptIssuerKeys(options)
    this.#options = options
    this.#unlock = unlock
    this.#wallet = new Wallet(state)
    this.#save()
  }

  /** Whether the file has what the wallet has; it has not while the disk is full. */
  get isWritten(): boolean {
    return this.#isWritten
  }

  get state(): WalletState {
    return this.#wallet.state
  }

  balance(): WalletBalance {
    return this.#wallet.balance()
  }

  /** Credits on the account at the issuer, not yet withdrawn. */
  async accountBalance(): Promise<number> {
    return (await this.#withSession(bearer => this.#options.client.ask('account', {}, bearer))).balance
  }

  /** Goes on with whatever was interrupted: a withdrawal, a deposit, doubtful tokens. */
  resume(): Promise<void> {
    return this.#inTurn(async () => {
      await this.#finishWithdrawal()
      await this.#depositAll(0)
    })
  }

  /** Puts a voucher's credits on the account and withdraws them. Returns the credits. */
  redeemVoucher(code: string): Promise<number> {
    return this.#inTurn(async () => {
      const { client, clock } = this.#options
      const { credits, balance } = await this.#withSession(bearer => client.ask('redeemVoucher', { code }, bearer))
      this.#wallet.note('voucher', credits, clock())
      this.#save()
      // A voucher that was redeemed before is answered the same, and its credits may be gone from the account.
      await this.#withdraw(Math.min(credits, balance))
      return credits
    })
  }

  /** Withdraws up to `count` credits of the account's balance. Returns how many tokens came. */
  withdraw(count: number): Promise<number> {
    return this.#inTurn(() => this.#withdraw(count))
  }

  /** Gives up to `count` unspent tokens back to the account. Returns how many the issuer took. */
  deposit(count: number): Promise<number> {
    return this.#inTurn(() => {
      this.#wallet.putBack()
      return this.#depositAll(count)
    })
  }

  /** Changes tokens that end soon for new ones. */
  renew(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#wallet.retire(this.#options.clock()) === 0) return
      this.#save()
      await this.#withdraw(await this.#depositAll(0))
    })
  }

  /**
   * Makes an account of this name, with a recovery code, and uses it from now on. What the wallet's former account has is drawn
   * first. Throws ISSUER_REFUSED when the name is taken.
   */
  createAccount(name: string, password: string, recovery: string): Promise<void> {
    return this.#changeAccount(name, password, async credentials =>
      register(this.#options.client, credentials, recovery),
    )
  }

  /** Uses an account that was made before, here or elsewhere. Throws ISSUER_REFUSED. */
  useAccount(name: string, password: string): Promise<void> {
    return this.#changeAccount(name, password, async () => {})
  }

  /** Sets a new password by the recovery code, and uses the account. Throws ISSUER_REFUSED. */
  recoverAccount(name: string, password: string, recovery: string): Promise<void> {
    return this.#changeAccount(name, password, async credentials => {
      const { client } = this.#options
      const { bearer } = await logIn(client, { ...credentials, password: recovery }, 'recovery')
      await changePassword(client, bearer, credentials)
    })
  }

  /** What credits can be bought for. */
  async offers(): Promise<AnswerOf<'offers'>['offers']> {
    return (await this.#options.client.ask('offers', {})).offers
  }

  /** Orders what an offer offers; the answer says where to pay. */
  order(offer: string): Promise<AnswerOf<'makeOrder'>> {
    return this.#withSession(bearer => this.#options.client.ask('makeOrder', { offer }, bearer))
  }

  async orders(): Promise<AnswerOf<'orders'>['orders']> {
    return (await this.#withSession(bearer => this.#options.client.ask('orders', {}, bearer))).orders
  }

  /** Hands in tokens that others paid with, for the account; the same batch again is answered the same. */
  async handIn(tokens: readonly Uint8Array[]): Promise<AnswerOf<'redeem'>['results']> {
    const body = { tokens: tokens.map(toText) }
    return (await this.#withSession(bearer => this.#options.client.ask('redeem', body, bearer))).results
  }

  /** Up to `count` tokens for another wallet. `write` must have put them in a safe place when it returns. */
  takeOut(count: number, write: (tokens: readonly Uint8Array[]) => void): Promise<number> {
    return this.#inTurn(async () => {
      this.#wallet.putBack()
      const { state } = this.#wallet
      const taken = this.#wallet.takeOut(count, this.#options.clock())
      try {
        write(taken.map(encodeToken))
      } catch (error) {
        this.#wallet = new Wallet(state)
        throw error
      }
      this.#save()
      return taken.length
    })
  }

  /** Takes another wallet's tokens: hands them in and withdraws as many new ones. Returns how many were good. */
  takeIn(tokens: readonly Uint8Array[]): Promise<number> {
    return this.#inTurn(async () => {
      const { keys } = await this.keys.fetch()
      const known = tokens.flatMap(bytes => {
        const token = decodeToken(bytes)
        const key = token && keys.get(Buffer.from(token.keyId).toString('hex'))
        return token && key ? [{ ...token, acceptedUntilMs: key.acceptedUntilMs }] : []
      })
      if (known.length > this.#wallet.room())
        throw new HopliteError(
          'WALLET_FAILED',
          'take credits in: the wallet has no room for so many',
          'deposit some first: hoplite wallet deposit',
        )
      this.#wallet.takeIn(known, this.#options.clock())
      this.#save()
      const taken = await this.#depositAll(0)
      await this.#withdraw(taken)
      return taken
    })
  }

  /** A token to show to a relay, at once; `undefined` when there is none. Written down before, by the handful. */
  show(): WalletToken | undefined {
    const shown = this.#wallet.show()
    if (shown !== undefined) return shown
    if (this.#wallet.takeInHand(HAND, this.#options.clock()) === 0) return undefined
    if (this.#trySave()) return this.#wallet.show()
    this.#wallet.putBack()
    return undefined
  }

  /** A relay took a token that was shown. */
  settle(token: WalletToken): void {
    this.#wallet.settle(token, this.#options.clock())
  }

  /** A relay did not take a token that was shown, or perhaps did not. */
  doubt(token: WalletToken): void {
    this.#wallet.doubt(token)
    // The file has it in the hand, which is as doubtful.
    this.#trySave()
  }

  /** Closes in order: what is in the hand and was not shown is put back. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    await this.#blinding.close()
    await this.#turn.catch(() => undefined)
    this.#wallet.putBack()
    try {
      this.#save()
    } finally {
      this.#unlock()
    }
  }

  #changeAccount(name: string, password: string, prepare: (credentials: Credentials) => Promise<void>): Promise<void> {
    return this.#inTurn(async () => {
      const { client, stretching = 'person' } = this.#options
      await this.#finishWithdrawal()
      await this.#depositAll(0)
      const { account } = this.#wallet.state
      const left = account.isRegistered ? await this.accountBalance() : 0
      // A named account keeps what it has: its owner can come back to it.
      if (!account.isNamed && left > 0) await this.#withdraw(left)
      const { issuer } = await this.keys.current()
      const credentials = { issuer, name, password, stretching }
      await prepare(credentials)
      const session = await logIn(client, credentials)
      this.#wallet.useAccount({ name, password, isRegistered: true, isNamed: true })
      this.#session = session
      this.#save()
    })
  }

  async #withdraw(count: number): Promise<number> {
    await this.#finishWithdrawal()
    let received = 0
    while (received < count) {
      const wanted = Math.min(count - received, MAX_WITHDRAWAL, this.#wallet.room())
      if (wanted === 0)
        throw new HopliteError(
          'WALLET_FAILED',
          'withdraw: the wallet is full',
          'spend or deposit some tokens first; the rest stays on the account',
        )
      await this.#beginWithdrawal(wanted)
      received += await this.#finishWithdrawal()
    }
    return received
  }

  async #beginWithdrawal(count: number): Promise<void> {
    const { random, clock } = this.#options
    const keys = await this.keys.current()
    const key = signingKey(keys, clock())
    if (key === undefined)
      throw new HopliteError(
        'WALLET_FAILED',
        'withdraw: no key of the issuer signs now',
        'check the clock of this machine',
      )
    const items = []
    for (let i = 0; i < count; i++) {
      const nonce = new Uint8Array(random(NONCE_BYTES))
      const input = tokenInput({ nonce, challengeDigest: keys.challengeDigest, keyId: key.id })
      items.push({ nonce, ...(await this.#blinding.blind(key, input)) })
    }
    this.#wallet.beginWithdrawal({ keyId: key.id, acceptedUntilMs: key.acceptedUntilMs, items })
    this.#save()
  }

  /** Asks for the withdrawal that is under way, if one is. Returns how many tokens came. */
  async #finishWithdrawal(): Promise<number> {
    const { withdrawal } = this.#wallet.state
    if (withdrawal === undefined) return 0
    const { client, clock } = this.#options
    const keys = await this.keys.current()
    const key = keys.keys.get(Buffer.from(withdrawal.keyId).toString('hex'))
    const body = { key: toText(withdrawal.keyId), blinded: withdrawal.items.map(item => toText(item.message)) }
    try {
      const { signatures } = await this.#withSession(bearer => client.ask('withdraw', body, bearer))
      const tokens: WalletToken[] = []
      for (const [at, { nonce, inverse }] of withdrawal.items.entries()) {
        const fields = { nonce, challengeDigest: keys.challengeDigest, keyId: withdrawal.keyId }
        const signature = Buffer.from(signatures[at] ?? '', 'base64url')
        const authenticator = key && (await this.#blinding.finalize(key, tokenInput(fields), signature, inverse))
        if (authenticator === undefined)
          throw new HopliteError(
            'WALLET_FAILED',
            'withdraw: the issuer signed something else',
            'ask its operator; the wallet keeps the withdrawal and tries again',
          )
        tokens.push({ ...fields, authenticator, acceptedUntilMs: withdrawal.acceptedUntilMs })
      }
      this.#wallet.finishWithdrawal(tokens, clock())
      this.#save()
      return tokens.length
    } catch (error) {
      // These two say that the books were not touched; everything else leaves it to be asked for again.
      if (error instanceof IssuerRefusal && (error.problem === 'balanceTooLow' || error.problem === 'keyNotSigning')) {
        this.#wallet.dropWithdrawal()
        this.keys.forget()
        this.#save()
      }
      throw error
    }
  }

  async #depositAll(count: number): Promise<number> {
    const { client, clock } = this.#options
    let taken = 0
    let left = count
    for (;;) {
      const isBegun = this.#wallet.state.deposit !== undefined
      const doubtful = this.#wallet.state.doubtful.length
      const size = this.#wallet.beginDeposit(left)
      if (size === 0) return taken
      if (!isBegun) left -= Math.max(0, size - doubtful)
      this.#save()
      const tokens = (this.#wallet.state.deposit ?? []).map(token => toText(encodeToken(token)))
      const { results } = await this.#withSession(bearer => client.ask('redeem', { tokens }, bearer))
      const redeemed = results.filter(result => result === 'redeemed').length
      this.#wallet.finishDeposit(redeemed, clock())
      this.#save()
      taken += redeemed
    }
  }

  /** Runs with a bearer, of a new session when there is none or it has ended. */
  async #withSession<T>(run: (bearer: string) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const bearer = await this.#bearer()
      try {
        return await run(bearer)
      } catch (error) {
        if (!(error instanceof IssuerRefusal) || error.problem !== 'signedOut' || attempt === 2) throw error
        this.#session = undefined
      }
    }
  }

  async #bearer(): Promise<string> {
    const { client, clock } = this.#options
    if (this.#session !== undefined && this.#session.expiresMs - SESSION_MARGIN_MS > clock())
      return this.#session.bearer
    const { issuer } = await this.keys.current()
    const { name, password, isRegistered, isNamed } = this.#wallet.state.account
    const { stretching = isNamed ? 'person' : 'random' } = this.#options
    const credentials = { issuer, name, password, stretching }
    if (!isRegistered) {
      await register(client, credentials).catch(error => {
        // The name is random: it is taken only when an answer to us was lost.
        if (!(error instanceof IssuerRefusal) || error.problem !== 'nameTaken') throw error
      })
      this.#wallet.registered()
      this.#save()
    }
    this.#session = await logIn(client, credentials)
    return this.#session.bearer
  }

  #save(): void {
    this.#isWritten = false
    writeWallet(this.#options.directory, this.#wallet.state)
    this.#isWritten = true
  }

  #trySave(): boolean {
    try {
      this.#save()
    } catch {
      // `isWritten` says so.
    }
    return this.#isWritten
  }

  /** One after the other: each begins from what the one before wrote down. */
  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const begin = async () => {
      if (!this.#isWritten) this.#save()
      return run()
    }
    const done = this.#turn.then(begin, begin)
    this.#turn = done.catch(() => undefined)
    return done
  }
}

function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url')
}
