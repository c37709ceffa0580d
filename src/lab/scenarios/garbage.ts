// A million hostile datagrams at each role's port while real traffic flows, and garbage at every TCP port.

import { randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import path from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Status } from '#api/table.ts'
import { systemRandom } from '#crypto/random.ts'
import { Directory } from '#discover/directory.ts'
import { Counters } from '#forward/counters.ts'
import { Forwarder, type Outlet } from '#forward/forwarder.ts'
import { siblingModule } from '#platform/module-url.ts'
import { finish, initiate } from '#session/hop-handshake.ts'
import type { Flood } from '../flood-worker.ts'
import { patternHash } from '../pattern.ts'
import type { Bench, Scenario } from '../scenario.ts'
import { fetchThrough } from '../socks-client.ts'
import { SIX_RELAYS, type TestNode, Testnet } from '../testnet.ts'

const MILLION = 1_000_000
const PER_SECOND = 20_000
const ATTACKER = '127.66.0.1'
const PIECE = 2 * 2 ** 20
const MAX_GROWTH = 48 * 2 ** 20
const HANDSHAKE_COUNTERS = [
  'handshakes',
  'renewals',
  'cookieReplies',
  'dropMac1',
  'dropReplayedInitiation',
  'dropBadInitiation',
  'dropSessionLimit',
  'dropStaleRenewal',
  'dropNotInitiation',
]

export const garbage: Scenario = async bench => {
  const count = bench.size ?? MILLION
  const net = await Testnet.start({ relays: SIX_RELAYS, hops: 3, proxyPort: 0, observe: false })
  try {
    const status = await net.waitReady(true)
    const directory = readDirectory(net)
    const inUse = [...(status.routes[0]?.hops ?? []), ...(status.routes[0]?.spare ?? [])].map(({ address }) =>
      net.at(address),
    )
    const idle = net.relays.find(relay => !inUse.includes(relay))
    const [guard, middle, exit] = inUse
    const targets = [guard, middle, exit, idle, net.client].filter(node => node !== undefined)
    const before = await statuses(net, targets)

    const stop = new AbortController()
    const traffic = keepFetching(net, stop.signal)
    bench.say(`  ${count} datagrams to each of ${targets.length} processes, ${PER_SECOND} a second`)
    await Promise.all([...targets.map((node, i) => flood(net, directory, node, count, i + 1)), floodTcp(net, bench)])
    stop.abort()
    const { fetched, failed, longestMs } = await traffic
    const after = await statuses(net, targets)

    bench.figure('datagramsSentToEach', count)
    bench.figure('fetchesDuringFlood', fetched)
    bench.figure('slowestFetchMs', Math.round(longestMs))
    bench.promise('every fetch during the flood was whole and right', fetched > 0 && failed === 0)
    for (const [i, node] of targets.entries()) judge(bench, node, before[i], after[i], node === idle)
    bench.promise('the route was not lost', (after.at(-1)?.routes[0]?.state ?? '') === 'ready')
  } finally {
    await net.stop()
  }
}

function judge(
  { figure, promise }: Bench,
  node: TestNode,
  before: Status | undefined,
  after: Status | undefined,
  isIdle: boolean,
): void {
  promise(`${node.name} is alive`, node.process.exitCode === null && after !== undefined)
  if (before === undefined || after === undefined) return
  const delta = (name: string) => (after.counters[name] ?? 0) - (before.counters[name] ?? 0)
  const growth = after.memoryBytes - before.memoryBytes
  const drops = Object.keys(after.counters).filter(name => name.startsWith('drop'))
  const dropped = drops.reduce((sum, name) => sum + delta(name), 0)
  figure(`${node.name}.receivedDatagrams`, delta('datagramsIn'))
  figure(`${node.name}.dropped`, dropped)
  figure(`${node.name}.growthMiB`, Math.round(growth / 2 ** 20))
  promise(`${node.name} did not grow by more than ${MAX_GROWTH / 2 ** 20} MiB`, growth < MAX_GROWTH)
  if (!isIdle) return
  // Nothing but the flood came here, so every datagram must be accounted for.
  const handshakes = HANDSHAKE_COUNTERS.reduce((sum, name) => sum + delta(name), 0)
  const handshakeDrops = HANDSHAKE_COUNTERS.filter(name => name.startsWith('drop')).reduce(
    (sum, name) => sum + delta(name),
    0,
  )
  // Control messages are counted twice: as an opened frame, and as a bad message inside.
  const accounted = dropped - handshakeDrops - delta('dropBadControl') + handshakes + delta('framesOpened')
  figure('accountedDatagrams', accounted)
  for (const name of drops) if (delta(name) > 0) figure(`reason.${name}`, delta(name))
  promise('every datagram at the idle relay is counted under a reason', accounted === delta('datagramsIn'))
}

async function flood(net: Testnet, directory: Directory, node: TestNode, count: number, seed: number): Promise<void> {
  const status = await net.status(node)
  const [address = ''] = status?.listening['udp'] ?? []
  const port = Number(address.split(':').at(-1))
  const relay = directory.list(Date.now()).find(({ addresses }) => addresses[0]?.host === node.host)
  const real = relay === undefined ? [randomBytes(1_352)] : await realDatagrams(relay.hopKey, node.host, port)
  const workerData: Flood = { host: node.host, port, from: ATTACKER, count, perSecond: PER_SECOND, seed, real }
  const worker = new Worker(siblingModule(import.meta.url, '../flood-worker'), { workerData })
  await new Promise<void>((resolve, reject) => {
    worker.once('message', () => resolve())
    worker.once('error', reject)
  })
  await worker.terminate()
}

/** Datagrams of a session of the attacker's own: an initiation, and sealed packets that were sent once already. */
async function realDatagrams(hopKey: Uint8Array, host: string, port: number): Promise<Uint8Array[]> {
  const socket = createSocket('udp4')
  await new Promise<void>(resolve => socket.bind(0, ATTACKER, resolve))
  const { message, state } = initiate({ staticPublic: hopKey, localIndex: 7, random: systemRandom })
  const response = await new Promise<Buffer>(resolve => {
    socket.once('message', resolve)
    socket.send(message, port, host)
  })
  const keys = finish(state, response)
  const sent: Uint8Array[] = [message, Uint8Array.from(response)]
  if (keys === undefined) throw new Error('the attacker got no session')
  const outlet: Outlet = {
    toSocket: (_address, buffer, offset, length) =>
      sent.push(Uint8Array.from(buffer.subarray(offset, offset + length))),
    toFlow: () => {},
    toTap: () => {},
    toAssociation: () => {},
    toEntry: () => {},
    report: () => {},
    nowMs: () => 0,
  }
  const forwarder = new Forwarder(outlet, new Counters())
  forwarder.tables.installSession(1, 'initiator', { kind: 'socket', address: { host, port } }, keys)
  for (let i = 0; i < 20; i++) forwarder.sendControl(1, randomBytes(1 + i * 40))
  for (const packet of sent.slice(2)) socket.send(packet, port, host)
  await new Promise(resolve => setTimeout(resolve, 200))
  socket.close()
  return sent
}

/** Garbage at the TCP ports: the proxy, and every directory port. */
async function floodTcp(net: Testnet, { figure, promise }: Bench): Promise<void> {
  const ports = [await net.proxy()]
  for (const relay of net.relays) {
    const [control = ''] = (await net.status(relay))?.listening['control'] ?? []
    ports.push({ host: relay.host, port: Number(control.split('/')[4]) })
  }
  let connections = 0
  for (let round = 0; round < 60; round++) {
    await Promise.all(
      ports.map(
        address =>
          new Promise<void>(resolve => {
            const socket = connect({ ...address, localAddress: ATTACKER })
            const timer = setTimeout(() => socket.destroy(), 500)
            socket.on('error', () => {})
            socket.once('connect', () => socket.end(randomBytes(1 + ((round * 97) % 3_000))))
            socket.resume()
            socket.once('close', () => {
              clearTimeout(timer)
              connections++
              resolve()
            })
          }),
      ),
    )
  }
  figure('garbageTcpConnections', connections)
  promise(
    'garbage at the TCP ports ended no process',
    net.nodes.every(({ process }) => process.exitCode === null),
  )
}

async function keepFetching(
  net: Testnet,
  signal: AbortSignal,
): Promise<{ fetched: number; failed: number; longestMs: number }> {
  const proxy = await net.proxy()
  const hash = patternHash(PIECE)
  let [fetched, failed, longestMs] = [0, 0, 0]
  while (!signal.aborted) {
    const got = await fetchThrough(proxy, net.originHost, net.originHttpPort, `/bytes/${PIECE}`).catch(() => undefined)
    if (got?.sha256 === hash) fetched++
    else failed++
    longestMs = Math.max(longestMs, got?.totalMs ?? 0)
  }
  return { fetched, failed, longestMs }
}

function statuses(net: Testnet, nodes: readonly TestNode[]): Promise<(Status | undefined)[]> {
  return Promise.all(nodes.map(node => net.status(node)))
}

function readDirectory(net: Testnet): Directory {
  const directory = new Directory()
  directory.loadCache(readFileSync(path.join(net.client.stateDir, 'directory.cache')), Date.now())
  return directory
}
