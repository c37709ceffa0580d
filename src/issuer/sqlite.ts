// SQLite, in the process: one writer at a time, and what is committed is on the disk.

import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import { type Sql, type SqlValue, type Statements, StoreError } from './sql.ts'

const BUSY_MS = 5_000
const SQLITE_BUSY = 5
const MAX_STATEMENTS = 128
/** Transactions that wait for their turn; one more is refused. */
const MAX_WAITING = 10_000

/** Opens or makes a database file; `:memory:` is one of its own. Throws StoreError. */
export function openSqlite(file: string): Sql {
  const database = attempt(() => {
    const opened = new DatabaseSync(file, { timeout: 0 })
    opened.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON')
    return opened
  })
  const prepared = new Map<string, StatementSync>()
  let turn: Promise<unknown> = Promise.resolve()
  let waiting = 0

  const statement = (text: string): StatementSync => {
    const known = prepared.get(text)
    if (known !== undefined) return known
    const made = database.prepare(text.replaceAll(/\$(\d+)/g, '?$1'))
    const oldest = prepared.keys().next().value
    if (prepared.size >= MAX_STATEMENTS && oldest !== undefined) prepared.delete(oldest)
    prepared.set(text, made)
    return made
  }
  const statements: Statements = {
    all: async <R>(text: string, values: readonly SqlValue[] = []) =>
      statement(text).all(...(values as readonly SQLInputValue[])) as R[],
  }
  /** In turn: a transaction has awaits in it, and the connection knows only one. */
  const inTurn = <T>(run: () => Promise<T>): Promise<T> => {
    if (waiting >= MAX_WAITING) return Promise.reject(new StoreError(new Error('too many transactions are waiting')))
    waiting++
    const done = turn.then(run).finally(() => waiting--)
    turn = done.catch(() => undefined)
    return done
  }
  const begin = () => database.exec('BEGIN IMMEDIATE')
  return {
    dialect: 'sqlite',
    all: (text, values) => inTurn(() => patiently(() => statements.all(text, values))) as Promise<never>,
    transaction: run =>
      inTurn(async () => {
        await patiently(async () => begin())
        try {
          const result = await run(statements)
          database.exec('COMMIT')
          return result
        } catch (error) {
          if (database.isTransaction) attempt(() => database.exec('ROLLBACK'))
          throw coded(error)
        }
      }),
    close: () => inTurn(async () => database.close()),
  }
}

/** Waits for another process's transaction, without holding this process up as SQLite's own waiting would. */
async function patiently<T>(run: () => Promise<T>): Promise<T> {
  const startedMs = performance.now()
  for (let waitMs = 1; ; waitMs = Math.min(waitMs * 2, 50)) {
    try {
      return await run()
    } catch (error) {
      const isBusy = (error as { errcode?: number }).errcode === SQLITE_BUSY
      if (!isBusy || performance.now() - startedMs > BUSY_MS) throw coded(error)
      await new Promise(resolve => setTimeout(resolve, waitMs * Math.random()))
    }
  }
}

function attempt<T>(run: () => T): T {
  try {
    return run()
  } catch (error) {
    throw coded(error)
  }
}

function coded(error: unknown): unknown {
  return (error as { code?: string }).code === 'ERR_SQLITE_ERROR' && !isBroken(error) ? new StoreError(error) : error
}

/** A constraint that does not hold is a bug of ours, or the caller's to understand; the rest is the disk's. */
function isBroken(error: unknown): boolean {
  return ((error as { errcode?: number }).errcode ?? 0) % 256 === 19
}
