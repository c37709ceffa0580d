// The issuer: everything it can be asked, over one database. HTTP is only its face (http.ts).

import { issuerIdOf, refuseRedemption } from '#credit/keys.ts'
import { blindSign, isBelowModulus } from '#crypto/blind-rsa.ts'
import { systemRandom } from '#crypto/random.ts'
import type { Identity } from '#crypto/signature.ts'
import { decodeToken, RSA_BYTES, TOKEN_BYTES } from '#wire/token.ts'
import { Accounts, loadOpaqueSetup } from './accounts.ts'
import { KEY_LIFETIMES, type KeyLifetimes, KeyRing } from './key-ring.ts'
import { digestOf, Ledger, MAX_BATCH, type Redemption, type TokenToRedeem } from './ledger.ts'
import { Limits } from './limits.ts'
import { Orders } from './orders.ts'
import type { PaymentProcessor } from './payments.ts'
import { Problem } from './problem.ts'
import { prepareSchema } from './schema.ts'
import { makeSeal } from './seal.ts'
import type { Sql } from './sql.ts'
import { Vouchers } from './vouchers.ts'

export interface IssuerOptions {
  readonly sql: Sql
  /** Part of every token: changing it makes all tokens another issuer's. */
  readonly name: string
  readonly identity: Identity
  /** 32 bytes that seal what the database must not read. */
  readonly master: Uint8Array
  readonly processors?: readonly PaymentProcessor[]
  readonly lifetimes?: KeyLifetimes
}

/** One process of an issuer: there may be several on one database. */
export class Issuer {
  readonly id: string
  readonly name: string
  readonly accounts: Accounts
  readonly keys: KeyRing
  readonly ledger: Ledger
  readonly limits: Limits
  readonly orders: Orders
  readonly vouchers: Vouchers
  readonly #sql: Sql

  /** Prepares the database, and makes a first key when there is none. */
  static async open(options: IssuerOptions, now: number): Promise<Issuer> {
    const { sql, master } = options
    await prepareSchema(sql)
    const setup = await loadOpaqueSetup(sql, makeSeal(master, systemRandom))
    const issuer = new Issuer(options, setup)
    await issuer.tend(now)
    return issuer
  }

  private constructor(options: IssuerOptions, setup: string) {
    const { sql, identity, name, master, processors = [], lifetimes = KEY_LIFETIMES } = options
    const seal = makeSeal(master, systemRandom)
    this.#sql = sql
    this.id = issuerIdOf(identity.publicKey)
    this.name = name
    this.limits = new Limits(sql)
    this.ledger = new Ledger(sql)
    this.keys = new KeyRing({ sql, seal, name, identity, lifetimes })
    this.accounts = new Accounts({ sql, seal, limits: this.limits, random: systemRandom, setup })
    this.orders = new Orders({ sql, ledger: this.ledger, limits: this.limits, processors, random: systemRandom })
    this.vouchers = new Vouchers(sql, this.ledger, this.limits, systemRandom)
  }

  /** What is due: new keys, expired ones, and rows whose time is over. To be called every few minutes. */
  async tend(now: number): Promise<void> {
    await this.keys.rotate(now)
    await this.ledger.expire(now)
    await this.accounts.sweep(now)
    await this.limits.sweep(now)
  }

  /**
   * Blind signatures for an account's credits, one a message. The same request again is paid for once and answered the
   * same. Throws Problem: badRequest, keyNotSigning, balanceTooLow.
   */
  async withdraw(account: Uint8Array, keyId: Uint8Array, blinded: readonly Uint8Array[], now: number) {
    checkBatch('withdraw', blinded, RSA_BYTES)
    const key = await this.keys.find(keyId, now)
    if (key === undefined) throw new Problem('keyNotSigning', 'withdraw: no such key, fetch the key directory again')
    if (blinded.some(message => !isBelowModulus(key, message)))
      throw new Problem('badRequest', 'withdraw: a blinded message is not below the modulus')
    await this.ledger.withdraw(account, key, blinded, now)
    return blinded.map(message => {
      const signature = blindSign(key.secret, message)
      if (signature === undefined) throw new Error('withdraw: the private key did not sign')
      return signature
    })
  }

  /** Takes tokens for an account's balance; the answer has one result a token, in order. Throws Problem badRequest. */
  async redeem(account: Uint8Array, tokens: readonly Uint8Array[], now: number): Promise<Redemption[]> {
    checkBatch('redeem', tokens, TOKEN_BYTES)
    const checked: TokenToRedeem[] = []
    for (const bytes of tokens) checked.push(await this.#check(bytes, now))
    return this.ledger.redeem(account, digestOf('batch', account, ...tokens), checked, now)
  }

  /** Whether the database answers. Throws StoreError. */
  async ping(): Promise<void> {
    await this.#sql.all('SELECT 1 AS one')
  }

  close(): Promise<void> {
    return this.#sql.close()
  }

  async #check(bytes: Uint8Array, now: number): Promise<TokenToRedeem> {
    const invalid = { keyNumber: 0, nonce: bytes, refusal: 'invalid' } as const
    const token = decodeToken(bytes)
    const key = token && (await this.keys.find(token.keyId, now))
    if (token === undefined || key === undefined) return invalid
    const { keys } = await this.keys.directory(now)
    const refusal = refuseRedemption(token, keys, now)
    if (refusal !== undefined) return { ...invalid, refusal: refusal === 'expired' ? 'expired' : 'invalid' }
    return { keyNumber: key.number, nonce: token.nonce }
  }
}

function checkBatch(action: string, items: readonly Uint8Array[], bytes: number): void {
  if (items.length < 1 || items.length > MAX_BATCH || items.some(item => item.length !== bytes))
    throw new Problem('badRequest', `${action}: expected 1 to ${MAX_BATCH} items of ${bytes} bytes`)
}
