// PostgreSQL, for several issuer processes on one database.

import postgres from 'postgres'
import { type Sql, type SqlValue, type Statements, StoreError } from './sql.ts'

const MAX_CONNECTIONS = 8
const CONNECT_SECONDS = 5
const STATEMENT_MS = 15_000
/** serialization_failure, deadlock_detected: another transaction won, and ours may be run again. */
const LOST = new Set(['40001', '40P01'])
const MAX_ATTEMPTS = 8

/** Opens a database by its URL (`postgres://…`); it connects when it is first asked. */
export function openPostgres(url: string): Sql {
  const client = postgres(url, {
    max: MAX_CONNECTIONS,
    connect_timeout: CONNECT_SECONDS,
    backoff: attempts => Math.min(0.1 * 2 ** attempts, 5),
    idle_timeout: 60,
    onnotice: () => undefined,
    connection: { application_name: 'hoplite issuer', statement_timeout: STATEMENT_MS },
    types: { bigint: { to: 20, from: [20, 1700], parse: Number, serialize: String } },
  })
  const over = (connection: postgres.Sql | postgres.TransactionSql): Statements => ({
    all: async <R>(text: string, values: readonly SqlValue[] = []) =>
      (await connection.unsafe(text, values as never[], { prepare: true })) as unknown as R[],
  })
  return {
    dialect: 'postgres',
    all: (text, values) =>
      over(client)
        .all(text, values)
        .catch(error => {
          throw coded(error)
        }) as Promise<never>,
    async transaction(run, isolation) {
      for (let attempt = 1; ; attempt++) {
        try {
          const mode = isolation === 'snapshot' ? 'isolation level repeatable read' : ''
          return (await client.begin(mode, connection => run(over(connection)))) as Awaited<ReturnType<typeof run>>
        } catch (error) {
          if (attempt < MAX_ATTEMPTS && LOST.has((error as { code?: string }).code ?? '')) continue
          throw coded(error)
        }
      }
    },
    close: () => client.end({ timeout: 5 }),
  }
}

/** The library's own codes are about the connection; PostgreSQL's classes 08, 53, 57 and 58 about the server. */
function coded(error: unknown): unknown {
  const { code } = error as { code?: unknown }
  if (typeof code !== 'string') return error
  const isState = /^[0-9A-Z]{5}$/.test(code)
  const isServer = /^(08|25|40|53|55|57|58|XX)/.test(code)
  return isState && !isServer ? error : new StoreError(error)
}
