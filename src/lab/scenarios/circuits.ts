// `npm run lab -- circuits [--size N]`: 10,000 circuits of two hops, all through one relay, which then carry nothing. Each is a session
// with the relay, a flow from there, and a session with the second relay inside it.

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { systemRandom } from '#crypto/random.ts'
import { Directory } from '#discover/directory.ts'
import type { Command, Report } from '#forward/commands.ts'
import { monotonicMs } from '#platform/clock.ts'
import { startEngineOf } from '#platform/engine.ts'
import { LayerIndices } from '#route/layer.ts'
import { type RouteHop, Way } from '#route/way.ts'
import type { Scenario } from '../scenario.ts'
import { SIX_RELAYS, type TestNode, Testnet } from '../testnet.ts'

const CIRCUITS = 10_000
const HOST = '127.67.0.1'
/** Below the rate at which a relay asks for cookies. */
const PER_TURN = 5
const TURN_MS = 20
const LIMIT_MS = 110_000
const IDLE_MS = 5_000
const MAX_BYTES = 300 * 2 ** 20

export const circuits: Scenario = async ({ say, figure, promise, size = CIRCUITS }) => {
  const net = await Testnet.start({ relays: SIX_RELAYS, hops: 2, proxyPort: 0, observe: false, warmsUp: true })
  try {
    await net.waitReady()
    const [first, second] = [net.relays[0], net.relays[2]]
    if (first === undefined || second === undefined) throw new Error('there are no relays')
    const hops = [routeHop(net, first), routeHop(net, second)]
    const before = residentBytes(first)
    say(`  ${size} circuits through ${first.host}`)
    const startedMs = monotonicMs()
    await using client = await startWays(hops, size)
    const { ready } = client
    figure('circuits', ready)
    figure('circuitsPerSecond', Math.round((ready * 1_000) / (monotonicMs() - startedMs)))
    await new Promise(resolve => setTimeout(resolve, IDLE_MS))
    const status = await net.status(first)
    figure('relaySessions', status?.sessions ?? 0)
    figure('relayMiBBefore', mebibytes(before))
    figure('relayMiB', mebibytes(residentBytes(first)))
    figure('relayMostMiB', mebibytes(residentBytes(first, 'VmHWM')))
    promise('every circuit was built', ready === size)
    promise('the relay has a session for each', (status?.sessions ?? 0) >= size)
    promise('the relay stays below 300 MiB', residentBytes(first, 'VmHWM') < MAX_BYTES)
  } finally {
    await net.stop()
  }
}

/** Builds the ways, and keeps them until it is disposed of. */
async function startWays(hops: readonly RouteHop[], count: number): Promise<AsyncDisposable & { ready: number }> {
  const [out, indices, ways]: [Command[], LayerIndices, Way[]] = [[], new LayerIndices(), []]
  const bySession = new Map<number, Way>()
  const engine = startEngineOf(process.platform === 'linux' ? 'linux' : 'portable', {
    host: HOST,
    port: 0,
    maxStreamDatagram: 1_172,
    onReport: report => {
      handle(report)
      engine.send(...out.splice(0))
    },
    onFailure: error => {
      throw error
    },
  })
  const handle = (report: Report) => {
    const now = monotonicMs()
    if (report.kind === 'handshake') {
      out.push({ kind: 'grantHandshakes', count: 1 })
      indices.handleHandshake(report.bytes, now)
    }
    if (report.kind !== 'control') return
    const layers = bySession.get(report.session)?.layers ?? []
    layers.find(({ session }) => session === report.session)?.handleControl(report.bytes, now)
  }
  let session = 1
  const begin = () => {
    const numbers: number[] = []
    const newSession = () => {
      numbers.push(session)
      return session++
    }
    const end = hops[0]?.address ?? { host: HOST, port: 0 }
    const way = new Way({ hops, end, random: systemRandom, out, indices, newSession })
    for (const number of numbers) bySession.set(number, way)
    ways.push(way)
    way.begin(monotonicMs())
  }
  const untilMs = monotonicMs() + LIMIT_MS
  const isBuilding = () => ways.some(({ state }) => state === 'building') || ways.length < count
  while (isBuilding() && monotonicMs() < untilMs) {
    for (let i = 0; i < PER_TURN && ways.length < count; i++) begin()
    for (const way of ways) if (way.deadline() <= monotonicMs()) way.handleDeadline(monotonicMs())
    engine.send(...out.splice(0))
    await new Promise(resolve => setTimeout(resolve, TURN_MS))
  }
  const ready = ways.filter(({ state }) => state === 'ready').length
  return { ready, [Symbol.asyncDispose]: () => engine.close() }
}

function routeHop(net: Testnet, { host, stateDir }: TestNode): RouteHop {
  const directory = new Directory()
  directory.loadCache(readFileSync(path.join(net.client.stateDir, 'directory.cache')), Date.now())
  const relay = directory.list(Date.now()).find(({ addresses }) => addresses[0]?.host === host)
  const address = relay?.addresses[0]
  if (relay === undefined || address === undefined)
    throw new Error(`the directory has no relay at ${host}: ${stateDir}`)
  return { id: relay.id, operator: relay.operator, address, key: relay.hopKey }
}

/** What the kernel says that a process has in memory; of the most that it ever had, `VmHWM`. */
function residentBytes({ process: { pid } }: TestNode, field: 'VmRSS' | 'VmHWM' = 'VmRSS'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0) * 1_024
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 2 ** 20)
}
