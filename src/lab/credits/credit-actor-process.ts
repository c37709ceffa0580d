// One who is killed: an issuer, a relay or a wallet, in a process of its own, which goes on where the one before it was when it
// died. Driven by messages of its parent (scenarios/credits-crash.ts).
//
//   issuer DIRECTORY PORT          says { ready, faults } after an audit
//   relay  DIRECTORY URL ID        takes { pay: token } and says { paid, isTaken }; { drain } and says { drained }
//   wallet DIRECTORY URL ID CODE   says { pay: token }, takes { paid, isTaken }; { drain } and says { drained }

import { setTimeout as sleep } from 'node:timers/promises'
import type { WalletToken } from '#credit/wallet.ts'
import { systemRandom } from '#crypto/random.ts'
import { Earnings } from '#daemon/relay/earnings.ts'
import { WalletKeeper } from '#daemon/wallet/wallet-keeper.ts'
import { makeServer } from '#issuer/http.ts'
import { Issuer } from '#issuer/issuer.ts'
import { IssuerClient } from '#issuer/issuer-client.ts'
import { openSqlite } from '#issuer/sqlite.ts'
import { loadIssuerSecret } from '#platform/state/issuer-key.ts'
import { encodeToken } from '#wire/token.ts'

/** What goes between an actor and its parent; tokens as base64url. */
export type ActorMessage =
  | { readonly ready: true; readonly faults: readonly string[] }
  | { readonly pay: string }
  | { readonly paid: string; readonly isTaken: boolean }
  | { readonly drain: true }
  | { readonly drained: true; readonly tokens: number }

const ANSWER_MS = 400
const [role = '', directory = '', where = '', issuerId = '', code = ''] = process.argv.slice(2)
const say = (message: ActorMessage) => process.send?.(message)
process.once('disconnect', () => process.exit(0))
let isDraining = false

if (role === 'issuer') await beIssuer()
if (role === 'relay') await beRelay()
if (role === 'wallet') await beWallet()

async function beIssuer(): Promise<void> {
  const sql = openSqlite(`${directory}/issuer.db`)
  const issuer = await Issuer.open({ sql, name: 'issuer.example', ...loadIssuerSecret(directory) }, Date.now())
  const { faults } = await issuer.ledger.audit()
  for (const name of ['loginsPerAccount', 'vouchersPerAccount'] as const) await issuer.limits.set(name, 1_000_000)
  const server = await makeServer({ issuer, version: '0.0.0', clock: Date.now, onFault: () => {} })
  await server.listen({ host: '127.0.0.1', port: Number(where) })
  say({ ready: true, faults })
}

async function beRelay(): Promise<void> {
  const wallet = openWallet()
  const earnings = await untilDone(() => Earnings.open({ directory, wallet, random: systemRandom }, Date.now()))
  process.on('message', (message: ActorMessage) => {
    if ('drain' in message) isDraining = true
    if (!('pay' in message)) return
    const isTaken = earnings.take(Buffer.from(message.pay, 'base64url'), Date.now()) === undefined
    say({ paid: message.pay, isTaken })
  })
  say({ ready: true, faults: [] })
  for (;;) {
    await sleep(20)
    await earnings.handIn().catch(() => false)
    if (!isDraining) continue
    await untilDone(async () => {
      while (await earnings.handIn());
    })
    say({ drained: true, tokens: wallet.balance().tokens })
    return
  }
}

async function beWallet(): Promise<void> {
  const wallet = openWallet()
  const shown = new Map<string, { readonly token: WalletToken; readonly untilMs: number }>()
  process.on('message', (message: ActorMessage) => {
    if ('drain' in message) isDraining = true
    if (!('paid' in message)) return
    const found = shown.get(message.paid)
    if (found === undefined) return
    shown.delete(message.paid)
    if (message.isTaken) wallet.settle(found.token)
    else wallet.doubt(found.token)
  })
  say({ ready: true, faults: [] })
  while (!isDraining) {
    await sleep(5)
    for (const [text, { token, untilMs }] of shown) {
      if (untilMs > Date.now()) continue
      shown.delete(text)
      wallet.doubt(token)
    }
    await live(wallet, shown).catch(() => undefined)
  }
  for (const { token } of shown.values()) wallet.doubt(token)
  await untilDone(async () => {
    await wallet.resume()
    await wallet.redeemVoucher(code)
    await wallet.deposit(wallet.balance().tokens)
  })
  say({ drained: true, tokens: wallet.balance().tokens })
}

/** One thing that a wallet does: pays, mostly; or asks the issuer for something. */
async function live(
  wallet: WalletKeeper,
  shown: Map<string, { readonly token: WalletToken; readonly untilMs: number }>,
): Promise<void> {
  const dice = systemRandom(1)[0] ?? 0
  if (dice < 180) {
    const token = wallet.show()
    if (token === undefined) return fill(wallet)
    const text = Buffer.from(encodeToken(token)).toString('base64url')
    shown.set(text, { token, untilMs: Date.now() + ANSWER_MS })
    say({ pay: text })
  } else if (dice < 200) await wallet.resume()
  else if (dice < 220) await wallet.deposit(2)
  else await fill(wallet)
}

async function fill(wallet: WalletKeeper): Promise<void> {
  if (!wallet.state.history.some(({ kind }) => kind === 'voucher')) await wallet.redeemVoucher(code)
  await wallet.withdraw(Math.min(3, await wallet.accountBalance()))
}

function openWallet(): WalletKeeper {
  const client = new IssuerClient({ url: where, attempts: 2, wait: () => sleep(30) })
  const options = { client, issuerId, random: systemRandom, clock: Date.now, stretching: 'test' as const }
  return WalletKeeper.open({ ...options, directory: `${directory}/wallet` })
}

async function untilDone<T>(run: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await run()
    } catch (error) {
      if (isDraining) process.stderr.write(`${error instanceof Error ? error.stack : 'failed'}\n`)
      await sleep(50)
    }
  }
}
