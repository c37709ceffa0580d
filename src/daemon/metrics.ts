// Metrics for Prometheus and the node's health, on a port of its own. Everything is read when it is asked for. What OpenTelemetry
// has names for bears them, as Prometheus spells them: process.*, nodejs.*, and the attribute network.io.direction.
//
//   GET /metrics   text exposition format
//   GET /live      200 while the process answers
//   GET /ready     200 when the node does its work, 503 otherwise

import { createServer } from 'node:http'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { type Counter, Counter as CounterMetric, Gauge, Registry } from 'prom-client'
import { HopliteError } from '#api/errors.ts'
import { type ApiServer, closeServer } from '#api/server.ts'
import type { PeerStatus, Status } from '#api/table.ts'
import { readUdpQueues, type UdpQueues } from '#platform/linux/plane/udp-queues.ts'
import { parseAddress } from '#wire/address.ts'
import { parseListen } from './listen.ts'

const MAX_CONNECTIONS = 16
const NS_PER_SECOND = 1e9
const US_PER_SECOND = 1e6
const DIRECTION = 'network_io_direction'
const LATE = 'How late the control plane was since it was asked before'
/** What the hop machine counts of handshakes, and the label of each. */
const HANDSHAKES = [
  ['handshakes', 'accepted'],
  ['renewals', 'renewed'],
  ['cookieReplies', 'asked_for_proof'],
] as const
const CLIENT_HANDSHAKES = [
  ['handshakesSent', 'sent'],
  ['handshakesAnswered', 'answered'],
  ['handshakesRenewed', 'renewed'],
  ['handshakesUnanswered', 'unanswered'],
] as const
/** Counters that have metrics of their own. */
const NAMED: ReadonlySet<string> = new Set([
  ...['datagramsIn', 'datagramsOut', 'bytesIn', 'bytesOut', 'framesOpened', 'failovers', 'moves', 'credits.paid'],
  ...['lentBytesIn', 'lentBytesOut'],
  ...[...HANDSHAKES, ...CLIENT_HANDSHAKES].map(([name]) => name),
])

/** Serves metrics at `listen`. Throws ADDRESS_IN_USE. */
export async function serveMetrics(listen: string, status: () => Status | Promise<Status>): Promise<ApiServer> {
  const delay = monitorEventLoopDelay({ resolution: 20 })
  delay.enable()
  const server = createServer({ requestTimeout: 10_000 }, (request, response) => {
    const answer = async () => {
      if (request.url === '/live') return { code: 200, text: 'live\n' }
      const now = await status()
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
  const gauge = (name: string, help: string, value: number) => new Gauge({ name, help, registers }).set(value)
  const counter = (name: string, help: string, labelNames: string[] = []): Counter =>
    new CounterMetric({ name, help, labelNames, registers })
  const labelled = (name: string, help: string, label: string, values: Readonly<Record<string, number>>) => {
    const metric = new Gauge({ name, help, labelNames: [label], registers })
    for (const [value, count] of Object.entries(values)) metric.set({ [label]: value }, count)
  }

  const info = new Gauge({ name: 'hoplite_info', help: 'What runs', labelNames: ['version', 'role'], registers })
  info.set({ version: status.version, role: status.role }, 1)
  gauge('hoplite_ready', 'Whether the node does its work', status.state === 'ready' ? 1 : 0)
  gauge('process_uptime_seconds', 'Since the node started', status.uptimeMs / 1000)
  gauge('process_memory_usage_bytes', 'Resident memory of the process', status.memoryBytes)
  const cpu = counter('process_cpu_time_seconds_total', 'Time of processors', ['cpu_mode'])
  const { user, system } = process.cpuUsage()
  cpu.inc({ cpu_mode: 'user' }, user / US_PER_SECOND)
  cpu.inc({ cpu_mode: 'system' }, system / US_PER_SECOND)
  gauge('nodejs_eventloop_delay_p99_seconds', LATE, delay.percentile(99) / NS_PER_SECOND)
  gauge('nodejs_eventloop_delay_max_seconds', `${LATE} at most`, delay.max / NS_PER_SECOND)

  gauge('hoplite_directory_relays', 'Relays in the directory', status.directory)
  gauge('hoplite_sessions', 'Sessions that are open', status.sessions)
  gauge('hoplite_flows', 'Flows that are open', status.flows)
  gauge('hoplite_streams', 'Streams that are open', status.streams)
  gauge('hoplite_routes', 'Routes of a client', status.routes.length)
  const rtt = status.routes.find(({ isolation }) => isolation === '')?.rttMs
  if (rtt !== undefined) gauge('hoplite_route_rtt_seconds', 'Round trip to the exit of the main route', rtt / 1000)

  const { counters, peer, credits } = status
  const of = (name: string) => counters[name] ?? 0
  const directed = (name: string, help: string, received: number, sent: number) => {
    const metric = counter(name, help, [DIRECTION])
    metric.inc({ [DIRECTION]: 'receive' }, received)
    metric.inc({ [DIRECTION]: 'transmit' }, sent)
  }
  directed('hoplite_datagrams_total', 'Datagrams on the network', of('datagramsIn'), of('datagramsOut'))
  directed('process_network_io_bytes_total', 'Bytes of datagrams on the network', of('bytesIn'), of('bytesOut'))
  counter('hoplite_frames_opened_total', 'Frames that were opened').inc(of('framesOpened'))
  counter('hoplite_failovers_total', 'Routes that moved to their spare way').inc(of('failovers') + of('moves'))
  const handshakes = counter('hoplite_handshakes_total', 'Handshakes of clients, by what came of them', ['result'])
  for (const [name, result] of HANDSHAKES) handshakes.inc({ result }, of(name))
  const made = counter('hoplite_client_handshakes_total', 'Handshakes with hops, by what came of them', ['result'])
  for (const [name, result] of CLIENT_HANDSHAKES) made.inc({ result }, of(name))
  exposeQueues(status, { counter, labelled })
  if (peer !== undefined) exposePeer(peer, { gauge, counter, directed })
  if (credits !== undefined) {
    const { tokens, pending, queued, redeemed, refused } = credits
    const held = { tokens, pending, ...(queued !== undefined && { queued }) }
    labelled('hoplite_credits', 'Credits that are held', 'state', held)
    if (redeemed !== undefined && refused !== undefined) {
      const earned = counter('hoplite_credits_handed_in_total', 'Credits that were taken and handed in', ['result'])
      earned.inc({ result: 'redeemed' }, redeemed)
      earned.inc({ result: 'refused' }, refused)
    }
  }
  counter('hoplite_credits_paid_total', 'Credits that were paid to relays').inc(of('credits.paid'))

  const { limits = [] } = status
  const reached = Object.fromEntries(limits.map(({ name }) => [snake(name), 1]))
  labelled('hoplite_limit_reached', 'Limits that are reached, or were a moment ago', 'limit', reached)

  const drops = counter('hoplite_drops_total', 'Datagrams that were dropped', ['reason'])
  const others = counter('hoplite_events_total', 'Other things that were counted', ['event'])
  for (const [name, value] of Object.entries(counters)) {
    const reason = /^drop(.+)$/.exec(name)?.[1]
    if (reason !== undefined) drops.inc({ reason: snake(reason) }, value)
    else if (!NAMED.has(name)) others.inc({ event: snake(name) }, value)
  }
  return (registers[0] as Registry).metrics()
}

interface Making {
  readonly gauge: (name: string, help: string, value: number) => void
  readonly counter: (name: string, help: string, labelNames?: string[]) => Counter
  readonly directed: (name: string, help: string, received: number, sent: number) => void
  readonly labelled: (name: string, help: string, label: string, values: Readonly<Record<string, number>>) => void
}

/** What waits at the node's socket in the kernel, where the system tells. */
function exposeQueues({ listening }: Status, { counter, labelled }: Pick<Making, 'counter' | 'labelled'>): void {
  const ports = (listening['udp'] ?? []).flatMap(address => parseAddress(address)?.port ?? [])
  const queues = ports.flatMap(port => readUdpQueues(port) ?? [])
  if (queues.length === 0) return
  const sum = (of: (one: UdpQueues) => number) => queues.reduce((total, one) => total + of(one), 0)
  labelled('hoplite_socket_queue_bytes', 'Memory of datagrams that wait in the kernel', DIRECTION, {
    receive: sum(({ receiveBytes }) => receiveBytes),
    transmit: sum(({ transmitBytes }) => transmitBytes),
  })
  counter('hoplite_socket_drops_total', 'Datagrams that found the queue of the kernel full').inc(
    sum(({ drops }) => drops),
  )
}

function exposePeer(peer: PeerStatus, { gauge, counter, directed }: Omit<Making, 'labelled'>): void {
  gauge('hoplite_peer_open', 'Whether the address is lent now', peer.closed === undefined ? 1 : 0)
  gauge('hoplite_peer_clients', 'Clients that it is lent to', peer.clients)
  gauge('hoplite_peer_clients_limit', 'Clients at once, at most', peer.maxClients)
  gauge('hoplite_peer_flows', 'Flows to WireGuard servers', peer.flows)
  gauge('hoplite_peer_day_bytes', 'What was lent on this day', peer.bytesToday)
  gauge('hoplite_peer_day_limit_bytes', 'What is lent in a day, at most', peer.bytesPerDay)
  directed('hoplite_peer_io_bytes_total', 'From WireGuard servers and to them', peer.bytesIn, peer.bytesOut)
  const refused = counter('hoplite_peer_refused_total', 'Flows that were not opened', ['reason'])
  for (const [reason, count] of Object.entries(peer.refused)) refused.inc({ reason: snake(reason) }, count)
}

/** UnknownSession → unknown_session */
function snake(name: string): string {
  return name
    .replace(/[A-Z]/g, (letter, at: number) => (at === 0 ? '' : '_') + letter.toLowerCase())
    .replace(/\W/g, '_')
}
