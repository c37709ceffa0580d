// The wallet's commands. A node that runs has the wallet open and carries them out; without one they open it themselves.

import path from 'node:path'
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import type { Input, Output } from '#api/table.ts'
import { issuerWay } from '#daemon/client/issuer-way.ts'
import { loadConfig } from '#daemon/config.ts'
import { checkUseProof, writeUseProof } from '#daemon/wallet/proofs.ts'
import { backUpWallet, openWallet, restoreBackup } from '#daemon/wallet/wallet.ts'
import { walletHandlers } from '#daemon/wallet/wallet-desk.ts'
import { readWallet } from '#daemon/wallet/wallet-store.ts'
import { configFile, socketPath, stateDirectory } from '#platform/state/directories.ts'
import { prepareStateDirectory } from '#platform/state/state-file.ts'
import { print } from '../output.ts'

const POLL_MS = 5_000
/** Blinding costs a fortieth of a second a credit. */
const ACTION_MS = 5 * 60_000

export interface WalletOptions {
  config?: string
  stateDir?: string
  json?: boolean
}

/** Shows what the wallet holds; asks the issuer nothing. */
export async function showWallet(options: WalletOptions & { history?: boolean }): Promise<void> {
  const { tokens, withdrawing, doubtful, history } = await lookInto(options)
  const lines = [`${tokens} credits`]
  if (withdrawing > 0) lines.push(`${withdrawing} on the way from the issuer`)
  if (doubtful > 0) lines.push(`${doubtful} on the way to the issuer, or perhaps spent`)
  if (options.history) lines.push(...history.map(describe))
  const values = { tokens, withdrawing, doubtful, ...(options.history && { history }) }
  print(options.json, { ok: true, ...values }, lines.join('\n'))
}

export async function redeemVoucher(code: string, options: WalletOptions): Promise<void> {
  const { credits, tokens } = await act(options, 'redeemVoucher', { code })
  print(options.json, { ok: true, credits, tokens }, `${credits} credits more, ${tokens} in all`)
}

/** Lists offers and orders, or takes an offer; then withdraws whatever the account has. */
export async function topUp(offer: string | undefined, options: WalletOptions & { wait?: number }): Promise<void> {
  const untilMs = Date.now() + (options.wait ?? 0) * 60_000
  const first = await act(options, 'topUp', { ...(offer !== undefined && { offer }) })
  const lines = first.offers.map(({ id, credits, price, unit }) => `${id}: ${credits} credits for ${price} ${unit}`)
  const { order } = first
  if (order !== undefined)
    lines.push(`pay ${order.price} to ${order.address} before ${new Date(order.expiresMs).toISOString()}`)
  if (!options.json && options.wait !== undefined && lines.length > 0)
    process.stdout.write(`${lines.splice(0).join('\n')}\n`)
  let last = first
  while (Date.now() < untilMs && last.received === 0) {
    await sleep(POLL_MS)
    last = await act(options, 'topUp', {})
  }
  const { orders, received, tokens } = last
  for (const { id, state, credits } of orders) lines.push(`order ${id.slice(0, 8)}, ${credits} credits: ${state}`)
  if (received > 0) lines.push(`${received} credits more, ${tokens} in all`)
  print(
    options.json,
    { ok: true, offers: first.offers, ...(order && { order }), orders, received, tokens },
    lines.join('\n') || 'no offers',
  )
}

export async function deposit(count: number | undefined, options: WalletOptions): Promise<void> {
  const { taken, account, tokens } = await act(options, 'deposit', { ...(count !== undefined && { count }) })
  const text = `${taken} credits given back; the account has ${account}, the wallet ${tokens}`
  print(options.json, { ok: true, taken, account, tokens }, text)
}

/** An account of a name, that the wallet uses from now on and that can be used from other machines. */
export async function account(how: Input<'setAccount'>['how'], name: string, options: WalletOptions): Promise<void> {
  const isRecovery = how === 'recover'
  const [password = '', code = ''] = isRecovery
    ? (await readSecrets(['Recovery code', 'New password'])).toReversed()
    : await readSecrets(['Password'])
  const input = { how, name, password, ...(isRecovery && { recovery: code }) }
  const { account, tokens, recovery } = await act(options, 'setAccount', input)
  const lines = [`the wallet uses the account ${name}, which has ${account} credits; ${tokens} are in the wallet`]
  if (recovery !== undefined) lines.push(`write this recovery code down, it is not shown again: ${recovery}`)
  print(options.json, { ok: true, account, tokens, ...(recovery !== undefined && { recovery }) }, lines.join('\n'))
}

/** Puts credits in a file, for another wallet of one's own or of somebody else. */
export async function send(count: number, file: string, options: WalletOptions): Promise<void> {
  const { sent, tokens } = await act(options, 'sendCredits', { count, file: path.resolve(file) })
  const text = `${sent} credits are in ${file}: whoever has it has them; ${tokens} are left`
  print(options.json, { ok: true, sent, tokens }, text)
}

export async function receive(file: string, options: WalletOptions): Promise<void> {
  const { received, tokens } = await act(options, 'receiveCredits', { file: path.resolve(file) })
  print(options.json, { ok: true, received, tokens }, `${received} credits more, ${tokens} in all`)
}

/** Proves to others that the wallet spent no more than a bound, and not how much. */
export async function prove(bound: number, file: string, options: WalletOptions & { days: number }): Promise<void> {
  const { history } = await lookInto(options)
  writeUseProof(history, bound, options.days, path.resolve(file))
  print(
    options.json,
    { ok: true, bound, days: options.days },
    `${file} proves that at most ${bound} credits were spent`,
  )
}

export function check(file: string, options: WalletOptions): void {
  const { first, last, bound } = checkUseProof(file)
  print(options.json, { ok: true, first, last, bound }, `at most ${bound} credits from ${first} to ${last}`)
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

/** The wallet as the node that has it open sees it, or as it lies there. */
async function lookInto(options: WalletOptions): Promise<Output<'wallet'>> {
  const running = await callAction(socketOf(options), 'wallet', {}).catch(() => undefined)
  if (running !== undefined) return running
  const state = readWallet(walletDirectory(options))
  return {
    tokens: (state?.tokens.length ?? 0) + (state?.hand.length ?? 0),
    withdrawing: state?.withdrawal?.items.length ?? 0,
    doubtful: (state?.doubtful.length ?? 0) + (state?.deposit?.length ?? 0),
    history: [...(state?.history ?? [])],
  }
}

type WalletAction = keyof ReturnType<typeof walletHandlers>

/** Lets the running node do it, which has the wallet open; or opens the wallet. */
async function act<N extends WalletAction>(options: WalletOptions, name: N, input: Input<N>): Promise<Output<N>> {
  try {
    return await callAction(socketOf(options), name, input, ACTION_MS)
  } catch (error) {
    const isAlone = error instanceof HopliteError && ['DAEMON_NOT_RUNNING', 'ACTION_UNKNOWN'].includes(error.code)
    if (!isAlone) throw error
  }
  const config = loadConfig(configFile(options.config))
  const wallet = openWallet(config, walletDirectory(options), issuerWay(config))
  try {
    await wallet.resume()
    await wallet.renew()
    const handler = walletHandlers(wallet)[name] as unknown as (input: Input<N>) => Promise<Output<N>>
    return await handler(input)
  } finally {
    await wallet.close()
  }
}

function socketOf(options: WalletOptions): string {
  return socketPath(stateDirectory(options.stateDir))
}

function walletDirectory(options: WalletOptions): string {
  const stateDir = stateDirectory(options.stateDir)
  prepareStateDirectory(stateDir)
  return path.join(stateDir, 'wallet')
}

/** A line of standard input for each question; on a terminal they are asked, and the answers not shown. */
async function readSecrets(questions: readonly string[]): Promise<string[]> {
  const { isTTY } = process.stdin
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: process.stdin, ...(isTTY && { output: silent, terminal: true }) })
  const answers: string[] = []
  if (isTTY) process.stderr.write(`${questions[0]}: `)
  try {
    for await (const line of lines) {
      answers.push(line)
      if (isTTY) process.stderr.write('\n')
      if (answers.length === questions.length) break
      if (isTTY) process.stderr.write(`${questions[answers.length]}: `)
    }
    return questions.map((_, at) => answers[at] ?? '')
  } finally {
    lines.close()
  }
}

async function readPassphrase(): Promise<string> {
  const [passphrase = ''] = await readSecrets(['Passphrase'])
  return passphrase
}

function describe({ atMs, kind, credits }: Output<'wallet'>['history'][number]): string {
  return `${new Date(atMs).toISOString().slice(0, 16)}  ${kind.padEnd(10)} ${credits}`
}
