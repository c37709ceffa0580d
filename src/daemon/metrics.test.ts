import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import test, { type TestContext } from 'node:test'
import type { Status } from '#api/table.ts'
import { COUNTERS } from '#forward/counters.ts'
import { serveMetrics } from './metrics.ts'

const STATUS: Status = {
  ...{ role: 'client', state: 'ready', version: '1.2.3', pid: 7, uptimeMs: 5_000, listening: {}, directory: 6 },
  ...{ routes: [], sessions: 3, flows: 0, streams: 1, memoryBytes: 1_000 },
  counters: { datagramsIn: 10, bytesIn: 1_000, bytesOut: 500, dropUnknownSession: 2, failovers: 1, 'proxy.socks': 4 },
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise(resolve => server.close(resolve))
  return port
}

async function serve(t: TestContext, status: () => Status) {
  const listen = `127.0.0.1:${await freePort()}`
  const server = await serveMetrics(listen, status)
  t.after(() => server.close())
  const ask = async (path: string) => {
    const response = await fetch(`http://${listen}${path}`)
    return { status: response.status, text: await response.text() }
  }
  return { ask, listen }
}

test('what is counted is exposed as Prometheus reads it', async t => {
  const { ask } = await serve(t, () => STATUS)
  const { status, text } = await ask('/metrics')
  assert.equal(status, 200)
  for (const line of [
    'hoplite_info{version="1.2.3",role="client"} 1',
    'hoplite_ready 1',
    'hoplite_sessions 3',
    'hoplite_datagrams_total{network_io_direction="receive"} 10',
    'process_network_io_bytes_total{network_io_direction="transmit"} 500',
    'hoplite_drops_total{reason="unknown_session"} 2',
    'hoplite_failovers_total 1',
    'hoplite_events_total{event="proxy_socks"} 4',
  ])
    assert.ok(text.split('\n').includes(line), `${line} in:\n${text}`)
  assert.match(text, /^nodejs_eventloop_delay_p99_seconds \d/m)
  assert.match(text, /^process_cpu_time_seconds_total\{cpu_mode="user"\} \d/m)
})

const PEER: Status['peer'] = {
  ...{ clients: 2, maxClients: 16, flows: 3, bytesOut: 70, bytesIn: 90, bytesToday: 160, bytesPerDay: 1_000 },
  ...{ rateKbit: 64, hours: '22-6', closed: 'hours', refused: { clientsOfAddress: 5 } },
}
const CREDITS: Status['credits'] = { tokens: 7, pending: 1, queued: 4, redeemed: 30, refused: 2 }

test('handshakes, what a peer lends and credits have metrics of their own', async t => {
  const made = { handshakesSent: 8, handshakesAnswered: 5, handshakesRenewed: 2, handshakesUnanswered: 1 }
  const counters = { handshakes: 9, renewals: 4, cookieReplies: 1, 'credits.paid': 3, ...made }
  const { ask } = await serve(t, () => ({ ...STATUS, counters, peer: PEER, credits: CREDITS }))
  const lines = (await ask('/metrics')).text.split('\n')
  for (const line of [
    'hoplite_handshakes_total{result="accepted"} 9',
    'hoplite_handshakes_total{result="renewed"} 4',
    'hoplite_handshakes_total{result="asked_for_proof"} 1',
    'hoplite_client_handshakes_total{result="sent"} 8',
    'hoplite_client_handshakes_total{result="answered"} 5',
    'hoplite_client_handshakes_total{result="renewed"} 2',
    'hoplite_client_handshakes_total{result="unanswered"} 1',
    'hoplite_peer_open 0',
    'hoplite_peer_clients 2',
    'hoplite_peer_day_bytes 160',
    'hoplite_peer_io_bytes_total{network_io_direction="transmit"} 70',
    'hoplite_peer_refused_total{reason="clients_of_address"} 5',
    'hoplite_credits{state="tokens"} 7',
    'hoplite_credits{state="queued"} 4',
    'hoplite_credits_handed_in_total{result="refused"} 2',
    'hoplite_credits_paid_total 3',
  ])
    assert.ok(lines.includes(line), line)
  assert.ok(!lines.some(line => line.startsWith('hoplite_events_total{')), 'nothing is counted twice')
})

test('a limit that is reached is a series of its own, and there is none otherwise', async t => {
  const limits = [{ name: 'open files', problem: '60 of the 64 files', advice: 'raise it' }]
  const { ask } = await serve(t, () => ({ ...STATUS, limits }))
  assert.match((await ask('/metrics')).text, /^hoplite_limit_reached\{limit="open_files"\} 1$/m)
  const { ask: askAnother } = await serve(t, () => STATUS)
  assert.doesNotMatch((await askAnother('/metrics')).text, /^hoplite_limit_reached\{/m)
})

test('live does not wait for the node to say how it is', async t => {
  const { ask } = await serve(t, () => assert.fail('it was asked'))
  assert.equal((await ask('/live')).status, 200)
  assert.equal((await ask('/ready')).status, 500)
})

test('what waits at the node’s socket is told where the system tells', async t => {
  const { ask } = await serve(t, () => ({ ...STATUS, listening: { udp: ['127.0.0.1:9'] } }))
  const { text } = await ask('/metrics')
  if (process.platform === 'linux')
    assert.match(text, /^hoplite_socket_queue_bytes\{network_io_direction="receive"\} \d/m)
  else assert.doesNotMatch(text, /hoplite_socket_queue_bytes/)
})

test('the dashboard for Grafana and the alert rules ask for metrics that there are', async t => {
  const routes: Status['routes'] = [{ isolation: '', state: 'ready', hops: [], rttMs: 20, streams: 1 }]
  const counters = Object.fromEntries(COUNTERS.map(name => [name, 1]))
  const listening = { udp: ['127.0.0.1:9'] }
  const { ask } = await serve(t, () => ({ ...STATUS, routes, counters, listening, peer: PEER, credits: CREDITS }))
  const { text } = await ask('/metrics')
  const names = new Set([...text.matchAll(/^# TYPE (\w+) /gm)].map(([, name]) => name))
  const read = (file: string) => readFileSync(new URL(`../../docs/monitoring/${file}`, import.meta.url), 'utf8')
  for (const file of ['grafana.json', 'alerts.yml']) {
    const asked = read(file)
    for (const [name] of asked.matchAll(/\b(?:hoplite|process|nodejs)_\w+/g))
      assert.ok(names.has(name), `${name} in ${file}`)
    for (const [, given = ''] of asked.matchAll(/reason=~?"([\w|]+)"/g))
      for (const reason of given.split('|')) assert.ok(text.includes(`reason="${reason}"`), `${reason} in ${file}`)
  }
  // The table of docs/operations.md, both ways; \`…_x\` shares the beginning of the name before it.
  const table = read('../operations.md')
    .split('\n')
    .filter(line => /^\| `(hoplite|process|nodejs)_[a-z]/.test(line))
  const promised = new Set<string>()
  for (const line of table) {
    const cell = line.split('|')[1] ?? ''
    const [first = ''] = /(?:hoplite|process|nodejs)_\w+/.exec(cell) ?? []
    for (const [name] of cell.matchAll(/(?:hoplite|process|nodejs)_\w+/g)) promised.add(name)
    for (const [, end = ''] of cell.matchAll(/…_(\w+)/g)) {
      const found = [...names].filter(name => name?.endsWith(`_${end}`) && name.slice(0, 12) === first.slice(0, 12))
      assert.equal(found.length, 1, `…_${end} beside ${first}`)
      promised.add(found[0] ?? '')
    }
  }
  assert.deepEqual([...promised].toSorted(), [...names].toSorted())
  const { panels } = JSON.parse(read('grafana.json')) as { panels: unknown[] }
  assert.ok(panels.length > 10)
})

test('live says that the process answers, ready that it does its work', async t => {
  let state: Status['state'] = 'building'
  const { ask } = await serve(t, () => ({ ...STATUS, state }))
  assert.deepEqual(await ask('/live'), { status: 200, text: 'live\n' })
  assert.deepEqual(await ask('/ready'), { status: 503, text: 'building\n' })
  state = 'ready'
  assert.equal((await ask('/ready')).status, 200)
  assert.equal((await ask('/elsewhere')).status, 404)
})

test('a port that is taken is named', async t => {
  const { listen } = await serve(t, () => STATUS)
  await assert.rejects(
    serveMetrics(listen, () => STATUS),
    { code: 'ADDRESS_IN_USE', message: `serve metrics on ${listen}: EADDRINUSE` },
  )
})
