// Showing what was earned and used, and checking what others show: statements of a relay's days, entries of them on request,
// and proofs that a wallet used no more than a bound.

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { z } from 'zod'
import { HopliteError } from '#api/errors.ts'
import type { Output } from '#api/table.ts'
import { doubtEntries, type EpochEntry, epochOf, proveEntry, readEpochStatement, stateEpoch } from '#credit/epoch.ts'
import { openKeyDirectory } from '#credit/keys.ts'
import { proveUse, type UseClaim, verifyUse } from '#credit/use-proof.ts'
import { systemRandom } from '#crypto/random.ts'
import { nodeIdOf } from '#discover/descriptor.ts'
import { IssuerClient } from '#issuer/issuer-client.ts'
import { EarningsStore } from '#platform/state/earnings-store.ts'
import { readKeys } from '#platform/state/keys.ts'
import { writeStateFile } from '#platform/state/state-file.ts'
import { decodeToken, type Token } from '#wire/token.ts'
import type { Config } from '../config.ts'

const MAX_FILE_BYTES = 64 * 2 ** 20
const DAY_MS = 86_400_000

const bytes = z.base64url().transform(text => new Uint8Array(Buffer.from(text, 'base64url')))
const entries = z
  .array(z.strictObject({ index: z.number().int().min(0), token: bytes, proof: z.array(bytes).max(64) }))
  .max(4_096)

/** Writes the signed statement of what a relay was paid on a day (`2026-01-05`). Returns how many credits. */
export function writeStatement(config: Config, stateDir: string, day: string, file: string): number {
  const keys = readKeys(stateDir)
  if (keys === undefined || config.credit.issuer_id === '')
    throw failed('state earnings: this is no relay with an issuer', 'use the --config and --state-dir of the relay')
  const tokens = tokensOf(stateDir, day)
  writeStateFile(file, stateEpoch(config.credit.issuer_id, epochOfDay(day), tokens, keys.identity))
  return tokens.length
}

/** Writes entries of a day's statement, by their numbers, with their proofs. */
export function writeEntries(stateDir: string, day: string, indices: readonly number[], file: string): void {
  const tokens = tokensOf(stateDir, day)
  const missing = indices.find(index => index >= tokens.length)
  if (missing !== undefined)
    throw failed(`prove an entry: ${day} has ${tokens.length}, and none of number ${missing}`, 'numbers begin at 0')
  writeStateFile(file, JSON.stringify(indices.map(index => proveEntry(tokens, index)).map(textOf)))
}

export interface CheckedStatement {
  readonly relay: string
  readonly day: string
  readonly credits: number
  readonly entries: number
  /** What is wrong with the entries; undefined when nothing is. */
  readonly doubt?: string
}

/** Checks a statement, and entries of it if some are given, with the issuer's keys. */
export async function checkStatement(
  config: Config,
  statementFile: string,
  entriesFile: string | undefined,
): Promise<CheckedStatement> {
  const statement = readEpochStatement(read(statementFile))
  if (statement === undefined)
    throw failed(
      `check ${statementFile}: it is no statement, or not signed by the relay that it names`,
      'ask for it again',
    )
  const given = entriesFile === undefined ? [] : readEntries(entriesFile)
  const { directory } = await new IssuerClient({ url: config.credit.issuer }).ask('keys', {})
  const keys = openKeyDirectory(Buffer.from(directory, 'base64url'), config.credit.issuer_id)
  if (keys === undefined) throw failed("read the issuer's keys: another issuer signed them", 'check [credit]')
  const doubt = doubtEntries(statement, given, keys)
  return {
    relay: nodeIdOf(statement.identity),
    day: new Date(statement.epoch * DAY_MS).toISOString().slice(0, 10),
    credits: statement.total,
    entries: given.length,
    ...(doubt && { doubt }),
  }
}

/** Writes a proof that a wallet of this history spent at most `bound` credits in the last `days` days, today among them. */
export function writeUseProof(history: Output<'wallet'>['history'], bound: number, days: number, file: string): void {
  const last = epochOf(Date.now())
  const claim: UseClaim = { firstEpoch: last - days + 1, lastEpoch: last, bound }
  const used = history
    .filter(({ kind, atMs }) => kind === 'spent' && epochOf(atMs) >= claim.firstEpoch)
    .reduce((sum, { credits }) => sum + credits, 0)
  if (used > bound) throw failed('prove the use: it is above the bound', 'take a higher bound, or fewer days')
  writeStateFile(file, proveUse(claim, used, systemRandom))
}

/** What a use proof says. Throws WALLET_FAILED when it does not hold. */
export function checkUseProof(file: string): { readonly first: string; readonly last: string; readonly bound: number } {
  const claim = verifyUse(read(file), systemRandom)
  if (claim === undefined) throw failed(`check ${file}: it is no proof, or does not hold`, 'ask for it again')
  const dayOf = (epoch: number) => new Date(epoch * DAY_MS).toISOString().slice(0, 10)
  return { first: dayOf(claim.firstEpoch), last: dayOf(claim.lastEpoch), bound: claim.bound }
}

function tokensOf(stateDir: string, day: string): Token[] {
  const store = new EarningsStore(stateDir)
  try {
    return store.redeemed(epochOfDay(day)).flatMap(bytes => decodeToken(bytes) ?? [])
  } finally {
    store.close()
  }
}

function epochOfDay(day: string): number {
  const time = /^\d{4}-\d{2}-\d{2}$/.test(day) ? Date.parse(`${day}T00:00:00Z`) : Number.NaN
  if (Number.isNaN(time)) throw failed(`read a day: "${day}" is none`, 'write it like 2026-01-05')
  return epochOf(time)
}

function readEntries(file: string): EpochEntry[] {
  try {
    return entries.parse(JSON.parse(Buffer.from(read(file)).toString('utf8')))
  } catch (error) {
    throw failed(`read ${path.basename(file)}: these are no entries of a statement`, 'ask for them again', error)
  }
}

function textOf({ index, token, proof }: EpochEntry) {
  const text = (value: Uint8Array) => Buffer.from(value).toString('base64url')
  return { index, token: text(token), proof: proof.map(text) }
}

function read(file: string): Uint8Array {
  try {
    const content = readFileSync(file)
    if (content.length <= MAX_FILE_BYTES) return content
  } catch (error) {
    throw failed(`read ${file}: ${(error as NodeJS.ErrnoException).code}`, 'check the path', error)
  }
  throw failed(`read ${file}: it is too long`, 'check the path')
}

function failed(message: string, advice: string, cause?: unknown): HopliteError {
  return new HopliteError('WALLET_FAILED', message, advice, cause)
}
