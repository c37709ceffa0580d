// One node of a network whose packets go from TUN to TUN, over the linux engine: a client, or a hop that may be an exit.
//
//   node src/lab/machine/tunnel-node-process.ts '{ "host": "10.30.0.1", "tun": { … }, "route": [ { "host", "key" }, … ] }'
//   node src/lab/machine/tunnel-node-process.ts '{ "host": "10.30.0.11", "key": "…", "tun": { … } }'
//
// Keys are 64 hex digits, a hop's its private one, those of a route public ones, the exit last. It writes `ready` when its
// socket is open, a client when packets flow; then a line of JSON with its counters for every line that it
// reads, but for `crash N`, of which its worker N dies.

import { execFileSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import { systemRandom } from '#crypto/random.ts'
import { BusyMeter } from '#daemon/busy-meter.ts'
import type { Report } from '#forward/commands.ts'
import { monotonicMs } from '#platform/clock.ts'
import { type Engine, startEngineOf } from '#platform/engine.ts'
import { openTun } from '#platform/linux/tun.ts'
import { Hop } from '#relay/hop.ts'
import { TunnelPool } from '#relay/tunnel-pool.ts'
import type { Route } from '#route/route.ts'
import { Routes } from '#route/routes.ts'
import type { RouteHop } from '#route/way.ts'
import { hopKeys } from '#session/hop-handshake.ts'
import { parseIp } from '#wire/address.ts'

const PORT = 51_821
const TICK_MS = 20
const MAX_STREAM_DATAGRAM = 1_200

export interface NamedHop {
  readonly host: string
  readonly key: string
}

/** What `src/lab/machine/tunnel-node-process.ts` is told. */
export interface TunnelNodePlan {
  readonly host: string
  readonly tun?: {
    /** With prefix lengths. */
    readonly addresses: readonly string[]
    readonly routes: readonly string[]
    readonly deviceMtu: number
    readonly offload: boolean
  }
  /** Of the data plane, and queues of the TUN; sessions take turns, the last worker first. Default 1. */
  readonly workers?: number
  /** The longest packet of a flow; at a client, the one to begin with. */
  readonly mtu: number
  /** What a client's link carries: up to that, longer packets are tried. */
  readonly link?: number
  readonly key?: string
  readonly route?: readonly NamedHop[]
  /** Other hops that lead to the same exit. */
  readonly spare?: readonly NamedHop[]
}

const plan = JSON.parse(process.argv[2] ?? '') as TunnelNodePlan
const node = plan.key === undefined ? client(plan) : hop(plan, plan.key)
createInterface({ input: process.stdin })
  .on('line', line => {
    if (line.startsWith('crash')) node.send({ kind: 'crash', worker: Number(line.slice(6)) })
    else console.log(JSON.stringify(node.counters.snapshot()))
  })
  .on('close', () => process.exit(0))

function hop({ tun, mtu, workers = 1 }: TunnelNodePlan, key: string): Engine {
  const [network4, network6] = [4, 6].map(family => {
    const text = tun?.addresses.find(text => text.includes(':') === (family === 6))
    const [address = '', bits] = text?.split('/') ?? []
    return text && { address: parseIp(address) ?? new Uint8Array(0), bits: Number(bits) }
  })
  const networks = { ...(network4 && { network4 }), ...(network6 && { network6 }) }
  const machine = new Hop(
    {
      keys: hopKeys(Buffer.from(key, 'hex')),
      limits: { maxSessions: 100, maxFlows: 100, maxFlowsPerSession: 10 },
      random: systemRandom,
      // Whose the client's session is stays the same when a busy machine makes it greet twice.
      place: () => workers - 1,
      mayReachHop: () => true,
      isExit: tun !== undefined,
      ...(tun && { tunnel: { pool: new TunnelPool(networks, systemRandom), mtu, dns: ['192.0.2.53'] } }),
    },
    monotonicMs(),
  )
  const engine = start(report => {
    machine.handleReport(report, monotonicMs())
    engine.send(...machine.take())
    if (report.kind === 'listening') console.log('ready')
  })
  setInterval(() => {
    machine.handleDeadline(monotonicMs())
    engine.send(...machine.take())
  }, TICK_MS)
  return engine
}

function client({ route = [], spare = [], mtu, link }: TunnelNodePlan): Engine {
  const [hops, spareHops] = [route.map(routeHop), spare.map(routeHop)]
  const exit = hops.pop()
  if (exit === undefined) throw new Error('a route without an exit')
  const routes = new Routes({
    random: systemRandom,
    pickRoute: () => ({ hops, exit }),
    pickWay: (_exit, avoid) =>
      spareHops.length === 0 || spareHops.some(({ id }) => avoid.some(hop => hop.id === id)) ? undefined : spareHops,
    isBusy: () => busy.isBusy(engine.counters.get('datagramsIn'), monotonicMs()),
  })
  const busy = new BusyMeter()
  let tunnelFlow = 0
  const resize = (route: Route, mtu: number, now: number) => {
    const { session } = route.exitLayer
    engine.send({ kind: 'resizePacketFlow', session, flow: tunnelFlow, mtu })
    route.exitLayer.ask({ kind: 'openTunnel', flow: tunnelFlow, mtu }, now, () => {})
    engine.send(...routes.take(now))
  }
  const settle = () => {
    const now = monotonicMs()
    engine.send(...routes.take(now))
    for (const { event, route } of routes.takeEvents()) {
      if (event.kind === 'resized') resize(route, event.mtu, now)
      if (event.kind !== 'ready') continue
      const flow = route.newFlow()
      route.exitLayer.ask({ kind: 'openTunnel', flow, mtu }, now, answer => {
        if (answer?.kind !== 'openTunnel') throw new Error(`the exit's answer: ${answer?.kind}`)
        engine.send({ kind: 'installPacketFlow', session: route.exitLayer.session, flow, mtu })
        tunnelFlow = flow
        if (link !== undefined) route.searchMtu({ link, offered: answer.mtu }, now)
        console.log('ready')
      })
      engine.send(...routes.take(now))
    }
  }
  const engine = start(report => {
    if (report.kind === 'listening') routes.want('', monotonicMs())
    routes.handleReport(report, monotonicMs())
    settle()
  })
  setInterval(() => {
    routes.handleDeadline(monotonicMs())
    settle()
  }, TICK_MS)
  return engine
}

function routeHop({ host, key }: NamedHop): RouteHop {
  return { id: host, operator: host, address: { host, port: PORT }, key: Buffer.from(key, 'hex') }
}

/** Starts the engine, with its port when there is to be one. */
function start(onReport: (report: Report) => void): Engine {
  const { host, tun, mtu, workers = 1 } = plan
  const engine = startEngineOf('linux', {
    host,
    port: PORT,
    workers,
    warmsUp: false,
    maxStreamDatagram: MAX_STREAM_DATAGRAM,
    onReport: report => {
      if (report.kind === 'failed') throw new Error(report.what)
      onReport(report)
    },
    onFailure: error => {
      throw error
    },
  })
  if (tun === undefined) return engine
  const device = openTun({ name: 'hop0', offload: tun.offload, queues: workers })
  const ip = (...words: string[]) => execFileSync('ip', words)
  ip('link', 'set', 'hop0', 'addrgenmode', 'none', 'mtu', `${tun.deviceMtu}`, 'up')
  for (const address of tun.addresses) ip('address', 'add', address, 'dev', 'hop0')
  for (const route of tun.routes) ip('route', 'add', route, 'dev', 'hop0')
  const [fd = -1, ...moreFds] = device.fds
  engine.send({ kind: 'openPort', port: { fd, moreFds, offload: device.offload, mtu: Math.max(mtu, tun.deviceMtu) } })
  return engine
}
