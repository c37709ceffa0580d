// A wallet and a relay's till on a disk that fills up and is emptied again: the directory of the first argument. Prints what
// happened, a line of JSON. Run in a mount namespace with a small disk there (src/lab/full-disk.test.ts).

import { rmSync, statfsSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { systemRandom } from '#crypto/random.ts'
import { Earnings } from '#daemon/relay/earnings.ts'
import { WalletKeeper } from '#daemon/wallet/wallet-keeper.ts'
import { encodeToken } from '#wire/token.ts'
import { startTestIssuer } from './credits/test-issuer.ts'

export interface FullDiskReport {
  /** Codes of what failed while the disk was full. */
  readonly withdrawal: string
  readonly deposit: string
  readonly shown: boolean
  readonly taken: string
  readonly isWritten: boolean
  /** After there was room again. */
  readonly tokens: number
  readonly takenLater: string
  readonly redeemed: number
  readonly faults: readonly string[]
}

const [disk = ''] = process.argv.slice(2)
const filler = path.join(disk, 'filler')
const net = await startTestIssuer()
const clock = () => net.clock.now
const open = (name: string) =>
  WalletKeeper.open({
    ...{ directory: path.join(disk, name), issuerId: net.issuer.id, client: net.client(), random: systemRandom, clock },
    stretching: 'test',
  })
const wallet = open('wallet')
const relayWallet = open('relay-wallet')
const earnings = await Earnings.open(
  { directory: path.join(disk, 'relay'), wallet: relayWallet, random: systemRandom },
  clock(),
)
const [code = ''] = await net.issuer.vouchers.make(1, 40, clock() + 1e9)
await wallet.redeemVoucher(code)
await wallet.deposit(3)
const spare = Array.from({ length: 20 }, () => wallet.show() ?? stop('there is no token'))
const tokens = spare.map(encodeToken)

fill()
const withdrawal = await codeOf(wallet.withdraw(3))
const deposit = await codeOf(wallet.deposit(2))
// Pages that SQLite had already are still there; sooner or later there is none.
const answers = tokens.map(token => earnings.take(token, clock()) ?? 'taken')
const taken = answers.findLast(answer => answer !== 'taken') ?? 'taken'
for (let i = 0; i < answers.length; i++) {
  const token = spare[i] ?? stop('there is no token')
  if (answers[i] === 'taken') wallet.settle(token)
  else wallet.doubt(token)
}
// What is left in the hand may be shown, the next handful not.
while (wallet.show() !== undefined);
const shown = wallet.show() !== undefined
const { isWritten } = wallet

rmSync(filler)
await wallet.resume()
await wallet.withdraw(await wallet.accountBalance())
const fresh = wallet.show() ?? stop('there is no token')
const takenLater = earnings.take(encodeToken(fresh), clock()) ?? 'taken'
wallet.settle(fresh)
while (await earnings.handIn());
const { faults } = await net.issuer.ledger.audit()
const report: FullDiskReport = {
  ...{ withdrawal, deposit, shown, taken, isWritten, takenLater, faults },
  tokens: wallet.balance().tokens,
  redeemed: earnings.counts().redeemed,
}
process.stdout.write(`${JSON.stringify(report)}\n`)
earnings.close()
await Promise.all([wallet.close(), relayWallet.close()])
await net.close()

/** Leaves not a block. */
function fill(): void {
  for (;;) {
    const { bfree, bsize } = statfsSync(disk)
    if (bfree === 0) return
    writeFileSync(filler, Buffer.alloc(Number(bfree) * Number(bsize)), { flag: 'a' })
  }
}

function codeOf(asked: Promise<unknown>): Promise<string> {
  return asked.then(
    () => 'done',
    error => String(error.code),
  )
}

function stop(why: string): never {
  throw new Error(why)
}
