// Metrics for Prometheus and the node's health, on a port of its own. Everything is read when it is asked for.
//
//   GET /metrics   text exposition format
//   GET /live      200 while the process answers
//   GET /ready     200 when the node does its work, 503 otherwise

import { createServer } from 'node:http'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { type Counter, Counter as CounterMetric, Gauge, Registry } from 'prom-client'
import { HopliteError } from '#api/errors.ts'
import { type ApiServer, closeServer } from '#api/server.ts'
import type { Status } from '#api/table.ts'
import { parseListen } from './listen.ts'

const MAX_CONNECTIONS = 16
const NS_PER_SECOND = 1e9

/** Serves metrics at `listen`. Throws ADDRESS_IN_USE. */
export async function serveMetrics(listen: string, status: () => Status | Promise<Status>): Promise<ApiServer> {
  const delay = monitorEventLoopDelay({ resolution: 20 })
  delay.enable()
  const server = createServer({ requestTimeout: 10_000 }, (request, response) => {
    const answer = async () => {
      const now = await status()
      if (request.url === '/live') return { code: 200, text: 'live\n' }
      if (request.url === '/ready') return { code: now.state === 'ready' ? 200 : 503, text: `${now.state}\n` }
      if (request.url !== '/metrics') return { code: 404, text: 'not found\n' }
      const text = await expose(now, delay)
      delay.reset()
      return { code: 200, text }
    }
    answer().then(
      ({ code, text }) => response.writeHead(code, { 'content-type': 'text/plain; version=0.0.4' }).end(text),
      () => response.writeHead(500).end(),
    )
  })
  server.maxConnections = MAX_CONNECTIONS
  const { host, port } = parseListen(listen)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const advice = 'choose another in [metrics]'
      reject(new HopliteError('ADDRESS_IN_USE', `serve metrics on ${listen}: ${error.code}`, advice, error))
    })
    server.listen(port, host, resolve)
  })
  return {
    close: () => {
      delay.disable()
      return closeServer(server)
    },
  }
}

/** The node's state in the text exposition format. */
async function expose(status: Status, delay: ReturnType<typeof monitorEventLoopDelay>): Promise<string> {
  const registers = [new Registry()]
  const gauge = (name: string, help: string, value: number) =>
    new Gauge({ name: `hoplite_${name}`, help, registers }).set(value)
  const counter = (name: string, help: string, labelNames: string[] = []): Counter =>
    new CounterMetric({ name: `hoplite_${name}`, help, labelNames, registers })

  const info = new Gauge({ name: 'hoplite_info', help: 'What runs', labelNames: ['version', 'role'], registers })
  info.set({ version: status.version, role: status.role }, 1)
  gauge('ready', 'Whether the node does its work', status.state === 'ready' ? 1 : 0)
  gauge('uptime_seconds', 'Since the node started', status.uptimeMs / 1000)
  gauge('memory_bytes', 'Resident memory of the process', status.memoryBytes)
  gauge('directory_relays', 'Relays in the directory', status.directory)
  gauge('sessions', 'Sessions that are open', status.sessions)
  gauge('flows', 'Flows that are open', status.flows)
  gauge('streams', 'Streams that are open', status.streams)
  gauge('routes', 'Routes of a client', status.routes.length)
  const rtt = status.routes.find(({ isolation }) => isolation === '')?.rttMs
  if (rtt !== undefined) gauge('route_rtt_seconds', 'Round trip to the exit of the main route', rtt / 1000)
  gauge(
    'event_loop_delay_p99_seconds',
    'How late the control plane was since it was asked before',
    delay.percentile(99) / NS_PER_SECOND,
  )
  gauge(
    'event_loop_delay_max_seconds',
    'How late the control plane was at most since it was asked before',
    delay.max / NS_PER_SECOND,
  )

  const { counters } = status
  const of = (name: string) => counters[name] ?? 0
  const datagrams = counter('datagrams_total', 'Datagrams on the network', ['direction'])
  datagrams.inc({ direction: 'receive' }, of('datagramsIn'))
  datagrams.inc({ direction: 'transmit' }, of('datagramsOut'))
  const bytes = counter('network_bytes_total', 'Bytes of datagrams on the network', ['direction'])
  bytes.inc({ direction: 'receive' }, of('bytesIn'))
  bytes.inc({ direction: 'transmit' }, of('bytesOut'))
  counter('frames_opened_total', 'Frames that were opened').inc(of('framesOpened'))
  counter('failovers_total', 'Routes that moved to their spare way').inc(of('failovers'))
  const drops = counter('drops_total', 'Datagrams that were dropped', ['reason'])
  const others = counter('events_total', 'Other things that were counted', ['event'])
  const named = new Set(['datagramsIn', 'datagramsOut', 'bytesIn', 'bytesOut', 'framesOpened', 'failovers'])
  for (const [name, value] of Object.entries(counters)) {
    const reason = /^drop(.+)$/.exec(name)?.[1]
    if (reason !== undefined) drops.inc({ reason: snake(reason) }, value)
    else if (!named.has(name)) others.inc({ event: snake(name) }, value)
  }
  return (registers[0] as Registry).metrics()
}

/** UnknownSession → unknown_session */
function snake(name: string): string {
  return name
    .replace(/[A-Z]/g, (letter, at: number) => (at === 0 ? '' : '_') + letter.toLowerCase())
    .replace(/\W/g, '_')
}
