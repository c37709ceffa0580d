// Speeds of credits, on one core: what an issuer signs and redeems, what a relay verifies, what a wallet blinds.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { epochOf } from '#credit/epoch.ts'
import { refuseToken } from '#credit/keys.ts'
import { SpentFilter } from '#credit/spent-filter.ts'
import { blind, blindSign, finalize } from '#crypto/blind-rsa.ts'
import { generateIdentity } from '#crypto/signature.ts'
import { Issuer } from '#issuer/issuer.ts'
import { openPostgres } from '#issuer/postgres.ts'
import type { Sql } from '#issuer/sql.ts'
import { openSqlite } from '#issuer/sqlite.ts'
import { EarningsStore } from '#platform/state/earnings-store.ts'
import { decodeToken, tokenInput } from '#wire/token.ts'
import { postgresPrograms, startPostgres } from '../credits/postgres.ts'
import { makeAccount, TEST_START_MS as NOW, withdrawTokens } from '../credits/test-issuer.ts'

type Report = (name: string, value: number, unit: string) => void
const BATCH = 256
const TOKENS = 24 * BATCH

/** Measures with `rate`, which says how often a second something can be done. */
export async function benchCredits(report: Report, rate: (run: () => void, batch?: number) => number): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-bench-'))
  const programs = postgresPrograms()
  const cluster = programs === undefined ? undefined : await startPostgres(programs)
  try {
    const sqlite = openSqlite(path.join(directory, 'issuer.db'))
    const issuer = await openIssuer(sqlite)
    await tokens(issuer, sqlite, report, rate)
    await takes(issuer, sqlite, directory, report)
    await redemptions(issuer, sqlite, 'sqlite', report)
    await sqlite.close()
    if (cluster === undefined) return
    const postgres = openPostgres(cluster.database())
    await redemptions(await openIssuer(postgres), postgres, 'postgres', report)
    await postgres.close()
  } finally {
    await cluster?.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

async function tokens(issuer: Issuer, sql: Sql, report: Report, rate: (run: () => void, batch?: number) => number) {
  const account = await makeAccount(issuer, sql, 1)
  const token = decodeToken((await withdrawTokens(issuer, account, 1, NOW))[0] ?? new Uint8Array())
  const { keys } = await issuer.keys.directory(NOW)
  const key = token && (await issuer.keys.find(token.keyId, NOW))
  if (token === undefined || key === undefined) throw new Error('bench: no token')
  const input = tokenInput(token)
  const startedMs = performance.now()
  for (let i = 0; i < 20; i++) {
    const { message, inverse } = await blind(key, input)
    await finalize(key, input, blindSign(key.secret, message) ?? new Uint8Array(), inverse)
  }
  report('credits.walletPerToken', (performance.now() - startedMs) / 20, 'Ms')
  const { message } = await blind(key, input)
  report(
    'credits.issuerSigns',
    rate(() => blindSign(key.secret, message)),
    'PerSecond',
  )
  report(
    'credits.relayVerifies',
    rate(() => refuseToken(token, keys, NOW)),
    'PerSecond',
  )
}

/** What a relay does with each token: check it, look whether it was seen, write it down. */
async function takes(issuer: Issuer, sql: Sql, directory: string, report: Report): Promise<void> {
  const account = await makeAccount(issuer, sql, BATCH)
  const tokens = await withdrawTokens(issuer, account, BATCH, NOW)
  const { keys } = await issuer.keys.directory(NOW)
  const store = new EarningsStore(directory)
  const filter = new SpentFilter(store, new Uint8Array(16))
  const startedMs = performance.now()
  for (const bytes of tokens) {
    const token = decodeToken(bytes)
    if (token === undefined || refuseToken(token, keys, NOW) !== undefined || filter.has(token.keyId, token.nonce))
      throw new Error('bench: a good token is refused')
    store.add(token.keyId, token.nonce, bytes, epochOf(NOW), NOW + 1e9)
    filter.add(token.keyId, token.nonce)
  }
  report('credits.relayTakes', BATCH / ((performance.now() - startedMs) / 1_000), 'PerSecond')
  store.close()
}

/** Withdrawals and redemptions as requests come: in batches, signatures and checks included, four at a time. */
async function redemptions(issuer: Issuer, sql: Sql, name: string, report: Report): Promise<void> {
  const account = await makeAccount(issuer, sql, TOKENS)
  const batches: Uint8Array[][] = []
  for (let i = 0; i < TOKENS / BATCH; i++) batches.push(await withdrawTokens(issuer, account, BATCH, NOW))
  const startedMs = performance.now()
  for (let i = 0; i < batches.length; i += 4)
    await Promise.all(batches.slice(i, i + 4).map(batch => issuer.redeem(account, batch, NOW)))
  report(`credits.redeemed.${name}`, TOKENS / ((performance.now() - startedMs) / 1_000), 'PerSecond')
}

function openIssuer(sql: Sql): Promise<Issuer> {
  const master = new Uint8Array(32)
  return Issuer.open({ sql, name: 'bench', identity: generateIdentity(), master }, NOW)
}
