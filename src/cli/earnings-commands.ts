// `hoplite earnings` and what shows them to others.

import type { Command } from 'commander'
import { wholeNumber } from './whole-number.ts'

/** Adds the commands about what a relay was paid. */
export function addEarningsCommands(earnings: Command, addCommon: (to: Command) => Command): void {
  const run = async () => import('./commands/earnings.ts')
  const command = (name: string, description: string) => addCommon(earnings.command(name).description(description))
  earnings.option('--now', 'hand in what was taken first').action(async options => (await run()).showEarnings(options))
  command('statement <day> <file>', 'write the signed total of a day (2026-01-05), for anyone to check').action(
    async (day: string, file: string, _, self: Command) => (await run()).state(day, file, self.optsWithGlobals()),
  )
  command('prove <day> <file> <numbers...>', 'write the entries of these numbers, as somebody asked for them').action(
    async (day: string, file: string, numbers: string[], _, self: Command) =>
      (await run()).prove(day, file, numbers.map(wholeNumber(0, 2 ** 32)), self.optsWithGlobals()),
  )
  command('check <statement> [entries]', "check another relay's statement, and entries of it").action(
    async (statement: string, entries: string | undefined, _, self: Command) =>
      (await run()).check(statement, entries, self.optsWithGlobals()),
  )
}
