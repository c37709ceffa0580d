// Credits move: an issuer, three relays that ask a price, two users with vouchers and one without. Balances before and after,
// and what the issuer's and each relay's database and log hold about the users.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { callAction } from '#api/client.ts'
import { ISSUER_ISOLATION } from '#daemon/client/issuer-way.ts'
import { readWallet } from '#daemon/wallet/wallet-store.ts'
import { socketPath } from '#platform/state/directories.ts'
import { hoplite, type IssuerProcess, startIssuerProcess } from '../credits/issuer-process.ts'
import type { Bench, Scenario } from '../scenario.ts'
import { fetchThrough } from '../socks-client.ts'
import { type RelayPlan, type TestNode, Testnet, waitFor } from '../testnet.ts'

const MIB = 2 ** 20
const PRICE = 64
const QUANTUM = 2 ** 30 / PRICE
const FREE_MIB = 2
const VOUCHER = 60
const FETCHES = { anna: 96 * MIB, boris: 48 * MIB }
const RELAYS: readonly RelayPlan[] = [
  { host: '127.21.0.1', operator: 'alder', isExit: false },
  { host: '127.22.0.1', operator: 'birch', isExit: false },
  { host: '127.23.0.1', operator: 'cedar', isExit: true },
]

interface User {
  readonly name: string
  readonly node: TestNode
  readonly voucher: string
}

export const credits: Scenario = async bench => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-credits-'))
  let issuer: IssuerProcess | undefined
  let net: Testnet | undefined
  try {
    issuer = await startIssuerProcess(directory)
    const { codes } = (await issuer.admin('vouchers', '--count', '2', '--credits', String(VOUCHER))) as {
      codes: string[]
    }
    const credit = { url: issuer.url, id: issuer.id, price: PRICE, freeMib: FREE_MIB }
    net = await Testnet.start({ relays: RELAYS, hops: 3, proxyPort: 0, observe: false, credit })
    const users = await meetUsers(net, codes)
    await redeem(net, users, bench)
    const paid = await browse(net, users, bench)
    await withoutCredits(net, bench)
    await earn(net, paid, bench)
    const secrets = users.map(user => secretsOf(user))
    await spendEarnings(net, users, directory, bench)
    await show(net, users, directory, bench)
    const { faults } = (await issuer.admin('audit')) as { faults: string[] }
    bench.promise('issued = outstanding + redeemed + expired, and every other sum of the audit', faults.length === 0)
    await issuer.stop()
    for (const relay of net.relays) {
      relay.process.kill('SIGTERM')
      await waitFor(async () => relay.process.exitCode ?? relay.process.signalCode ?? undefined, 'a relay to end')
    }
    whatTheyKnow(net, issuer, users, secrets, bench)
  } finally {
    await net?.stop()
    await issuer?.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

/** The network's own client is the first user; the second joins. */
async function meetUsers(net: Testnet, codes: readonly string[]): Promise<User[]> {
  const boris = net.startClient('boris', '127.10.0.2', 0)
  await net.waitReady(false, boris)
  return [
    { name: 'anna', node: net.client, voucher: codes[0] ?? '' },
    { name: 'boris', node: boris, voucher: codes[1] ?? '' },
  ]
}

async function redeem(net: Testnet, users: readonly User[], { say, figure, promise }: Bench): Promise<void> {
  for (const { name, node, voucher } of users) {
    const { tokens } = await hoplite('wallet', 'redeem', voucher, ...flags(net, node))
    figure(`${name}.creditsBefore`, Number(tokens))
    promise(`a voucher of ${VOUCHER} credits is ${VOUCHER} tokens in the wallet of ${name}`, tokens === VOUCHER)
    const { routes } = (await net.status(node)) ?? { routes: [] }
    promise(
      `${name} asked the issuer through a route of its own`,
      routes.some(({ isolation }) => isolation === ISSUER_ISOLATION),
    )
  }
  for (const relay of net.relays) {
    const { redeemed, account } = await hoplite('earnings', '--state-dir', relay.stateDir, '--json')
    figure(`${relay.name}.creditsBefore`, Number(redeemed) + Number(account))
  }
  say('  both users fetch through all three relays')
}

/** Both fetch; returns how many credits each paid. */
async function browse(net: Testnet, users: readonly User[], { figure, promise }: Bench): Promise<number> {
  let paid = 0
  await Promise.all(
    users.map(async ({ name, node }) => {
      const size = FETCHES[name as keyof typeof FETCHES]
      const proxy = await net.proxy(node)
      const startedMs = performance.now()
      const { bytes } = await fetchThrough(proxy, net.originHost, net.originHttpPort, `/bytes/${size}`)
      figure(`${name}.fetchedMiB`, bytes / MIB)
      figure(`${name}.mbitPerSecond`, Math.round((bytes * 8) / 1e3 / (performance.now() - startedMs)))
      // The last payment may still be on its way.
      const { spent, tokens } = await waitFor(async () => {
        const spent = (await net.status(node))?.counters['credits.paid'] ?? 0
        const { tokens } = await callAction(socketPath(node.stateDir), 'wallet', {})
        return tokens + spent === VOUCHER ? { spent, tokens } : undefined
      }, `what ${name} paid to be what its wallet lacks`)
      figure(`${name}.creditsAfter`, tokens)
      figure(`${name}.creditsPaid`, spent)
      promise(`what ${name} paid is what its wallet lacks`, true)
      // Frames, retransmissions and the layers further in: up to a fifth more than what was fetched.
      const [least, most] = [size - FREE_MIB * MIB - QUANTUM, size * 1.2 + QUANTUM].map(n => (3 * n) / QUANTUM)
      promise(
        `${name} paid for what it fetched, three times, within a token a relay`,
        spent >= (least ?? 0) && spent <= (most ?? 0),
      )
      paid += spent
    }),
  )
  return paid
}

/** Somebody who has no credits is carried for the free allowance, and told why no further. */
async function withoutCredits(net: Testnet, { figure, promise }: Bench): Promise<void> {
  const node = net.startClient('clara', '127.10.0.3', 0)
  await net.waitReady(false, node)
  const proxy = await net.proxy(node)
  let got = 0
  const onBytes = (bytes: number) => {
    got = bytes
  }
  const fetched = fetchThrough(proxy, net.originHost, net.originHttpPort, `/bytes/${16 * MIB}`, { onBytes }).catch(
    () => undefined,
  )
  const problem = await waitFor(async () => (await net.status(node))?.problem, 'the client without credits to say so')
  await new Promise(resolve => setTimeout(resolve, 2_000))
  figure('clara.fetchedMiB', Math.round((got / MIB) * 10) / 10)
  promise('whoever never pays gets the free allowance and no more', got > 0 && got <= FREE_MIB * MIB)
  promise('and is told why', problem.includes('hoplite wallet'))
  await net.kill(node)
  await fetched
}

async function earn(net: Testnet, paid: number, { figure, promise }: Bench): Promise<void> {
  let earned = 0
  for (const relay of net.relays) {
    const { redeemed, refused, account } = await hoplite('earnings', '--now', '--state-dir', relay.stateDir, '--json')
    figure(`${relay.name}.creditsAfter`, Number(account))
    promise(`${relay.name} has on its account what it redeemed`, redeemed === account && refused === 0)
    earned += Number(redeemed)
  }
  figure('paid', paid)
  figure('earned', earned)
  promise('the relays earned what the users paid', earned === paid)
}

/** A relay's operator takes earnings out as new tokens and spends them: in the wallet of the second user. */
async function spendEarnings(net: Testnet, users: readonly User[], directory: string, { figure, promise }: Bench) {
  const [relay] = net.relays
  const boris = users[1]
  if (relay === undefined || boris === undefined) return
  const file = path.join(directory, 'credits')
  const before = Number((await hoplite('wallet', ...flags(net, boris.node)))['tokens'])
  await hoplite('wallet', 'send', '5', file, ...flags(net, relay))
  const { received, tokens } = await hoplite('wallet', 'receive', file, ...flags(net, boris.node))
  figure('movedFromEarningsToWallet', Number(received))
  promise('what a relay earned can be spent by a user', received === 5 && tokens === before + 5)
}

/** A relay shows anyone what it earned, and a user that it used no more than a bound. */
async function show(
  net: Testnet,
  users: readonly User[],
  directory: string,
  { figure, promise }: Bench,
): Promise<void> {
  const [relay] = net.relays
  const [anna] = users
  if (relay === undefined || anna === undefined) return
  const [statement, entries, use] = ['statement', 'entries', 'use'].map(name => path.join(directory, name))
  const day = new Date().toISOString().slice(0, 10)
  const { credits: stated } = await hoplite('earnings', 'statement', day, statement ?? '', ...flags(net, relay))
  await hoplite('earnings', 'prove', day, entries ?? '', '0', '1', String(Number(stated) - 1), ...flags(net, relay))
  const checked = await hoplite('earnings', 'check', statement ?? '', entries ?? '', ...flags(net, anna.node))
  figure('statedCredits', Number(checked['credits']))
  promise('anyone can check entries of what a relay states', checked['ok'] === true && checked['entries'] === 3)
  await hoplite('wallet', 'prove', '60', use ?? '', ...flags(net, anna.node))
  const { bound } = await hoplite('wallet', 'check', use ?? '', '--json')
  promise('a user can prove that it used no more than 60 credits', bound === 60)
}

/** Everything that a user has and nobody else should know together with another of them. */
function secretsOf({ node, voucher, name }: User): Map<string, string> {
  const state = readWallet(path.join(node.stateDir, 'wallet'))
  if (state === undefined) throw new Error(`${name} has no wallet`)
  return new Map([
    ['address', node.host],
    ['name at the issuer', state.account.name],
    ['password', state.account.password],
    ['voucher', voucher],
    ...state.tokens.map((token, i) => [`unspent token ${i}`, Buffer.from(token.nonce).toString('hex')] as const),
  ])
}

/** Reads what is on the disks of issuer and relays, as somebody would who took them. */
function whatTheyKnow(
  net: Testnet,
  issuer: IssuerProcess,
  users: readonly User[],
  secrets: readonly ReadonlyMap<string, string>[],
  { say, figure, promise }: Bench,
): void {
  const books = [
    { name: 'issuer', file: path.join(issuer.stateDir, 'issuer.db'), log: issuer.log() },
    ...net.relays.map(({ name, stateDir, log }) => ({ name, file: path.join(stateDir, 'earnings.db'), log: log() })),
  ].map(book => ({ ...book, tables: dump(book.file) }))
  for (const { name, tables, log } of books) {
    say(
      `  ${name}: ${tables.map(({ table, rows }) => `${table} ${rows.length}`).join(', ')}; a log of ${log.length} characters`,
    )
    const text = [...tables.flatMap(({ rows }) => rows.flat()), log].join('\n')
    for (const [i, known] of secrets.entries()) {
      const found = [...known].filter(([, secret]) => text.includes(secret)).map(([what]) => what)
      figure(`${name}.knowsOf.${users[i]?.name}`, found.join(', ') || 'nothing')
      promise(
        `${name} has nothing of ${users[i]?.name}: no address, name, password, voucher or unspent token`,
        found.length === 0,
      )
    }
  }
  // What an issuer and all relays together could join: values that stand in more than one of their tables.
  const [bank, ...relays] = books
  const ofAccounts = new Set(
    bank?.tables
      .filter(({ table }) => table !== 'spent' && table !== 'keys')
      .flatMap(({ rows }) => longValues(rows.flat())),
  )
  const shared = relays
    .flatMap(({ tables }) => longValues(tables.flatMap(({ rows }) => rows.flat())))
    .filter(value => ofAccounts.has(value))
  figure('valuesSharedByAccountsAndRelays', shared.length)
  promise('no value of an account, a withdrawal or an order stands in a database of a relay', shared.length === 0)
  const spentAt = relays.map(({ tables }) => new Set(tables.flatMap(({ rows }) => rows.map(row => row[1] ?? ''))))
  const twice = [...(spentAt[0] ?? [])].filter(nonce => spentAt.slice(1).some(others => others.has(nonce)))
  promise('no token was shown to two relays', twice.length === 0)
}

interface Dump {
  readonly table: string
  readonly rows: readonly (readonly string[])[]
}

function dump(file: string): Dump[] {
  const database = new DatabaseSync(file, { readOnly: true })
  const tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").all()
  const found = tables.map(({ name }) => ({
    table: String(name),
    rows: database
      .prepare(`SELECT * FROM "${String(name)}"`)
      .all()
      .map(row => Object.values(row).map(textOf)),
  }))
  database.close()
  return found
}

function textOf(value: unknown): string {
  return value instanceof Uint8Array ? Buffer.from(value).toString('hex') : String(value)
}

/** Values long enough to name somebody. */
function longValues(values: readonly string[]): string[] {
  return values.filter(value => value.length >= 12)
}

function flags(net: Testnet, node: TestNode): string[] {
  return ['--config', path.join(net.directory, `${node.name}.toml`), '--state-dir', node.stateDir, '--json']
}
