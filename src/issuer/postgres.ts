// PostgreSQL, for several issuer processes on one database.

import { Pool, type PoolClient, types } from 'pg'
import { type Sql, type SqlValue, type Statements, StoreError } from './sql.ts'

const MAX_CONNECTIONS = 8
const CONNECT_MS = 5_000
const STATEMENT_MS = 15_000
/** The client's own patience, for a server that has gone without a word. */
const ANSWER_MS = 20_000
/** Statements that are prepared once a connection; others are parsed each time. */
const MAX_PREPARED = 256
const BIGINT = 20
const NUMERIC = 1700
/** serialization_failure, deadlock_detected: another transaction won, and ours may be run again. */
const LOST = new Set(['40001', '40P01'])
const MAX_ATTEMPTS = 8

/** Opens a database by its URL (`postgres://…`, `?host=/directory` for a Unix socket); it connects when it is first asked. */
export function openPostgres(url: string): Sql {
  const address = new URL(url)
  const pool = new Pool({
    host: address.searchParams.get('host') ?? address.hostname,
    ...(address.port !== '' && { port: Number(address.port) }),
    user: decodeURIComponent(address.username),
    ...(address.password !== '' && { password: decodeURIComponent(address.password) }),
    database: decodeURIComponent(address.pathname.slice(1)),
    max: MAX_CONNECTIONS,
    connectionTimeoutMillis: CONNECT_MS,
    statement_timeout: STATEMENT_MS,
    query_timeout: ANSWER_MS,
    idleTimeoutMillis: 60_000,
    application_name: 'hoplite issuer',
    types: { getTypeParser: (type, format) => parserOf(type, format) },
  })
  // A connection that is lost while nobody uses it is replaced; one in use tells whoever uses it.
  pool.on('error', () => undefined)
  const names = new Map<string, string>()
  const nameOf = (text: string) => {
    const known = names.get(text)
    if (known !== undefined || names.size >= MAX_PREPARED) return known
    names.set(text, `s${names.size}`)
    return names.get(text)
  }
  const over = (connection: Pool | PoolClient): Statements => ({
    all: async <R>(text: string, values: readonly SqlValue[] = []) => {
      const name = nameOf(text)
      const { rows } = await connection.query({ text, values: [...values], ...(name !== undefined && { name }) })
      return rows as R[]
    },
  })
  const once = async <T>(run: (tx: Statements) => Promise<T>, isolation: string | undefined): Promise<T> => {
    const client = await pool.connect()
    let failure: Error | undefined
    try {
      // Also told to whoever waits for an answer; without a listener it would end the process.
      client.on('error', noteFailure)
      await client.query(isolation === 'snapshot' ? 'BEGIN ISOLATION LEVEL REPEATABLE READ' : 'BEGIN')
      const result = await run(over(client))
      await client.query('COMMIT')
      return result
    } catch (error) {
      await client.query('ROLLBACK').catch(noteFailure)
      throw error
    } finally {
      client.off('error', noteFailure)
      client.release(failure)
    }
    function noteFailure(error: Error) {
      failure = error
    }
  }
  return {
    dialect: 'postgres',
    all: (text, values) =>
      over(pool)
        .all(text, values)
        .catch(error => {
          throw coded(error)
        }) as Promise<never>,
    async transaction(run, isolation) {
      for (let attempt = 1; ; attempt++) {
        try {
          return await once(run, isolation)
        } catch (error) {
          if (attempt < MAX_ATTEMPTS && LOST.has((error as { code?: string }).code ?? '')) continue
          throw coded(error)
        }
      }
    },
    close: () => pool.end(),
  }
}

/** Whole numbers as numbers; bytes and texts as they are. */
function parserOf(type: number, format?: string): (text: never) => unknown {
  if (type === BIGINT || type === NUMERIC) return Number
  return types.getTypeParser(type, format as 'text') as (text: never) => unknown
}

/** The server's errors of classes that are about the server, and those of the connection: the library's and Node's. */
function coded(error: unknown): unknown {
  const { code, message } = error as { code?: unknown; message?: unknown }
  const isServer = /^(08|25|40|53|55|57|58|XX)[0-9A-Z]{3}$/.test(String(code))
  const isConnection = /^E[A-Z]+$/.test(String(code)) || (code === undefined && CONNECTION.test(String(message)))
  return isServer || isConnection ? new StoreError(error) : error
}

/** What the library says of connections, which has no code. */
const CONNECTION =
  /connection (terminated|ended|error)|connection timeout|client was closed|not queryable|read timeout/i
