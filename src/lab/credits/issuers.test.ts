import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { systemRandom } from '#crypto/random.ts'
import { WalletKeeper } from '#daemon/wallet/wallet-keeper.ts'
import { IssuerClient } from '#issuer/issuer-client.ts'
import { skipUnless } from '../skip.ts'
import { type IssuerProcess, startIssuerProcess } from './issuer-process.ts'
import { postgresPrograms, startPostgres } from './postgres.ts'

const PROCESSES = 3
const TOKENS = 12
const KEY = 'issuer.key'

test('issuers of one database in several processes: of every voucher and token one use wins, and one may die', async t => {
  const programs = postgresPrograms()
  if (skipUnless(t, programs !== undefined, 'PostgreSQL is not installed', { tool: 'postgres' })) return
  await using stack = new AsyncDisposableStack()
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-issuers-'))
  stack.defer(() => rmSync(directory, { recursive: true, force: true }))
  const cluster = await startPostgres(programs ?? '')
  stack.defer(() => cluster.stop())
  const issuers = await startIssuers(stack, directory, cluster.database())
  const [first, , last] = issuers
  assert.ok(first && last)
  assert.equal(new Set(issuers.map(({ id }) => id)).size, 1, 'one identity')
  const wallets = issuers.map((issuer, i) => openWallet(stack, path.join(directory, `wallet-${i}`), issuer))
  const { codes } = (await first.admin('vouchers', '--credits', String(TOKENS))) as { codes: string[] }

  const redeemed = await Promise.allSettled(wallets.map(wallet => wallet.redeemVoucher(codes[0] ?? '')))
  assert.equal(redeemed.filter(({ status }) => status === 'fulfilled').length, 1, 'one wallet has the voucher')
  const rich = wallets.find(wallet => wallet.balance().tokens === TOKENS) ?? assert.fail()

  let tokens: readonly Uint8Array[] = []
  await rich.takeOut(TOKENS, taken => {
    tokens = taken
  })
  const orders = [tokens, tokens.toReversed(), [...tokens.slice(TOKENS / 2), ...tokens.slice(0, TOKENS / 2)]]
  const results = await Promise.all(wallets.map((wallet, i) => wallet.handIn(orders[i] ?? [])))
  const won = results.flat().filter(result => result === 'redeemed').length
  assert.equal(won, TOKENS, 'every token is redeemed once')
  const balances = await Promise.all(wallets.map(wallet => wallet.accountBalance()))
  assert.equal(sum(balances), TOKENS)

  const drawing = Promise.allSettled(wallets.map((wallet, i) => wallet.withdraw(balances[i] ?? 0)))
  await last.stop('SIGKILL')
  await drawing
  const moved = wallets.at(-1) ?? assert.fail()
  await moved.close()
  const elsewhere = openWallet(stack, path.join(directory, `wallet-${PROCESSES - 1}`), first)
  const alive = [...wallets.slice(0, -1), elsewhere]
  for (const wallet of alive) {
    await wallet.resume()
    await wallet.withdraw(await wallet.accountBalance())
  }
  assert.equal(sum(alive.map(wallet => wallet.balance().tokens)), TOKENS, 'no credit was lost or made')
  assert.deepEqual((await first.admin('audit'))['faults'], [])
})

/** Each with a state directory of its own, and the same secret in it. */
async function startIssuers(
  stack: AsyncDisposableStack,
  directory: string,
  database: string,
): Promise<IssuerProcess[]> {
  const start = async (i: number, secretOf?: IssuerProcess) => {
    const own = path.join(directory, `issuer-${i}`)
    mkdirSync(path.join(own, 'issuer'), { recursive: true, mode: 0o700 })
    if (secretOf !== undefined) cpSync(path.join(secretOf.stateDir, KEY), path.join(own, 'issuer', KEY))
    const issuer = await startIssuerProcess(own, [`database = ${JSON.stringify(database)}`])
    stack.defer(() => issuer.stop())
    return issuer
  }
  const first = await start(0)
  const others = Array.from({ length: PROCESSES - 1 }, (_, i) => start(i + 1, first))
  return [first, ...(await Promise.all(others))]
}

function openWallet(stack: AsyncDisposableStack, directory: string, { url, id }: IssuerProcess): WalletKeeper {
  const client = new IssuerClient({ url, attempts: 2 })
  const options = { client, issuerId: id, random: systemRandom, clock: Date.now, stretching: 'test' as const }
  const wallet = WalletKeeper.open({ ...options, directory })
  stack.defer(() => wallet.close())
  return wallet
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
