// PostgreSQL, for several issuer processes on one database.

import postgres from 'postgres'
import { type Sql, type SqlValue, type Statements, StoreError } from './sql.ts'

const MAX_CONNECTIONS = 8
const CONNECT_SECONDS = 5
const STATEMENT_MS = 15_000
/** serialization_failure, deadlock_detected: another transaction won, and ours may be run again. */
const LOST = new Set(['40001', '40P01'])
const MAX_ATTEMPTS = 8

/** Opens a database by its URL (`postgres://…`, `?host=/directory` for a Unix socket); it connects when it is first asked. */
export function openPostgres(url: string): Sql {
  const address = new URL(url)
  const socket = address.searchParams.get('host')
  address.searchParams.delete('host')
  const client = postgres(address.href, {
    ...(socket !== null && { host: socket }),
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

/** The server's errors of classes that are about the server, and those of the connection: the library's and Node's. */
function coded(error: unknown): unknown {
  const { name, code } = error as { name?: unknown; code?: unknown }
  const isServer = name === 'PostgresError' && /^(08|25|40|53|55|57|58|XX)/.test(String(code))
  const isConnection = name !== 'PostgresError' && /^(E[A-Z]+|CONNECT\w*)$/.test(String(code))
  return isServer || isConnection ? new StoreError(error) : error
}
