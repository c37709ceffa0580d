// An issuer for tests: over a database in memory or the one that is given, with a clock that the test moves.

import type { FastifyInstance } from 'fastify'
import { generateIdentity } from '#crypto/signature.ts'
import { makeServer } from '#issuer/http.ts'
import { Issuer, type IssuerOptions } from '#issuer/issuer.ts'
import { IssuerClient } from '#issuer/issuer-client.ts'
import { openSqlite } from '#issuer/sqlite.ts'

export interface TestClock {
  now: number
}

export interface TestIssuer {
  readonly issuer: Issuer
  readonly server: FastifyInstance
  readonly clock: TestClock
  readonly url: string
  /** Failures that were the issuer's own. */
  readonly faults: unknown[]
  client(): IssuerClient
  close(): Promise<void>
}

export const TEST_START_MS = Date.UTC(2026, 0, 5)

/** Starts one on a free port of 127.0.0.1. */
export async function startTestIssuer(
  options: Partial<IssuerOptions> = {},
  clock: TestClock = { now: TEST_START_MS },
): Promise<TestIssuer> {
  const issuer = await Issuer.open(
    {
      sql: openSqlite(':memory:'),
      name: 'issuer.example',
      identity: generateIdentity(),
      master: new Uint8Array(32).fill(1),
      ...options,
    },
    clock.now,
  )
  const faults: unknown[] = []
  const onFault = (error: unknown) => faults.push(error)
  const server = await makeServer({ issuer, version: '0.0.0', clock: () => clock.now, onFault })
  const url = await server.listen({ host: '127.0.0.1', port: 0 })
  return {
    ...{ issuer, server, clock, url, faults },
    client: () => new IssuerClient({ url, attempts: 3, wait: () => Promise.resolve() }),
    async close() {
      await server.close()
      await issuer.close()
    },
  }
}
