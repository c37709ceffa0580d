// The wallet's commands. They open it themselves, so no daemon may be using it.

import path from 'node:path'
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { loadConfig } from '#daemon/config.ts'
import { backUpWallet, openWallet, restoreBackup } from '#daemon/wallet.ts'
import { readWallet, type WalletKeeper } from '#daemon/wallet-keeper.ts'
import { configFile, stateDirectory } from '#platform/directories.ts'
import { prepareStateDirectory } from '#platform/state-file.ts'
import { print } from '../output.ts'

const POLL_MS = 5_000

export interface WalletOptions {
  config?: string
  stateDir?: string
  json?: boolean
}

/** Shows what the wallet holds; asks the issuer nothing. */
export async function showWallet(options: WalletOptions & { history?: boolean }): Promise<void> {
  const state = readWallet(walletDirectory(options))
  const tokens = (state?.tokens.length ?? 0) + (state?.hand.length ?? 0)
  const withdrawing = state?.withdrawal?.items.length ?? 0
  const doubtful = (state?.doubtful.length ?? 0) + (state?.deposit?.length ?? 0)
  const lines = [`${tokens} credits`]
  if (withdrawing > 0) lines.push(`${withdrawing} on the way from the issuer`)
  if (doubtful > 0) lines.push(`${doubtful} on the way to the issuer, or perhaps spent`)
  if (options.history) lines.push(...(state?.history ?? []).map(describe))
  const history = options.history ? { history: state?.history ?? [] } : {}
  print(options.json, { ok: true, tokens, withdrawing, doubtful, ...history }, lines.join('\n'))
}

export function redeemVoucher(voucher: string, options: WalletOptions): Promise<void> {
  return withWallet(options, async wallet => {
    const credits = await wallet.redeemVoucher(voucher)
    const { tokens } = wallet.balance()
    print(options.json, { ok: true, credits, tokens }, `${credits} credits more, ${tokens} in all`)
  })
}

/** Lists offers and orders, or takes an offer; then withdraws whatever the account has. */
export function topUp(offer: string | undefined, options: WalletOptions & { wait?: number }): Promise<void> {
  return withWallet(options, async wallet => {
    const lines: string[] = []
    const offers = offer === undefined ? await wallet.offers() : []
    for (const { id, credits, price, unit } of offers) lines.push(`${id}: ${credits} credits for ${price} ${unit}`)
    const order = offer === undefined ? undefined : await wallet.order(offer)
    if (order !== undefined) {
      lines.push(`pay ${order.price} to ${order.address} before ${new Date(order.expiresMs).toISOString()}`)
      if (!options.json && options.wait !== undefined) process.stdout.write(`${lines.splice(0).join('\n')}\n`)
    }
    const untilMs = Date.now() + (options.wait ?? 0) * 60_000
    while (Date.now() < untilMs && (await wallet.accountBalance()) === 0) await sleep(POLL_MS)
    const received = await wallet.withdraw(await wallet.accountBalance())
    const open = (await wallet.orders()).filter(({ state }) => state === 'open' || state === 'seen' || state === 'late')
    for (const { id, state, credits } of open) lines.push(`order ${id.slice(0, 8)}, ${credits} credits: ${state}`)
    if (received > 0) lines.push(`${received} credits more, ${wallet.balance().tokens} in all`)
    const values = { offers, ...(order !== undefined && { order }), orders: open, received }
    print(options.json, { ok: true, ...values, tokens: wallet.balance().tokens }, lines.join('\n') || 'no offers')
  })
}

export function deposit(count: number | undefined, options: WalletOptions): Promise<void> {
  return withWallet(options, async wallet => {
    const taken = await wallet.deposit(count ?? wallet.balance().tokens)
    const account = await wallet.accountBalance()
    const { tokens } = wallet.balance()
    print(
      options.json,
      { ok: true, taken, account, tokens },
      `${taken} credits given back; the account has ${account}, the wallet ${tokens}`,
    )
  })
}

export async function backup(file: string, options: WalletOptions): Promise<void> {
  backUpWallet(walletDirectory(options), path.resolve(file), await readPassphrase())
  print(options.json, { ok: true, file }, `the wallet is in ${file}`)
}

export async function restore(file: string, options: WalletOptions): Promise<void> {
  restoreBackup(walletDirectory(options), path.resolve(file), await readPassphrase())
  print(
    options.json,
    { ok: true },
    'the wallet is back; the next command finds out at the issuer what is still unspent',
  )
}

async function withWallet(options: WalletOptions, run: (wallet: WalletKeeper) => Promise<void>): Promise<void> {
  const wallet = openWallet(loadConfig(configFile(options.config)), walletDirectory(options))
  try {
    await wallet.resume()
    await wallet.renew()
    await run(wallet)
  } finally {
    await wallet.close()
  }
}

function walletDirectory(options: WalletOptions): string {
  const stateDir = stateDirectory(options.stateDir)
  prepareStateDirectory(stateDir)
  return path.join(stateDir, 'wallet')
}

/** A line of standard input; on a terminal it is asked for and not shown. */
async function readPassphrase(): Promise<string> {
  const { isTTY } = process.stdin
  if (isTTY) process.stderr.write('Passphrase: ')
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: process.stdin, ...(isTTY && { output: silent, terminal: true }) })
  try {
    for await (const line of lines) return line
    return ''
  } finally {
    lines.close()
    if (isTTY) process.stderr.write('\n')
  }
}

function describe({ atMs, kind, credits }: WalletKeeper['state']['history'][number]): string {
  return `${new Date(atMs).toISOString().slice(0, 16)}  ${kind.padEnd(10)} ${credits}`
}
