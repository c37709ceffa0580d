// What a user does with the wallet, whoever has it open: a command, or the daemon on its behalf.

import { HopliteError } from '#api/errors.ts'
import type { Handlers, Input, Output, Status } from '#api/table.ts'
import { newRecoveryCode, readRecoveryCode } from '#credit/recovery-code.ts'
import { systemRandom } from '#crypto/random.ts'
import { readTokens, writeTokens } from '../token-file.ts'
import type { WalletKeeper } from './wallet-keeper.ts'

const LEAST_PASSWORD = 10

/** The wallet's part of a node's API. */
export function walletHandlers(wallet: WalletKeeper) {
  return {
    wallet: () => showWallet(wallet),
    redeemVoucher: ({ code }) => redeemVoucher(wallet, code),
    topUp: ({ offer }) => topUp(wallet, offer),
    deposit: ({ count }) => deposit(wallet, count),
    setAccount: input => setAccount(wallet, input),
    sendCredits: ({ count, file }) => sendCredits(wallet, count, file),
    receiveCredits: ({ file }) => receiveCredits(wallet, file),
  } as const satisfies Handlers
}

/** The wallet in a node's status. */
export function walletStatus(wallet: WalletKeeper): NonNullable<Status['credits']> {
  const { tokens, withdrawing, depositing, doubtful } = wallet.balance()
  return { tokens, pending: withdrawing + depositing + doubtful }
}

/** What the wallet holds and what came and went. */
function showWallet(wallet: WalletKeeper): Output<'wallet'> {
  const { tokens, withdrawing, depositing, doubtful } = wallet.balance()
  const history = wallet.state.history.map(({ atMs, kind, credits }) => ({ atMs, kind, credits }))
  const { isNamed, name } = wallet.state.account
  const account = { isNamed, ...(isNamed && { accountName: name }) }
  return { tokens, withdrawing, doubtful: doubtful + depositing, ...account, history }
}

async function redeemVoucher(wallet: WalletKeeper, code: string): Promise<Output<'redeemVoucher'>> {
  const credits = await wallet.redeemVoucher(code)
  return { credits, tokens: wallet.balance().tokens }
}

/** Lists offers, or takes one; then withdraws whatever the account has. */
async function topUp(wallet: WalletKeeper, offer: string | undefined): Promise<Output<'topUp'>> {
  const offers = offer === undefined ? await wallet.offers() : []
  const order = offer === undefined ? undefined : await wallet.order(offer)
  const received = await wallet.withdraw(await wallet.accountBalance())
  const orders = (await wallet.orders()).filter(({ state }) => state === 'open' || state === 'seen' || state === 'late')
  return { offers, ...(order && { order }), orders, received, tokens: wallet.balance().tokens }
}

/** Gives so many tokens back to the account, or all. */
async function deposit(wallet: WalletKeeper, count: number | undefined): Promise<Output<'deposit'>> {
  const taken = await wallet.deposit(count ?? wallet.balance().tokens)
  return { taken, account: await wallet.accountBalance(), tokens: wallet.balance().tokens }
}

/** Makes, uses or recovers an account of a name. */
async function setAccount(wallet: WalletKeeper, input: Input<'setAccount'>): Promise<Output<'setAccount'>> {
  const { how, name, password } = input
  if (how !== 'use' && password.length < LEAST_PASSWORD) {
    const problem = `set a password: it has ${LEAST_PASSWORD} characters or more`
    throw new HopliteError('WALLET_FAILED', problem, 'several words are best')
  }
  const recovery = how === 'create' ? newRecoveryCode(systemRandom) : undefined
  if (recovery !== undefined) await wallet.createAccount(name, password, readRecoveryCode(recovery))
  else if (how === 'recover') await wallet.recoverAccount(name, password, readRecoveryCode(input.recovery ?? ''))
  else await wallet.useAccount(name, password)
  const account = await wallet.accountBalance()
  return { account, tokens: wallet.balance().tokens, ...(recovery !== undefined && { recovery }) }
}

/** Withdraws what the wallet lacks, and puts so many credits in a file. */
async function sendCredits(wallet: WalletKeeper, count: number, file: string): Promise<Output<'sendCredits'>> {
  const missing = count - wallet.balance().tokens
  if (missing > 0) await wallet.withdraw(missing)
  const sent = await wallet.takeOut(count, tokens => writeTokens(file, tokens))
  return { sent, tokens: wallet.balance().tokens }
}

async function receiveCredits(wallet: WalletKeeper, file: string): Promise<Output<'receiveCredits'>> {
  const received = await wallet.takeIn(readTokens(file))
  return { received, tokens: wallet.balance().tokens }
}
