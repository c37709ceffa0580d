// The books: balances, and what was issued, redeemed and expired under each key. Every verb is one transaction, and one that
// is repeated changes nothing: it is known by its digest.
//
//   vouchers + orders + redeemed = balances + issued          what came in is somewhere
//   issued = outstanding + redeemed + expired                 for each key
//
// Locks are taken in the same order everywhere: digest, spent, keys, accounts.

import { createHash } from 'node:crypto'
import { Problem } from './problem.ts'
import { rowsOf, type Sql, type Statements } from './sql.ts'

export const MAX_BATCH = 256
const MAX_BALANCE = 2 ** 48
const DAY_MS = 86_400_000
/** How long a repeated batch is answered as it was. */
const BATCH_DAYS = 30

/** What became of a token that was handed in. */
export type Redemption = 'redeemed' | 'spent' | 'expired' | 'invalid'
const LETTERS = { r: 'redeemed', s: 'spent', e: 'expired', i: 'invalid' } as const

export interface TokenToRedeem {
  readonly keyNumber: number
  readonly nonce: Uint8Array
  /** Set when the token was found wanting before the books were opened. */
  readonly refusal?: 'expired' | 'invalid'
}

export interface Audit {
  readonly keys: readonly {
    readonly number: number
    readonly issued: number
    readonly redeemed: number
    readonly expired: number
    readonly outstanding: number
  }[]
  readonly vouchers: number
  readonly orders: number
  readonly balances: number
  /** What does not add up; empty when all does. */
  readonly faults: readonly string[]
}

export class Ledger {
  readonly #sql: Sql

  constructor(sql: Sql) {
    this.#sql = sql
  }

  /** The balance of an account, in credits. */
  async balance(account: Uint8Array): Promise<number> {
    const [row] = await this.#sql.all<{ balance: number }>('SELECT balance FROM accounts WHERE id = $1', [account])
    return row?.balance ?? 0
  }

  /**
   * Pays for `blinded.length` signatures under a key, once for the same messages. Throws Problem: keyNotSigning,
   * balanceTooLow.
   */
  async withdraw(
    account: Uint8Array,
    key: { readonly number: number; readonly id: Uint8Array },
    blinded: readonly Uint8Array[],
    now: number,
  ): Promise<void> {
    const count = blinded.length
    const digest = digestOf('withdrawal', account, key.id, ...blinded)
    await this.#sql.transaction(async tx => {
      const [isNew] = await tx.all(
        'INSERT INTO withdrawals VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING count',
        [digest, key.number, count],
      )
      if (isNew === undefined) return
      const [signs] = await tx.all(
        `UPDATE keys SET issued = issued + $2
          WHERE number = $1 AND is_live = 1 AND signs_from <= $3 AND signs_until > $3 RETURNING number`,
        [key.number, count, now],
      )
      if (signs === undefined)
        throw new Problem('keyNotSigning', 'withdraw: this key does not sign now, fetch the key directory again')
      const [paid] = await tx.all(
        'UPDATE accounts SET balance = balance - $2 WHERE id = $1 AND balance >= $2 RETURNING balance',
        [account, count],
      )
      if (paid === undefined)
        throw new Problem('balanceTooLow', `withdraw ${count} credits: the account has fewer than that`)
    })
  }

  /**
   * Takes tokens whose signatures hold for an account's balance: each once, whoever comes first. The same batch again gives
   * the same answer, for 30 days.
   */
  async redeem(account: Uint8Array, digest: Uint8Array, tokens: readonly TokenToRedeem[], now: number) {
    return this.#sql.transaction(async tx => {
      const known = await this.#beginBatch(tx, digest, now)
      if (known !== undefined) return known
      const results = await spend(tx, tokens)
      const redeemed = results.filter(result => result === 'redeemed').length
      if (redeemed > 0) await credit(tx, account, redeemed)
      const text = results.map(result => result.charAt(0)).join('')
      await tx.all('UPDATE batches SET result = $2 WHERE digest = $1', [digest, text])
      return results
    })
  }

  /** Puts credits from outside on an account, inside a caller's transaction. Throws Problem: tooMany. */
  async deposit(tx: Statements, account: Uint8Array, source: 'vouchers' | 'orders', credits: number): Promise<void> {
    await tx.all('UPDATE totals SET credits = credits + $2 WHERE name = $1', [source, credits])
    await credit(tx, account, credits)
  }

  /** Closes the keys whose tokens are no longer redeemed: what is outstanding has expired. */
  async expire(now: number): Promise<void> {
    const due = await this.#sql.all<{ number: number }>(
      'SELECT number FROM keys WHERE is_live = 1 AND redeemed_until < $1 ORDER BY number',
      [now],
    )
    for (const { number } of due) {
      await this.#sql.transaction(async tx => {
        const [closed] = await tx.all(
          `UPDATE keys SET is_live = 0, secret = NULL, expired = issued - redeemed WHERE number = $1 AND is_live = 1
            RETURNING number`,
          [number],
        )
        if (closed === undefined) return
        await tx.all('DELETE FROM spent WHERE key = $1', [number])
        await tx.all('DELETE FROM withdrawals WHERE key = $1', [number])
      })
    }
    await this.#sql.all('DELETE FROM batches WHERE day < $1', [dayOf(now) - BATCH_DAYS])
  }

  /** Adds everything up, of one moment, and says what does not agree. */
  async audit(): Promise<Audit> {
    return this.#sql.transaction(async tx => {
      const keys = await tx.all<{ number: number; issued: number; redeemed: number; expired: number; is_live: number }>(
        'SELECT number, issued, redeemed, expired, is_live FROM keys ORDER BY number',
      )
      const withdrawn = await countsBy(tx, 'SELECT key, CAST(SUM(count) AS BIGINT) AS n FROM withdrawals GROUP BY key')
      const spent = await countsBy(tx, 'SELECT key, COUNT(*) AS n FROM spent GROUP BY key')
      const totals = await tx.all<{ name: string; credits: number }>('SELECT name, credits FROM totals')
      const [sum] = await tx.all<{ n: number | null }>('SELECT CAST(SUM(balance) AS BIGINT) AS n FROM accounts')
      const [claimed] = await tx.all<{ n: number | null }>('SELECT CAST(SUM(credited) AS BIGINT) AS n FROM orders')
      const total = (name: string) => totals.find(row => row.name === name)?.credits ?? 0
      const [vouchers, orders, balances] = [total('vouchers'), total('orders'), sum?.n ?? 0]

      const faults: string[] = []
      for (const key of keys) {
        if (key.is_live !== 1) continue
        if (key.issued !== (withdrawn.get(key.number) ?? 0))
          faults.push(`key ${key.number}: ${key.issued} issued, withdrawals of ${withdrawn.get(key.number) ?? 0}`)
        if (key.redeemed !== (spent.get(key.number) ?? 0))
          faults.push(`key ${key.number}: ${key.redeemed} redeemed, ${spent.get(key.number) ?? 0} remembered as spent`)
      }
      const issued = keys.reduce((n, key) => n + key.issued, 0)
      const redeemed = keys.reduce((n, key) => n + key.redeemed, 0)
      if (vouchers + orders + redeemed !== balances + issued)
        faults.push(`${vouchers} + ${orders} + ${redeemed} came in, ${balances} + ${issued} are accounted for`)
      if ((claimed?.n ?? 0) > orders) faults.push(`orders were credited ${claimed?.n}, the total says ${orders}`)
      return {
        keys: keys.map(({ number, issued, redeemed, expired }) => ({
          ...{ number, issued, redeemed, expired },
          outstanding: issued - redeemed - expired,
        })),
        ...{ vouchers, orders, balances, faults },
      }
    }, 'snapshot')
  }

  /** Begins a batch, or gives the result of the same one before. */
  async #beginBatch(tx: Statements, digest: Uint8Array, now: number): Promise<Redemption[] | undefined> {
    const [isNew] = await tx.all('INSERT INTO batches VALUES ($1, $2, NULL) ON CONFLICT DO NOTHING RETURNING day', [
      digest,
      dayOf(now),
    ])
    if (isNew !== undefined) return undefined
    const [row] = await tx.all<{ result: string }>('SELECT result FROM batches WHERE digest = $1', [digest])
    return [...(row?.result ?? '')].map(letter => LETTERS[letter as keyof typeof LETTERS])
  }
}

/** What a request is remembered by. */
export function digestOf(purpose: string, ...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha256').update(`hoplite ${purpose}\n`)
  for (const part of parts) hash.update(part)
  return hash.digest()
}

/** Remembers tokens as spent and counts them; the unique constraint decides between two that come at once. */
async function spend(tx: Statements, tokens: readonly TokenToRedeem[]): Promise<Redemption[]> {
  const results: Redemption[] = tokens.map(token => token.refusal ?? 'spent')
  const good = new Map<string, number>()
  for (const [at, token] of tokens.entries()) {
    const name = nameOf(token.keyNumber, token.nonce)
    if (token.refusal === undefined && !good.has(name)) good.set(name, at)
  }
  if (good.size === 0) return results
  // Sorted, so that two transactions with the same tokens wait for one another in one order.
  const names = [...good.keys()].sort()
  const values = names.flatMap(name => {
    const token = tokens[good.get(name) ?? 0]
    return token === undefined ? [] : [token.keyNumber, token.nonce]
  })
  const inserted = await tx.all<{ key: number; nonce: Uint8Array }>(
    `INSERT INTO spent (key, nonce) VALUES ${rowsOf(names.length, 2)} ON CONFLICT DO NOTHING RETURNING key, nonce`,
    values,
  )
  const byKey = new Map<number, number>()
  for (const { key, nonce } of inserted) {
    results[good.get(nameOf(key, nonce)) ?? -1] = 'redeemed'
    byKey.set(key, (byKey.get(key) ?? 0) + 1)
  }
  for (const [key, count] of [...byKey].sort(([a], [b]) => a - b)) {
    const [live] = await tx.all(
      'UPDATE keys SET redeemed = redeemed + $2 WHERE number = $1 AND is_live = 1 RETURNING number',
      [key, count],
    )
    if (live === undefined) throw new Problem('keyNotSigning', 'redeem: a key of this batch has just expired')
  }
  return results
}

async function credit(tx: Statements, account: Uint8Array, credits: number): Promise<void> {
  const [row] = await tx.all(
    'UPDATE accounts SET balance = balance + $2 WHERE id = $1 AND balance <= $3 RETURNING balance',
    [account, credits, MAX_BALANCE - credits],
  )
  if (row === undefined)
    throw new Problem('tooMany', 'credit an account: it is gone, or would hold more than is allowed')
}

async function countsBy(tx: Statements, text: string): Promise<Map<number, number>> {
  return new Map((await tx.all<{ key: number; n: number }>(text)).map(({ key, n }) => [key, n]))
}

function nameOf(key: number, nonce: Uint8Array): string {
  return `${key}:${Buffer.from(nonce).toString('hex')}`
}

function dayOf(now: number): number {
  return Math.floor(now / DAY_MS)
}
