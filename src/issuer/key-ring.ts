// The issuer's token keys: made, announced, used, overlapped by the next, and destroyed. They stand in the database, sealed
// with the master secret, so that every process of an issuer has the same.
//
//   announced ──► signs ──► accepted by relays ──► redeemed here ──► expired, secret destroyed
//   a new key is announced `announceMs` before it signs, and begins `overlapMs` before the old one ends

import type { KeyObject } from 'node:crypto'
import { copyBytes } from '#bytes/copy.ts'
import {
  type IssuerKey,
  type IssuerKeys,
  issuerIdOf,
  openKeyDirectory,
  REDEEM_GRACE_MS,
  signKeyDirectory,
} from '#credit/keys.ts'
import { generateTokenKey, importTokenKey, importTokenSecret } from '#crypto/blind-rsa.ts'
import type { Identity } from '#crypto/signature.ts'
import { MAX_DIRECTORY_KEYS } from '#wire/key-directory.ts'
import type { Seal } from './seal.ts'
import type { Sql } from './sql.ts'

const DAY_MS = 86_400_000
/** Other processes' changes are seen this much later. */
const RELOAD_MS = 30_000
/** The same, when somebody shows a key that is not known here. */
const UNKNOWN_RELOAD_MS = 1_000

export interface KeyLifetimes {
  readonly announceMs: number
  readonly signMs: number
  readonly overlapMs: number
  /** From the end of signing to the end of acceptance. */
  readonly acceptMs: number
  /** From there to the end of redemption; REDEEM_GRACE_MS at the least. */
  readonly redeemMs: number
}

export const KEY_LIFETIMES: KeyLifetimes = {
  announceMs: DAY_MS,
  signMs: 14 * DAY_MS,
  overlapMs: DAY_MS,
  acceptMs: 28 * DAY_MS,
  redeemMs: 7 * DAY_MS,
}

export interface RingKey extends IssuerKey {
  readonly number: number
  readonly secret: KeyObject
}

interface KeyRow {
  readonly number: number
  readonly encoded: Uint8Array
  readonly secret: Uint8Array
  readonly signs_from: number
  readonly signs_until: number
  readonly accepted_until: number
  readonly redeemed_until: number
}

export interface KeyRingOptions {
  readonly sql: Sql
  readonly seal: Seal
  readonly name: string
  readonly identity: Identity
  readonly lifetimes: KeyLifetimes
}

export class KeyRing {
  readonly #options: KeyRingOptions
  #byId = new Map<string, RingKey>()
  #directory: { readonly bytes: Uint8Array; readonly keys: IssuerKeys } | undefined
  #loadedMs = Number.NEGATIVE_INFINITY
  #loading: Promise<void> | undefined

  constructor(options: KeyRingOptions) {
    if (options.lifetimes.redeemMs < REDEEM_GRACE_MS) throw new RangeError('keep token keys: redeemMs is below a day')
    this.#options = options
  }

  /** The key of this id (32 bytes), when it is live. An unknown one is looked for in the database, now and then. */
  async find(id: Uint8Array, now: number): Promise<RingKey | undefined> {
    const name = Buffer.from(id).toString('hex')
    await this.#refresh(now)
    if (!this.#byId.has(name)) await this.#refresh(now, UNKNOWN_RELOAD_MS)
    return this.#byId.get(name)
  }

  /** The signed directory, and what it says. */
  async directory(now: number): Promise<{ readonly bytes: Uint8Array; readonly keys: IssuerKeys }> {
    await this.#refresh(now)
    if (this.#directory === undefined) throw new Error('publish the key directory: it was not made')
    return this.#directory
  }

  /** Makes the keys that are due: a first one, and the next in time. Several processes may do it at once. */
  async rotate(now: number, isForced = false): Promise<void> {
    const { announceMs, overlapMs } = this.#options.lifetimes
    const [last] = await this.#options.sql.all<KeyRow>('SELECT * FROM keys ORDER BY number DESC LIMIT 1')
    if (last === undefined || last.signs_until <= now) await this.#make((last?.number ?? 0) + 1, now)
    else if (isForced) await this.#make(last.number + 1, Math.max(last.signs_from + 1, now))
    else if (last.signs_until - overlapMs - announceMs <= now)
      await this.#make(last.number + 1, last.signs_until - overlapMs)
    this.#loadedMs = Number.NEGATIVE_INFINITY
    await this.#refresh(now)
  }

  async #make(number: number, signsFrom: number): Promise<void> {
    const { sql, seal, lifetimes } = this.#options
    const { publicKey, secret } = generateTokenKey()
    const sealed = seal.seal('token key', secret.bytes)
    secret.wipe()
    const signsUntil = signsFrom + lifetimes.signMs
    const acceptedUntil = signsUntil + lifetimes.acceptMs
    await sql.all(
      `INSERT INTO keys (number, encoded, secret, signs_from, signs_until, accepted_until, redeemed_until)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
      [
        ...[number, publicKey.encoded, sealed, signsFrom, signsUntil],
        ...[acceptedUntil, acceptedUntil + lifetimes.redeemMs],
      ],
    )
  }

  async #refresh(now: number, maxAgeMs = RELOAD_MS): Promise<void> {
    if (Math.abs(now - this.#loadedMs) < maxAgeMs) return
    this.#loading ??= this.#load(now).finally(() => {
      this.#loading = undefined
    })
    await this.#loading
  }

  async #load(now: number): Promise<void> {
    const { sql, seal, identity, name } = this.#options
    const rows = await sql.all<KeyRow>('SELECT * FROM keys WHERE is_live = 1 ORDER BY number DESC LIMIT $1', [
      MAX_DIRECTORY_KEYS,
    ])
    const loaded = new Map<string, RingKey>()
    for (const row of rows.reverse()) {
      const key = importTokenKey(row.encoded)
      if (key === undefined) throw new Error(`load token key ${row.number}: its public key is damaged`)
      const id = Buffer.from(key.id).toString('hex')
      const known = this.#byId.get(id)
      loaded.set(id, known ?? { ...key, ...timesOf(row), number: row.number, secret: this.#open(seal, row) })
    }
    const isSame = loaded.size === this.#byId.size && [...loaded.keys()].every(id => this.#byId.has(id))
    this.#byId = loaded
    if (!isSame || this.#directory === undefined) {
      const signed = signKeyDirectory({ issuer: name, publishedMs: now, keys: [...loaded.values()] }, identity)
      const bytes = copyBytes(signed)
      const keys = openKeyDirectory(bytes, issuerIdOf(identity.publicKey))
      if (keys === undefined) throw new Error('publish the key directory: it does not read back')
      this.#directory = { bytes, keys }
    }
    this.#loadedMs = now
  }

  #open(seal: Seal, row: KeyRow): KeyObject {
    const bytes = seal.open('token key', row.secret)
    if (bytes === undefined) throw new Error(`load token key ${row.number}: another master secret sealed it`)
    const key = importTokenSecret(bytes)
    bytes.fill(0)
    return key
  }
}

function timesOf(row: KeyRow) {
  return {
    signsFromMs: row.signs_from,
    signsUntilMs: row.signs_until,
    acceptedUntilMs: row.accepted_until,
    redeemedUntilMs: row.redeemed_until,
  }
}
