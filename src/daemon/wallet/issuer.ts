// The issuer as a process: its database, its HTTP server, and the rounds in which it tends its keys and looks for payments.

import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { HopliteError } from '#api/errors.ts'
import { makeServer } from '#issuer/http.ts'
import { Issuer } from '#issuer/issuer.ts'
import { moneroProcessor } from '#issuer/monero.ts'
import { openPostgres } from '#issuer/postgres.ts'
import { StoreError } from '#issuer/sql.ts'
import { openSqlite } from '#issuer/sqlite.ts'
import { loadIssuerSecret } from '#platform/state/issuer-key.ts'
import { prepareStateDirectory } from '#platform/state/state-file.ts'
import type { Config } from '../config.ts'
import { parseListen } from '../listen.ts'
import { type Log, own } from '../log.ts'
import { type RunOptions, untilAborted } from '../node.ts'
import { VERSION } from '../version.ts'

const TEND_MS = 5 * 60_000
const POLL_MS = 20_000
const RETRY_MS = 5_000

/** Runs an issuer until `signal` is aborted. Throws what keeps it from starting. */
export async function runIssuer(config: Config, { stateDir, signal, log }: RunOptions): Promise<void> {
  const issuer = await openIssuer(config, stateDir)
  const onFault = (error: unknown) => log.error('a request failed', { error: own(nameOf(error)) })
  const server = await makeServer({ issuer, version: VERSION, clock: Date.now, onFault })
  try {
    const { host, port } = parseListen(config.issuer.listen)
    const address = await server.listen({ host, port }).catch(error => {
      const advice = 'another program uses this address, or it is not one of this machine; change [issuer] listen'
      throw new HopliteError(
        'ADDRESS_IN_USE',
        `listen at ${config.issuer.listen}: ${(error as Error).message}`,
        advice,
        error,
      )
    })
    log.info('issuer is up', { address: own(address), id: own(issuer.id) })
    await Promise.all([
      rounds(TEND_MS, signal, log, 'tend keys', () => issuer.tend(Date.now())),
      rounds(POLL_MS, signal, log, 'look for payments', () => issuer.orders.poll(Date.now(), signal)),
      untilAborted(signal),
    ])
  } finally {
    await server.close()
    await issuer.close()
  }
}

/** Opens the issuer of a state directory, for the server or for an operator's command. Throws DATABASE_FAILED. */
export async function openIssuer(config: Config, stateDir: string): Promise<Issuer> {
  prepareStateDirectory(stateDir)
  const { identity, master } = loadIssuerSecret(stateDir)
  const { name, database, monero_wallet_rpc: walletRpc, monero_confirmations, order_minutes } = config.issuer
  const monero = { walletRpc, confirmations: monero_confirmations, orderMs: order_minutes * 60_000 }
  try {
    const sql = database === '' ? openSqlite(path.join(stateDir, 'issuer.db')) : openPostgres(database)
    const processors = walletRpc === '' ? [] : [moneroProcessor(monero)]
    return await Issuer.open({ sql, name, identity, master, processors }, Date.now())
  } catch (error) {
    throw new HopliteError(
      'DATABASE_FAILED',
      `open the issuer: ${error instanceof Error ? error.message : 'unknown error'}`,
      'check [issuer] database, that it runs, and the disk',
      error,
    )
  }
}

/** Does something again and again; a failure is logged, and tried again sooner. */
async function rounds(everyMs: number, signal: AbortSignal, log: Log, what: string, run: () => Promise<unknown>) {
  while (!signal.aborted) {
    let waitMs = everyMs
    try {
      await run()
    } catch (error) {
      log.warn('a round failed', { what: own(what), error: own(nameOf(error)) })
      waitMs = RETRY_MS
    }
    await sleep(waitMs, undefined, { signal }).catch(() => undefined)
  }
}

/** What kind of failure, without what a client or database may have put in its text. */
function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  const { code } = (error instanceof StoreError ? error.cause : error) as { code?: unknown }
  return `${error.name}${typeof code === 'string' ? ` ${code}` : ''}`
}
