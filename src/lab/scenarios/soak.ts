// The whole network under mixed traffic while nodes are killed at random: what is lost, how long nothing goes, whether memory
// and open handles grow. `npm run lab -- soak --minutes 30`; the seed is printed, and --size sets it.

import { readdirSync } from 'node:fs'
import { callAction } from '#api/client.ts'
import { socketPath } from '#platform/state/directories.ts'
import type { Bench, Scenario } from '../scenario.ts'
import { fetchThrough } from '../socks-client.ts'
import { type RelayPlan, type TestNode, Testnet } from '../testnet.ts'

const MINUTE_MS = 60_000
const USUAL_MINUTES = 2
const MIB = 2 ** 20
/** Between two blows; a route is repaired in far less. */
const BLOW_MS = [6_000, 14_000] as const
const SAMPLE_MS = 2_000
/** Without blows at the end: everything must work then. */
const CALM_MS = 20_000
/** What a node takes to warm up does not count as growth. */
const WARM_MS = 30_000
/** Slopes mean something after this. */
const LONG_MINUTES = 10
const MAX_MIB_PER_HOUR = 60
const MAX_OUTAGE_MS = 15_000

/** Ten relays of five operators; four may exit. Their ports stay when they are started again. */
const RELAYS: readonly RelayPlan[] = ['alder', 'birch', 'cedar', 'dogwood', 'elm'].flatMap((operator, i) =>
  [0, 1].map(n => ({ host: `127.${50 + 2 * i + n}.0.1`, operator, isExit: i >= 3, port: 51_821 })),
)

export const soak: Scenario = async bench => {
  const seed = bench.size ?? 1
  bench.figure('seed', seed)
  const net = await Testnet.start({ relays: RELAYS, hops: 3, proxyPort: 0, observe: true, warmsUp: true })
  try {
    await net.waitReady(true)
    // The minutes are those of the traffic: a busy machine takes some to start ten relays.
    const endMs = performance.now() + (bench.minutes ?? USUAL_MINUTES) * MINUTE_MS
    const traffic = new Traffic(net)
    const samples = new Samples(net)
    const workers = [traffic.pages(endMs), traffic.pages(endMs), traffic.downloads(endMs), samples.run(endMs)]
    const blows = await strike(net, randomOf(seed), endMs - CALM_MS, bench)
    traffic.beginCalm()
    await Promise.all(workers)
    report(bench, net, traffic, samples, blows)
  } finally {
    await net.stop()
  }
}

interface Blow {
  readonly name: string
  /** How often it is chosen, beside the others. */
  readonly weight: number
  strike(net: Testnet, pick: <T>(from: readonly T[]) => T): Promise<void>
}

const BLOWS: readonly Blow[] = [
  {
    name: 'a relay is killed and started again',
    weight: 4,
    async strike(net, pick) {
      const victim = pick(aliveRelays(net))
      await net.kill(victim)
      const plan = RELAYS.find(({ host }) => host === victim.host)
      if (plan !== undefined) net.startRelay(plan)
    },
  },
  { name: 'the data plane of a relay dies', weight: 3, strike: (net, pick) => crash(pick(aliveRelays(net))) },
  { name: 'a worker of a relay dies', weight: 2, strike: (net, pick) => crash(pick(aliveRelays(net)), 0) },
  { name: 'the data plane of the client dies', weight: 1, strike: net => crash(net.client) },
  {
    name: 'the client is killed and started again',
    weight: 1,
    async strike(net) {
      await net.kill(net.client)
      net.startClient()
    },
  },
]

async function strike(
  net: Testnet,
  random: () => number,
  untilMs: number,
  { say }: Bench,
): Promise<Map<string, number>> {
  const done = new Map(BLOWS.map(({ name }) => [name, 0]))
  const lots = BLOWS.flatMap(blow => Array.from({ length: blow.weight }, () => blow))
  const pick = <T>(from: readonly T[]) => from[Math.floor(random() * from.length)] as T
  for (;;) {
    const waitMs = BLOW_MS[0] + random() * (BLOW_MS[1] - BLOW_MS[0])
    if (performance.now() + waitMs > untilMs) {
      await sleep(Math.max(0, untilMs - performance.now()))
      return done
    }
    await sleep(waitMs)
    const blow = pick(lots)
    say(`  ${blow.name}`)
    await blow.strike(net, pick).catch(() => {})
    done.set(blow.name, (done.get(blow.name) ?? 0) + 1)
  }
}

/** Applications that go on asking, whatever happens. */
class Traffic {
  readonly #net: Testnet
  #isCalm = false
  #lastMs = performance.now()
  fetched = 0
  failed = 0
  failedInCalm = 0
  bytes = 0
  longestOutageMs = 0
  longestStallMs = 0

  constructor(net: Testnet) {
    this.#net = net
  }

  beginCalm(): void {
    // A blow of the last moment may still be felt.
    setTimeout(() => (this.#isCalm = true), CALM_MS / 2)
  }

  async pages(untilMs: number): Promise<void> {
    for (let n = 0; performance.now() < untilMs; n++) {
      await this.#fetch(`/page/${n}`, n % 10 === 0 ? `person-${n % 40}` : undefined)
      await sleep(50)
    }
  }

  async downloads(untilMs: number): Promise<void> {
    while (performance.now() < untilMs) await this.#fetch(`/bytes/${4 * MIB}`)
  }

  async #fetch(path: string, user?: string): Promise<void> {
    try {
      const { originHost, originHttpPort } = this.#net
      const options = user === undefined ? {} : { user }
      const fetched = await fetchThrough(await this.#net.proxy(), originHost, originHttpPort, path, options)
      this.fetched++
      this.bytes += fetched.bytes
      this.longestStallMs = Math.max(this.longestStallMs, fetched.longestStallMs)
      this.longestOutageMs = Math.max(this.longestOutageMs, performance.now() - this.#lastMs)
      this.#lastMs = performance.now()
    } catch {
      this.failed++
      if (this.#isCalm) this.failedInCalm++
      await sleep(100)
    }
  }
}

interface Sample {
  readonly atMs: number
  readonly memoryMib: number
  readonly handles: number
}

/** Memory and open handles of every process, over its life. */
class Samples {
  readonly #net: Testnet
  readonly #ofProcess = new Map<TestNode, Sample[]>()

  constructor(net: Testnet) {
    this.#net = net
  }

  async run(untilMs: number): Promise<void> {
    while (performance.now() < untilMs) {
      const nodes = this.#net.nodes.filter(node => isAlive(node) && node.role !== 'origin')
      await Promise.all(nodes.map(node => this.#take(node)))
      await sleep(SAMPLE_MS)
    }
  }

  async #take(node: TestNode): Promise<void> {
    const status = await this.#net.status(node)
    if (status === undefined) return
    const sample = { atMs: performance.now(), memoryMib: status.memoryBytes / MIB, handles: openHandles(status.pid) }
    const samples = this.#ofProcess.get(node)
    if (samples === undefined) this.#ofProcess.set(node, [sample])
    else samples.push(sample)
  }

  /** The steepest growth of any process that lived long enough, an hour at that pace; and the most it ever had. */
  worst(of: 'memoryMib' | 'handles'): { readonly name: string; readonly perHour: number; readonly most: number } {
    let worst = { name: 'none', perHour: 0, most: 0 }
    for (const [node, samples] of this.#ofProcess) {
      const most = Math.max(worst.most, ...samples.map(sample => sample[of]))
      const warm = samples.filter(({ atMs }) => atMs > (samples[0]?.atMs ?? 0) + WARM_MS)
      const perHour = warm.length < 5 ? 0 : slope(warm.map(sample => [sample.atMs, sample[of]])) * 60 * MINUTE_MS
      worst = perHour > worst.perHour ? { name: node.name, perHour, most } : { ...worst, most }
    }
    return worst
  }
}

function report(
  bench: Bench,
  net: Testnet,
  traffic: Traffic,
  samples: Samples,
  blows: ReadonlyMap<string, number>,
): void {
  const { figure, promise } = bench
  for (const [name, count] of blows) figure(name, count)
  figure('fetched', traffic.fetched)
  figure('lost', traffic.failed)
  figure('lostPerCent', Math.round((traffic.failed / Math.max(traffic.failed + traffic.fetched, 1)) * 1_000) / 10)
  figure('carriedMib', Math.round(traffic.bytes / MIB))
  figure('longestOutageMs', Math.round(traffic.longestOutageMs))
  figure('longestStallMs', Math.round(traffic.longestStallMs))
  const memory = samples.worst('memoryMib')
  const handles = samples.worst('handles')
  figure('mostMemoryMib', Math.round(memory.most))
  figure('mostOpenHandles', handles.most)
  // A node that was started again a minute ago is still growing to its size: at that pace an hour would be nonsense.
  const isLong = (bench.minutes ?? USUAL_MINUTES) >= LONG_MINUTES
  const steepest = ({ perHour, name }: typeof memory) =>
    isLong ? `${Math.round(perHour)} (${name})` : `not told for less than ${LONG_MINUTES} minutes`
  figure('steepestMemoryMibPerHour', steepest(memory))
  figure('steepestHandlesPerHour', steepest(handles))
  promise('something was fetched, and somebody was struck', traffic.fetched > 0 && [...blows.values()].some(n => n > 0))
  promise('when the blows end everything works again', traffic.failedInCalm === 0)
  promise('it never takes more than 15 s until something is fetched again', traffic.longestOutageMs < MAX_OUTAGE_MS)
  promise('nobody ended but who was killed', aliveRelays(net).length === RELAYS.length && isAlive(net.client))
  if (!isLong) return
  promise(`no process grows by more than ${MAX_MIB_PER_HOUR} MiB in an hour`, memory.perHour < MAX_MIB_PER_HOUR)
  promise('open handles do not grow', handles.perHour < MAX_MIB_PER_HOUR)
}

async function crash(node: TestNode, worker?: number): Promise<void> {
  await callAction(socketPath(node.stateDir), 'crash', worker === undefined ? {} : { worker })
}

function aliveRelays(net: Testnet): TestNode[] {
  return net.relays.filter(isAlive)
}

function isAlive({ process }: TestNode): boolean {
  return process.exitCode === null && process.signalCode === null
}

function openHandles(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length
  } catch {
    return 0
  }
}

/** Least squares. */
function slope(points: readonly (readonly [number, number])[]): number {
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
  const [x, y] = [mean(points.map(([x]) => x)), mean(points.map(([, y]) => y))]
  const over = points.reduce((sum, [px, py]) => sum + (px - x) * (py - y), 0)
  return over / points.reduce((sum, [px]) => sum + (px - x) ** 2, 0)
}

/** The same numbers for the same seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
