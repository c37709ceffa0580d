// `hoplite issuer` and what its operator does with `hoplite issuer admin …`.

import type { Command } from 'commander'
import { wholeNumber } from './whole-number.ts'

const MOST = 1_000_000_000

/** Adds the issuer's commands. */
export function addIssuerCommands(issuer: Command, addCommon: (to: Command) => Command): void {
  issuer.action(async options => (await import('./commands/run.ts')).issuer(options))
  const admin = issuer.command('admin').description('offers, vouchers, keys, limits and the books, in its database')
  const command = (name: string, description: string, parent = admin) =>
    addCommon(parent.command(name).description(description))
  const run = async () => import('./commands/issuer-admin.ts')

  command('id', 'print the id that clients put into [credit] issuer_id').action(async (_, self: Command) =>
    (await run()).showId(self.optsWithGlobals()),
  )
  command('vouchers', 'make vouchers; their codes are shown once')
    .option('--count <n>', 'how many', wholeNumber(1, 10_000), 1)
    .requiredOption('--credits <n>', 'credits of each', wholeNumber(1, MOST))
    .option('--days <n>', 'how long they are good', wholeNumber(1, 3_650), 365)
    .action(async (_, self: Command) => (await run()).makeVouchers(self.optsWithGlobals()))

  const offers = command('offers', 'list the offers that are open').action(async (_, self: Command) =>
    (await run()).listOffers(self.optsWithGlobals()),
  )
  command('set <id>', 'open an offer, or change it', offers)
    .requiredOption('--credits <n>', 'credits', wholeNumber(1, MOST))
    .requiredOption('--price <n>', "price, in the processor's smallest unit", wholeNumber(1, Number.MAX_SAFE_INTEGER))
    .option('--processor <name>', 'who takes the money', 'monero')
    .option('--closed', 'close it instead')
    .action(async (id: string, _, self: Command) => (await run()).setOffer(id, self.optsWithGlobals()))

  const orders = command('orders', 'list the orders whose payment came too late').action(async (_, self: Command) =>
    (await run()).listLate(self.optsWithGlobals()),
  )
  command('credit <id>', 'credit such an order all the same', orders).action(async (id: string, _, self: Command) =>
    (await run()).creditLate(id, self.optsWithGlobals()),
  )

  const keys = command('keys', 'list the token keys').action(async (_, self: Command) =>
    (await run()).listKeys(self.optsWithGlobals()),
  )
  command('rotate', 'begin with a new key now; the old one signs on until its end', keys).action(
    async (_, self: Command) => (await run()).rotateKeys(self.optsWithGlobals()),
  )

  const limits = command('limits', 'list the limits, each in a quarter of an hour').action(async (_, self: Command) =>
    (await run()).listLimits(self.optsWithGlobals()),
  )
  limits
    .command('set <name> <value>')
    .description('change a limit')
    .action(async (name: string, value: string, _, self: Command) =>
      (await run()).setLimit(name, wholeNumber(0, MOST)(value), self.optsWithGlobals()),
    )
  command('audit', 'add up the books, and say what does not agree').action(async (_, self: Command) =>
    (await run()).audit(self.optsWithGlobals()),
  )
}
