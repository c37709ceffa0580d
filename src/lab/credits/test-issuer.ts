// An issuer for tests: over a database in memory or the one that is given, with a clock that the test moves.

import { constants, randomBytes, sign } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { signingKey } from '#credit/keys.ts'
import { generateIdentity } from '#crypto/signature.ts'
import { makeServer } from '#issuer/http.ts'
import { Issuer, type IssuerOptions } from '#issuer/issuer.ts'
import { IssuerClient } from '#issuer/issuer-client.ts'
import type { Sql } from '#issuer/sql.ts'
import { openSqlite } from '#issuer/sqlite.ts'
import { encodeToken, RSA_BYTES, tokenInput } from '#wire/token.ts'

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

/** An account of this balance, without the ceremony of making one. */
export async function makeAccount(issuer: Issuer, sql: Sql, credits = 0): Promise<Uint8Array> {
  const [id, name] = [randomBytes(16), randomBytes(32)]
  await sql.all('INSERT INTO accounts (id, name, record) VALUES ($1, $2, $3)', [id, name, ''])
  if (credits > 0) await sql.transaction(tx => issuer.ledger.deposit(tx, id, 'vouchers', credits))
  return id
}

/** Pays for `count` tokens and makes them: as a wallet would, and without its 20 ms of blinding for each. */
export async function withdrawTokens(
  issuer: Issuer,
  account: Uint8Array,
  count: number,
  now: number,
): Promise<Uint8Array[]> {
  const { keys } = await issuer.keys.directory(now)
  const key = signingKey(keys, now)
  const ring = key && (await issuer.keys.find(key.id, now))
  if (ring === undefined) throw new Error('withdraw tokens: no key signs')
  const blinded = Array.from({ length: count }, () => new Uint8Array(randomBytes(RSA_BYTES)).with(0, 1))
  await issuer.withdraw(account, ring.id, blinded, now)
  return blinded.map(() => {
    const fields = { nonce: randomBytes(32), challengeDigest: keys.challengeDigest, keyId: ring.id }
    const options = { key: ring.secret, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 48 }
    return encodeToken({ ...fields, authenticator: sign('sha384', tokenInput(fields), options) })
  })
}
