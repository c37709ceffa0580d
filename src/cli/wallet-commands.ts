// `hoplite wallet` and its verbs.

import { Argument, type Command } from 'commander'
import { wholeNumber } from './whole-number.ts'

/** Adds the wallet's commands. */
export function addWalletCommands(wallet: Command, addCommon: (to: Command) => Command): void {
  const run = async () => import('./commands/wallet.ts')
  const command = (name: string, description: string) => addCommon(wallet.command(name).description(description))
  wallet
    .option('--history', 'also what came and went, which only this wallet knows')
    .action(async options => (await run()).showWallet(options))
  command('redeem <voucher>', 'turn a voucher into credits').action(async (voucher: string, _, self: Command) =>
    (await run()).redeemVoucher(voucher, self.optsWithGlobals()),
  )
  command('topup [offer]', "buy credits: list the issuer's offers, or take one; collects what was paid")
    .option('--wait <minutes>', 'wait for the payment', wholeNumber(1, 1_440))
    .action(async (offer: string | undefined, _, self: Command) => (await run()).topUp(offer, self.optsWithGlobals()))
  command('deposit [count]', 'give unspent credits back to the account at the issuer, all or so many').action(
    async (count: string | undefined, _, self: Command) =>
      (await run()).deposit(count === undefined ? undefined : wholeNumber(1, 1_000_000)(count), self.optsWithGlobals()),
  )
  command('account', 'make an account of a name at the issuer, use one, or set a new password by its recovery code')
    .addArgument(new Argument('<how>').choices(['create', 'use', 'recover']))
    .argument('<name>')
    .action(async (how: 'create' | 'use' | 'recover', name: string, _, self: Command) =>
      (await run()).account(how, name, self.optsWithGlobals()),
    )
  command('send <count> <file>', 'put credits in a file, for another wallet').action(
    async (count: string, file: string, _, self: Command) =>
      (await run()).send(wholeNumber(1, 4_096)(count), file, self.optsWithGlobals()),
  )
  command('receive <file>', "take the credits of another wallet's file").action(
    async (file: string, _, self: Command) => (await run()).receive(file, self.optsWithGlobals()),
  )
  command('prove <bound> <file>', 'prove that no more than so many credits were spent, and not how many')
    .option('--days <n>', 'in so many days, today among them', wholeNumber(1, 366), 1)
    .action(async (bound: string, file: string, _, self: Command) =>
      (await run()).prove(wholeNumber(0, 2 ** 32 - 1)(bound), file, self.optsWithGlobals()),
    )
  command('check <file>', 'check such a proof of somebody else').action(async (file: string, _, self: Command) =>
    (await run()).check(file, self.optsWithGlobals()),
  )
  command(
    'backup <file>',
    'write the wallet, encrypted; the passphrase is asked for, or read from standard input',
  ).action(async (file: string, _, self: Command) => (await run()).backup(file, self.optsWithGlobals()))
  command('restore <file>', 'bring a backup back, where there is no wallet').action(
    async (file: string, _, self: Command) => (await run()).restore(file, self.optsWithGlobals()),
  )
}
