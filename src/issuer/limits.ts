// How often things may happen, in the database, so that all processes count together. An operator changes a limit with
// `hoplite issuer admin limits set NAME VALUE`.

import { createHash } from 'node:crypto'
import { Problem } from './problem.ts'
import type { Sql } from './sql.ts'

const WINDOW_MS = 15 * 60_000

/** Each limit with its default, per quarter of an hour. */
export const LIMITS = {
  /** Logins begun for one account, whether it exists or not. */
  loginsPerAccount: 30,
  accountsMade: 2_000,
  /** Vouchers tried by one account. */
  vouchersPerAccount: 30,
  ordersPerAccount: 10,
} as const satisfies Record<string, number>
export type LimitName = keyof typeof LIMITS

export class Limits {
  readonly #sql: Sql

  constructor(sql: Sql) {
    this.#sql = sql
  }

  /** Counts one more try of `subject`; throws Problem tooMany above the limit. */
  async count(name: LimitName, subject: Uint8Array, now: number): Promise<void> {
    const began = Math.floor(now / WINDOW_MS) * WINDOW_MS
    const id = createHash('sha256').update(name).update(subject).digest()
    const [row] = await this.#sql.all<{ count: number }>(
      `INSERT INTO attempts VALUES ($1, $2, 1)
        ON CONFLICT (subject, began) DO UPDATE SET count = attempts.count + 1 RETURNING count`,
      [id, began],
    )
    if ((row?.count ?? 0) <= (await this.limit(name))) return
    const minutes = Math.ceil((began + WINDOW_MS - now) / 60_000)
    throw new Problem('tooMany', `${name}: too many tries, wait ${minutes} minutes`)
  }

  /** A limit as it is now. */
  async limit(name: LimitName): Promise<number> {
    const [row] = await this.#sql.all<{ value: number }>('SELECT value FROM limits WHERE name = $1', [name])
    return row?.value ?? LIMITS[name]
  }

  async set(name: LimitName, value: number): Promise<void> {
    await this.#sql.all('INSERT INTO limits VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value', [
      name,
      value,
    ])
  }

  /** Forgets counts of windows that have passed. */
  async sweep(now: number): Promise<void> {
    await this.#sql.all('DELETE FROM attempts WHERE began < $1', [now - WINDOW_MS])
  }
}
