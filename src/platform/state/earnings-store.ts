// What a relay has been paid, in SQLite in its state directory: every token from the moment it is taken until its key ends,
// so that none is taken twice, none is lost when the relay dies, and each day's total can be shown.
//
//   queued ──► in the batch that is being handed in ──► redeemed | refused
//
// There is one batch at a time, and it is handed in again, the same, until the issuer has answered.

import path from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { openDatabase } from './open-database.ts'

const STATE = { queued: 0, batch: 1, redeemed: 2, refused: 3 } as const
const MAX_BATCH = 256

/** A power cut may take the last moments' tokens, which their payers keep as spent. */
const STEPS = [
  `CREATE TABLE IF NOT EXISTS tokens (
     key BLOB NOT NULL, nonce BLOB NOT NULL, token BLOB NOT NULL, state INTEGER NOT NULL, epoch INTEGER NOT NULL,
     ends INTEGER NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (key, nonce)
   ) WITHOUT ROWID;
   CREATE INDEX IF NOT EXISTS tokens_by_state ON tokens (state, number)`,
] as const

export interface EarningsCounts {
  readonly queued: number
  readonly redeemed: number
  readonly refused: number
}

export class EarningsStore {
  readonly #database: DatabaseSync

  /** Opens the store of a directory; makes it when it is not there. Throws STATE_UNREADABLE. */
  constructor(directory: string) {
    this.#database = openDatabase(path.join(directory, 'earnings.db'), STEPS)
  }

  has(keyId: Uint8Array, nonce: Uint8Array): boolean {
    return this.#database.prepare('SELECT 1 FROM tokens WHERE key = ? AND nonce = ?').get(keyId, nonce) !== undefined
  }

  /** Every nonce of a key. */
  *nonces(keyId: Uint8Array): Generator<Uint8Array> {
    for (const row of this.#database.prepare('SELECT nonce FROM tokens WHERE key = ?').iterate(keyId))
      yield row['nonce'] as Uint8Array
  }

  /** Takes a token; false when it was taken before. It is forgotten after `endsMs`. */
  add(keyId: Uint8Array, nonce: Uint8Array, token: Uint8Array, epoch: number, endsMs: number): boolean {
    const { changes } = this.#database
      .prepare(
        `INSERT INTO tokens SELECT ?, ?, ?, ?, ?, ?, COALESCE(MAX(number), 0) + 1 FROM tokens WHERE state = ${STATE.queued}
          ON CONFLICT DO NOTHING`,
      )
      .run(keyId, nonce, token, STATE.queued, epoch, endsMs)
    return changes === 1
  }

  /** The batch to hand in: the one that was begun, or up to 256 tokens of the queue; empty when there are none. */
  batch(): Uint8Array[] {
    const begun = this.#batch()
    if (begun.length > 0) return begun
    this.#database
      .prepare(
        `UPDATE tokens SET state = ${STATE.batch} WHERE (key, nonce) IN
          (SELECT key, nonce FROM tokens WHERE state = ${STATE.queued} ORDER BY number LIMIT ${MAX_BATCH})`,
      )
      .run()
    return this.#batch()
  }

  /** The issuer's answer about the batch, a result a token. */
  finish(isRedeemed: readonly boolean[]): void {
    const batch = this.#batch()
    const mark = this.#database.prepare('UPDATE tokens SET state = ? WHERE state = ? AND token = ?')
    this.#database.exec('BEGIN IMMEDIATE')
    try {
      for (const [at, token] of batch.entries())
        mark.run(isRedeemed[at] ? STATE.redeemed : STATE.refused, STATE.batch, token)
      this.#database.exec('COMMIT')
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }

  /** The tokens that were redeemed in an epoch. */
  redeemed(epoch: number): Uint8Array[] {
    const rows = this.#database
      .prepare('SELECT token FROM tokens WHERE state = ? AND epoch = ?')
      .all(STATE.redeemed, epoch)
    return rows.map(row => row['token'] as Uint8Array)
  }

  /** The tokens that the issuer has not answered for. */
  waiting(): Uint8Array[] {
    return this.#database
      .prepare(`SELECT token FROM tokens WHERE state IN (${STATE.queued}, ${STATE.batch})`)
      .all()
      .map(row => row['token'] as Uint8Array)
  }

  /** Tokens redeemed by epoch, newest first, at most 400. */
  days(): { readonly epoch: number; readonly redeemed: number }[] {
    return this.#database
      .prepare('SELECT epoch, COUNT(*) AS n FROM tokens WHERE state = ? GROUP BY epoch ORDER BY epoch DESC LIMIT 400')
      .all(STATE.redeemed)
      .map(row => ({ epoch: Number(row['epoch']), redeemed: Number(row['n']) }))
  }

  counts(): EarningsCounts {
    const rows = this.#database.prepare('SELECT state, COUNT(*) AS n FROM tokens GROUP BY state').all()
    const of = (state: number) => Number(rows.find(row => row['state'] === state)?.['n'] ?? 0)
    return { queued: of(STATE.queued) + of(STATE.batch), redeemed: of(STATE.redeemed), refused: of(STATE.refused) }
  }

  /** Forgets tokens whose keys have ended. */
  sweep(now: number): void {
    this.#database.prepare('DELETE FROM tokens WHERE ends < ?').run(now)
  }

  close(): void {
    this.#database.close()
  }

  #batch(): Uint8Array[] {
    const rows = this.#database.prepare(`SELECT token FROM tokens WHERE state = ${STATE.batch} ORDER BY number`).all()
    return rows.map(row => row['token'] as Uint8Array)
  }
}
