// What a relay was paid, and showing it.

import path from 'node:path'
import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import { loadConfig } from '#daemon/config.ts'
import { checkStatement, writeEntries, writeStatement } from '#daemon/wallet/proofs.ts'
import { configFile, socketPath, stateDirectory } from '#platform/state/directories.ts'
import { print } from '../output.ts'

const HAND_IN_MS = 60_000

export interface EarningsOptions {
  config?: string
  stateDir?: string
  json?: boolean
}

/** Shows what the running relay of a state directory took, after handing in what waits when `now` is set. */
export async function showEarnings(options: EarningsOptions & { now?: boolean }): Promise<void> {
  const socket = socketPath(stateDirectory(options.stateDir))
  if (options.now) await callAction(socket, 'handIn', {}, HAND_IN_MS)
  const earnings = await callAction(socket, 'earnings', {}, HAND_IN_MS)
  const { queued, redeemed, refused, days, account, tokens } = earnings
  const lines = [`${redeemed} credits earned, ${queued} more taken and not yet handed in`]
  if (refused > 0) lines.push(`${refused} tokens had been spent elsewhere`)
  lines.push(`the account has ${account ?? 'an unknown number of'} credits, the wallet ${tokens}`)
  for (const { day, redeemed: credits } of days) lines.push(`${day}  ${credits}`)
  print(options.json, { ok: true, ...earnings }, lines.join('\n'))
}

/** Writes a day's statement. */
export function state(day: string, file: string, options: EarningsOptions): void {
  const config = loadConfig(configFile(options.config))
  const credits = writeStatement(config, stateDirectory(options.stateDir), day, path.resolve(file))
  print(options.json, { ok: true, day, credits }, `${credits} credits of ${day} are stated in ${file}`)
}

/** Writes entries of a day's statement. */
export function prove(day: string, file: string, numbers: readonly number[], options: EarningsOptions): void {
  writeEntries(stateDirectory(options.stateDir), day, numbers, path.resolve(file))
  print(options.json, { ok: true, day, entries: numbers.length }, `${numbers.length} entries of ${day} are in ${file}`)
}

/** Checks another relay's statement; fails when an entry does not hold. */
export async function check(statement: string, entries: string | undefined, options: EarningsOptions): Promise<void> {
  const checked = await checkStatement(loadConfig(configFile(options.config)), statement, entries)
  if (checked.doubt !== undefined)
    throw new HopliteError('WALLET_FAILED', `check the entries: ${checked.doubt}`, 'do not believe this statement')
  const { relay, day, credits, entries: count } = checked
  const text = `relay ${relay.slice(0, 12)} states ${credits} credits on ${day}; ${count} entries hold`
  print(options.json, { ok: true, ...checked }, text)
}
