// Issuer, relays and wallets are killed a thousand times, each at any point of what it does, and go on. In the end every credit
// is counted: none was lost, none was made.

import { type ChildProcess, fork } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Issuer } from '#issuer/issuer.ts'
import { openSqlite } from '#issuer/sqlite.ts'
import { siblingModule } from '#platform/module-url.ts'
import { loadIssuerSecret } from '#platform/state/issuer-key.ts'
import type { ActorMessage } from '../credits/credit-actor-process.ts'
import type { Bench, Scenario } from '../scenario.ts'

const ACTOR = fileURLToPath(siblingModule(import.meta.url, '../credits/credit-actor-process'))
const KILLS = 1_000
const VOUCHER = 12
const RELAYS = 4
const WALLETS = 6
/** An actor lives at most this long after it was started. Most live for less than a second, some die before they are up. */
const MAX_LIFE_MS = 10_000
const DRAIN_MS = 60_000

interface Actor {
  readonly role: 'issuer' | 'relay' | 'wallet'
  readonly args: readonly string[]
  child: ChildProcess
  drained: number | undefined
  /** What it wrote last on its standard error. */
  said: string
}

export const creditsCrash: Scenario = async bench => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-crash-'))
  const actors: Actor[] = []
  try {
    await crash(directory, actors, bench.size ?? KILLS, bench)
  } finally {
    for (const { child } of actors) child.kill('SIGKILL')
    await sleep(100)
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Kills actors so often and counts; `actors` is filled, for whoever cleans up. */
export async function crash(
  directory: string,
  actors: Actor[],
  kills: number,
  { say, figure, promise }: Bench,
): Promise<void> {
  const { id, codes } = await prepare(directory)
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const faults: string[] = []
  let paid = 0
  let shown = 0
  const start = (role: Actor['role'], args: readonly string[]) => {
    const actor: Actor = { role, args, child: undefined as unknown as ChildProcess, drained: undefined, said: '' }
    actors.push(actor)
    const run = () => {
      actor.child = fork(ACTOR, [role, ...args], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
      actor.said = ''
      actor.child.stderr?.on('data', (chunk: Buffer) => {
        actor.said = (actor.said + chunk.toString()).slice(-2_000)
      })
      // Nobody ends by itself before it is told to.
      actor.child.once('exit', code => code !== null && faults.push(`${role} ended: ${actor.said}`))
      actor.child.on('message', (message: ActorMessage) => {
        if ('ready' in message) faults.push(...message.faults)
        if ('pay' in message) shown++
        if ('pay' in message) deliver(pick(actors.filter(({ role }) => role === 'relay')), message)
        if ('paid' in message) {
          if (message.isTaken) paid++
          for (const wallet of actors) if (wallet.role === 'wallet') deliver(wallet, message)
        }
        if ('drained' in message) actor.drained = message.tokens
      })
    }
    run()
    return { actor, run }
  }
  const all = [
    start('issuer', [directory, String(port)]),
    ...Array.from({ length: RELAYS }, (_, i) => start('relay', [makeDirectory(directory, `relay-${i}`), url, id])),
    ...Array.from({ length: WALLETS }, (_, i) =>
      start('wallet', [makeDirectory(directory, `wallet-${i}`), url, id, codes[i] ?? '']),
    ),
  ]
  const startedMs = performance.now()
  let left = kills
  const killed = { issuer: 0, relay: 0, wallet: 0 }
  await Promise.all(
    all.map(async ({ actor, run }) => {
      while (left-- > 0) {
        await sleep(MAX_LIFE_MS * (randomInt(1_000) / 1_000) ** 4)
        await end(actor.child)
        killed[actor.role]++
        run()
      }
    }),
  )
  for (const [role, count] of Object.entries(killed)) figure(`${role}.kills`, count)
  figure('killsPerSecond', Math.round((10 * kills * 1_000) / (performance.now() - startedMs)) / 10)
  figure('shown', shown)
  figure('paid', paid)
  for (const role of ['wallet', 'relay'] as const) await drain(actors, role)
  for (const { role, drained, said } of actors)
    if (role !== 'issuer' && drained !== 0) say(`  ${role} has ${drained}: ${said}`)
  for (const fault of new Set(faults)) say(`  ${fault}`)
  promise('after every start of the issuer its books agreed, and nobody ended by itself', faults.length === 0)
  promise(
    'every wallet and relay came to an end',
    actors.every(({ role, drained }) => role === 'issuer' || drained === 0),
  )
  await count(directory, { figure, promise })
}

/** Lets everybody of a role give back what they have. */
async function drain(actors: readonly Actor[], role: Actor['role']): Promise<void> {
  const wanted = actors.filter(actor => actor.role === role)
  const untilMs = performance.now() + DRAIN_MS
  while (wanted.some(({ drained }) => drained === undefined) && performance.now() < untilMs) {
    for (const actor of wanted) if (actor.drained === undefined) deliver(actor, { drain: true })
    await sleep(200)
  }
}

async function count(directory: string, { figure, promise }: Pick<Bench, 'figure' | 'promise'>): Promise<void> {
  const issuer = await openIssuer(directory)
  const { faults, keys, vouchers, balances } = await issuer.ledger.audit()
  const outstanding = keys.reduce((sum, key) => sum + key.outstanding, 0)
  figure(
    'issued',
    keys.reduce((sum, key) => sum + key.issued, 0),
  )
  figure(
    'redeemed',
    keys.reduce((sum, key) => sum + key.redeemed, 0),
  )
  figure('outstanding', outstanding)
  figure('vouchers', vouchers)
  figure('balances', balances)
  promise('issued = outstanding + redeemed + expired', faults.length === 0)
  promise('no credit was lost: nothing is outstanding when everybody has given back what they had', outstanding === 0)
  promise('no credit was made: the balances are the vouchers', balances === vouchers)
  await issuer.close()
}

async function prepare(directory: string): Promise<{ id: string; codes: string[] }> {
  const issuer = await openIssuer(directory)
  const codes = await issuer.vouchers.make(WALLETS, VOUCHER, Date.now() + 3_600_000)
  await issuer.close()
  return { id: issuer.id, codes }
}

function openIssuer(directory: string): Promise<Issuer> {
  const sql = openSqlite(path.join(directory, 'issuer.db'))
  return Issuer.open({ sql, name: 'issuer.example', ...loadIssuerSecret(directory) }, Date.now())
}

function deliver(actor: Actor | undefined, message: ActorMessage): void {
  if (actor?.child.connected) actor.child.send(message, () => {})
}

function end(child: ChildProcess): Promise<void> {
  return new Promise(resolve => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve()
    child.once('exit', () => resolve())
    child.kill('SIGKILL')
  })
}

function pick<T>(from: readonly T[]): T | undefined {
  return from[randomInt(from.length)]
}

function makeDirectory(parent: string, name: string): string {
  const directory = path.join(parent, name)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  return directory
}

function freePort(): Promise<number> {
  return new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' ? (address?.port ?? 0) : 0))
    })
  })
}
