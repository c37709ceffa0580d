// For real: two processes in homes behind every pair of routers, relays on the internet between them. Needs Linux, root, `ip`,
// `nft` and `sysctl`; `turnserver` (coturn) for the cases with TURN.

import type { ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import {
  addCarrierHomes,
  addHome,
  BLOCKED,
  giveIPv6,
  type Home,
  type HomeNat,
  moveHost,
  PORT_RESTRICTED,
  reboot,
  SYMMETRIC,
} from '../nat/home.ts'
import { HomePair, type HomePairOptions, type HomePairResult } from '../nat/home-pair.ts'
import { type Host, missingForNamespaces, Namespaces } from '../netns.ts'
import type { Bench, Scenario } from '../scenario.ts'
import { hasTool } from '../skip.ts'

const RELAY = fileURLToPath(new URL('../nat/flow-relay.ts', import.meta.url))
const RELAYS = ['20.0.0.1', '20.0.0.2', '20.0.0.3'] as const
const TURN_HOST = '20.0.0.9'
const TURN = { address: `${TURN_HOST}:3478`, username: 'lab', password: 'lab' }
const CARRIER: HomeNat = { mapping: 'independent', filtering: 'port' }
const LIFETIME_SECONDS = 30

const KINDS: readonly HomeNat[] = [
  ...[
    { mapping: 'independent' as const, preservesPort: true },
    { mapping: 'independent' as const },
    { mapping: 'address' as const },
    { mapping: 'port' as const },
  ].flatMap(nat => (['independent', 'address', 'port'] as const).map(filtering => ({ ...nat, filtering }))),
  BLOCKED,
]
/** Pairs that run at the same time; more would measure the machine. */
const AT_ONCE = 4

export const natMatrix: Scenario = async bench => {
  const missing = missingForNamespaces('nft', 'sysctl')
  if (missing !== undefined) throw new Error(`this scenario needs ${missing} (Debian: iproute2 nftables procps)`)
  await using lab = new Namespaces()
  const internet = await lab.switch('inet')
  for (const [i, address] of RELAYS.entries()) {
    const host = await lab.host(`s${i}`)
    await lab.plug(host, internet, `${address}/8`)
    await ready(host.start(process.execPath, [RELAY, address], { stdio: ['ignore', 'pipe', 'ignore'] }))
  }
  const results = new Results(bench)
  // Takes over a minute of silence: the rest goes on meanwhile.
  const idle = await idlePair(lab, internet)
  bench.say('mapping/filtering, EI: independent, AD: by address, APD: by address and port')
  await runMatrix(lab, internet, results)
  await runElsewhere(lab, internet, results)
  await runAfterwards(lab, internet, results)
  results.add('30 s lifetimes, idle for 70 s', 'direct', await idle.result)
  results.summarize()
}

class Results {
  readonly #bench: Bench
  readonly #all: HomePairResult[] = []

  constructor(bench: Bench) {
    this.#bench = bench
  }

  /** @param maxGapMs the longest time without a packet, where something happened */
  add(name: string, expected: 'direct' | 'relayed', result: HomePairResult, maxGapMs?: number): void {
    const { outcome, firstByteMs, directMs, gapMs } = result
    const times = [`first byte ${firstByteMs} ms`]
    if (outcome === 'direct') times.push(`direct ${directMs} ms`)
    if (maxGapMs !== undefined) times.push(`gap ${gapMs} ms`)
    this.#bench.figure(name, [outcome, ...times].join(', '))
    this.#all.push(result)
    // A direct path that was not to be expected is welcome.
    if (outcome !== 'direct' && outcome !== expected) this.#bench.promise(`${name}: ${expected}`, false)
    if (maxGapMs !== undefined)
      this.#bench.promise(`${name}: no more than ${maxGapMs} ms without a packet`, gapMs < maxGapMs)
  }

  expect(what: string, isSo: boolean): void {
    this.#bench.promise(what, isSo)
  }

  summarize(): void {
    const { figure, promise } = this.#bench
    for (const outcome of ['direct', 'relayed', 'failed'] as const) {
      figure(`${outcome}Pairs`, this.#all.filter(each => each.outcome === outcome).length)
    }
    const first = this.#all.map(({ firstByteMs }) => (firstByteMs < 0 ? Number.POSITIVE_INFINITY : firstByteMs))
    const direct = this.#all.filter(({ directMs }) => directMs >= 0).map(({ directMs }) => directMs)
    figure('firstByteP95Ms', percentile(first, 0.95))
    figure('directP95Ms', percentile(direct, 0.95))
    promise('no pair fails', !this.#all.some(({ outcome }) => outcome === 'failed'))
    promise('95 % of first bytes within 1 s', percentile(first, 0.95) < 1_000)
    promise('95 % of direct paths within 3 s', percentile(direct, 0.95) < 3_000)
  }
}

async function runMatrix(lab: Namespaces, internet: Host, results: Results): Promise<void> {
  const left: Home[] = []
  const right: Home[] = []
  for (const [i, kind] of KINDS.entries()) {
    left.push(await addHome(lab, internet, 1 + i, kind))
    right.push(await addHome(lab, internet, 101 + i, kind))
  }
  const pairs = left.flatMap((a, i) => right.slice(i).map(b => [a, b] as const))
  const busy = new Set<Home>()
  const worker = async () => {
    for (;;) {
      // Every home has one host, which is in one pair at a time.
      const next = pairs.findIndex(pair => !pair.some(home => busy.has(home)))
      const [pair] = next < 0 ? [] : pairs.splice(next, 1)
      if (pair === undefined) return
      for (const home of pair) busy.add(home)
      const [a, b] = pair
      const expected = canBeDirect(a.nat, b.nat) ? 'direct' : 'relayed'
      const result = await new HomePair(a, b, { expected, relays: RELAYS }).run()
      results.add(`${nameOf(a.nat)} and ${nameOf(b.nat)}`, expected, result)
      for (const home of pair) busy.delete(home)
    }
  }
  // Whoever finds every home of the rest busy ends; the others take over.
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}

/** Carriers, hairpins, IPv6, TURN. */
async function runElsewhere(lab: Namespaces, internet: Host, results: Results): Promise<void> {
  const home = await addHome(lab, internet, 60, PORT_RESTRICTED)
  const symmetric = await addHome(lab, internet, 61, SYMMETRIC)
  const other = await addHome(lab, internet, 62, SYMMETRIC)
  const [behind] = await addCarrierHomes(lab, internet, 50, CARRIER)
  const [hairpinA, hairpinB] = await addCarrierHomes(
    lab,
    internet,
    52,
    { ...CARRIER, preservesPort: true, hairpins: true },
    2,
  )
  const [plainA, plainB] = await addCarrierHomes(lab, internet, 55, { ...CARRIER, preservesPort: true }, 2)
  const run = async (
    name: string,
    a: Home | undefined,
    b: Home | undefined,
    options: Partial<HomePairOptions> = {},
  ) => {
    if (a === undefined || b === undefined) return undefined
    const { expected = 'direct' } = options
    const result = await new HomePair(a, b, { relays: RELAYS, ...options, expected }).run()
    results.add(name, expected, result)
    return result
  }
  await run('carrier NAT before home NAT, and a home', behind, home)
  await run('carrier NAT before home NAT, and symmetric', behind, symmetric)
  await run('two homes of a carrier that hairpins', hairpinA, hairpinB)
  await run('two homes of a carrier that does not', plainA, plainB, { expected: 'relayed' })
  if (hasTool('turnserver')) {
    await startTurn(await publicHost(lab, internet, 'turn', TURN_HOST))
    await run('coturn: symmetric and symmetric', symmetric, other, { expected: 'relayed', turn: TURN })
    await run('coturn: symmetric and port-restricted', symmetric, home, { turn: TURN })
  }
  await giveIPv6([home, symmetric])
  const result = await run('IPv6 with firewalls, and symmetric IPv4', home, symmetric, {
    hasIPv6: true,
    // IPv4 may be there first.
    afterwards: { event: async () => undefined, forMs: 1_500 },
  })
  results.expect('IPv6 is taken first', result?.to.startsWith('[2001:db8:') === true)
}

/** Mappings that are lost, direct paths that die, a machine that moves. */
async function runAfterwards(lab: Namespaces, internet: Host, results: Results): Promise<void> {
  const a = await addHome(lab, internet, 70, PORT_RESTRICTED)
  const b = await addHome(lab, internet, 71, PORT_RESTRICTED)
  const symmetric = await addHome(lab, internet, 72, SYMMETRIC)
  const run = async (
    name: string,
    left: Home,
    event: () => Promise<void>,
    forMs: number,
    leaves: 'direct' | 'relayed',
  ) => {
    const options = { expected: 'direct' as const, relays: RELAYS, afterwards: { event, forMs } }
    results.add(name, leaves, await new HomePair(left, b, options).run(), 3_000)
  }
  const both = (home: Home) => async () => void (await Promise.all([reboot(home), reboot(b)]))
  await run('both routers restart', a, both(a), 7_000, 'direct')
  await run('both restart, one symmetric', symmetric, both(symmetric), 9_000, 'direct')
  await run('a machine moves to another network', a, await moveHost(lab, a, symmetric), 9_000, 'direct')
  const cut = () => b.router.run('nft', 'insert rule ip home forward ip saddr 20.0.1.72 drop').then(() => undefined)
  await run('the direct path dies', symmetric, cut, 7_000, 'relayed')
}

/** Two that say nothing for longer than their routers remember, and then go on. */
async function idlePair(lab: Namespaces, internet: Host): Promise<{ readonly result: Promise<HomePairResult> }> {
  const nat = { ...PORT_RESTRICTED, lifetimeSeconds: LIFETIME_SECONDS }
  const a = await addHome(lab, internet, 80, nat)
  const b = await addHome(lab, internet, 81, nat)
  const event = async (pair: HomePair) => {
    pair.setSending(false)
    await new Promise(resolve => setTimeout(resolve, 70_000))
    pair.watch()
    pair.setSending(true)
  }
  const pair = new HomePair(a, b, { expected: 'direct', relays: RELAYS, afterwards: { event, forMs: 1_000 } })
  return { result: pair.run() }
}

/** One side's port does not depend on whom it speaks to, or it lets everybody in at the port that servers saw. */
function canBeDirect(a: HomeNat, b: HomeNat): boolean {
  if (a.blocksUdp || b.blocksUdp) return false
  // Linux answers from the port that was asked, whatever its mapping for others would be.
  return [a, b].some(({ mapping, filtering }) => mapping === 'independent' || filtering === 'independent')
}

function nameOf({ mapping, filtering, preservesPort, blocksUdp }: HomeNat): string {
  const short = { independent: 'EI', address: 'AD', port: 'APD' }
  if (blocksUdp) return 'UDP blocked'
  return `${short[mapping]}/${short[filtering]}${preservesPort ? ' preserving' : ''}`
}

async function publicHost(lab: Namespaces, internet: Host, name: string, address: string): Promise<Host> {
  const host = await lab.host(name)
  const link = await lab.plug(host, internet, `${address}/8`)
  // Coturn gives up an allocation whose packets have no way at all.
  await host.ip('route', 'add', 'default', 'dev', link)
  return host
}

async function startTurn(host: Host): Promise<void> {
  const { username, password } = TURN
  const names = ['-u', `${username}:${password}`, '-r', 'lab', '-L', TURN_HOST, '-E', TURN_HOST]
  const flags = ['-n', '--lt-cred-mech', ...names, '--no-cli', '--no-tls', '--no-dtls', '--log-file', 'stdout']
  host.start('turnserver', [...flags, '--simple-log'])
  await new Promise(resolve => setTimeout(resolve, 1_000))
}

function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.stdout?.once('data', () => resolve())
    child.once('exit', () => reject(new Error('a relay of the laboratory did not start')))
  })
}

function percentile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? Number.POSITIVE_INFINITY
}
