// The kernel is the judge of packets that go from a client's TUN to an exit's, and on to an origin.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Counter } from '#forward/counters.ts'
import { IpPacket, parseIpPacket } from '#packet/ip-packet.ts'
import { type Host, missingForNamespaces, Namespaces } from '../netns.ts'
import { hasTool, skipUnless } from '../skip.ts'
import { waitFor } from '../testnet.ts'
import { ORIGIN, startTunnelNet, TUNNEL_MTU, type TunnelNet, type TunnelNetOptions } from './tunnel-net.ts'

const RAW = fileURLToPath(new URL('raw-packets-process.ts', import.meta.url))
const VECTORS = new URL('../../../../shared/vectors/packets/raw-ip.json', import.meta.url)
const BYTES = 4_000_000

/** Sends back what it is sent. */
const ECHO = `
  import net from 'node:net'
  net.createServer({ allowHalfOpen: true }, socket => socket.pipe(socket)).listen(7000, '::', () => console.log('listening'))`

/** Sends bytes that repeat in no power of two, both ways at once; prints both digests and the megabits a second. */
const TRANSFER = `
  import net from 'node:net'
  import { createHash } from 'node:crypto'
  const bytes = Buffer.alloc(Number(process.argv[2]))
  for (let i = 0; i < bytes.length; i++) bytes[i] = i % 251 + i / 65_521
  const started = performance.now()
  const socket = net.connect(7000, process.argv[1])
  socket.end(bytes)
  const theirs = createHash('sha256')
  for await (const chunk of socket) theirs.update(chunk)
  const mbitPerSecond = Math.round(bytes.length / 125 / (performance.now() - started))
  const ours = createHash('sha256').update(bytes).digest('hex')
  console.log(JSON.stringify({ ours, theirs: theirs.digest('hex'), mbitPerSecond }))`

/** Answers a datagram by one from each of 60 ports. */
const SCATTER = `
  import dgram from 'node:dgram'
  const server = dgram.createSocket('udp4').on('message', (_message, { address, port }) => {
    for (let i = 0; i < 60; i++) dgram.createSocket('udp4').send('scattered', port, address)
  })
  server.bind(7000, () => console.log('listening'))`

/** Asks for that, and prints from how many ports an answer came. */
const GATHER = `
  import dgram from 'node:dgram'
  const ports = new Set()
  const socket = dgram.createSocket('udp4').on('message', (_message, { port }) => {
    ports.add(port)
    if (ports.size === 60) done()
  })
  const done = () => { console.log(ports.size); process.exit(0) }
  setTimeout(done, 60_000)
  socket.send('ask', 7000, process.argv[1])`

const script = (code: string, ...words: string[]) => [
  '--no-warnings',
  '--input-type=module-typescript',
  '--eval',
  code,
  ...words,
]

/** A network whose origin sends back what it is sent, and is known to its neighbour: that may take a second. */
async function begin(lab: Namespaces, options: TunnelNetOptions): Promise<TunnelNet> {
  const net = await startTunnelNet(lab, options)
  const server = net.origin.start(process.execPath, script(ECHO), { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(server.stdout ?? assert.fail(), 'data')
  for (const address of [ORIGIN[4], ORIGIN[6]]) await net.exit.host.run('ping', '-c', '1', '-W', '20', address)
  return net
}

async function transfer(t: TestContext, { client }: TunnelNet, address: string, bytes = BYTES): Promise<void> {
  const out = await client.host.run(process.execPath, ...script(TRANSFER, address, `${bytes}`))
  const { ours, theirs, mbitPerSecond } = JSON.parse(out)
  assert.equal(theirs, ours)
  t.diagnostic(`${address}: ${mbitPerSecond} Mbit/s each way`)
}

function lacksTun(t: TestContext): boolean {
  const missing = missingForNamespaces('ping')
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: 'iproute2, iputils-ping' })) return true
  return skipUnless(t, existsSync('/dev/net/tun'), 'needs /dev/net/tun')
}

/** Writes packets into a node's TUN as if its kernel sent them. */
function writeRaw(host: Host, packets: readonly Uint8Array[]): number {
  const input = packets.map(packet => Buffer.from(packet).toString('hex')).join('\n')
  const words = ['netns', 'exec', host.namespace, process.execPath, '--no-warnings', RAW, 'hop0']
  return Number(execFileSync('ip', words, { input, encoding: 'utf8' }))
}

for (const [hops, offload] of [
  [1, true],
  [2, true],
  [3, true],
  [3, false],
] as const) {
  const words = `${hops} hop${hops > 1 ? 's' : ''}${offload ? '' : ', TUNs without offloads'}`
  test(`TCP and echoes of both families go from the client's TUN to an origin and back: ${words}`, async t => {
    if (lacksTun(t)) return
    await using lab = new Namespaces()
    const net = await begin(lab, { hops, offload })
    for (const address of [ORIGIN[4], ORIGIN[6]]) {
      await net.client.host.run('ping', '-c', '2', '-i', '0.2', '-W', '20', address)
      await transfer(t, net, address)
    }
    for (const node of [net.client, net.exit]) {
      // Others count what a kernel says to all its neighbours when a link comes up.
      const { dropMalformed, dropForged, dropTunnel } = await node.counters()
      assert.deepEqual([dropMalformed, dropForged, dropTunnel], [0, 0, 0])
    }
  })
}

test("an exit's workers have a queue of its TUN each, and hand over what the kernel put elsewhere", async t => {
  if (lacksTun(t)) return
  await using lab = new Namespaces()
  const net = await begin(lab, { hops: 1, exitWorkers: 3 })
  for (const address of [ORIGIN[4], ORIGIN[6]]) {
    await net.client.host.run('ping', '-c', '2', '-i', '0.2', '-W', '20', address)
    await transfer(t, net, address)
  }
  const { framesOpened, handedOver: rare, dropNoFlow: before } = await net.exit.counters()
  t.diagnostic(`${rare} handed over, ${framesOpened} frames opened`)
  assert.ok(rare < framesOpened / 20, 'the kernel answers a flow through the queue that it came by')

  // Nothing tells the kernel which queue these are for.
  const server = net.origin.start(process.execPath, script(SCATTER), { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(server.stdout ?? assert.fail(), 'data')
  assert.equal((await net.client.host.run(process.execPath, ...script(GATHER, ORIGIN[4]))).trim(), '60')
  const { handedOver, dropHandOver, dropNoFlow } = await net.exit.counters()
  assert.ok(handedOver - rare >= 10, `${handedOver - rare} of 60`)
  assert.deepEqual([dropHandOver, dropNoFlow - before], [0, 0])
})

test("a client is back soon after its exit's worker died, by the same TUN", async t => {
  if (lacksTun(t)) return
  await using lab = new Namespaces()
  const net = await begin(lab, { hops: 1, exitWorkers: 2 })
  await transfer(t, net, ORIGIN[4])
  // The session is the last worker's; the other is there, so the node goes on.
  net.exit.crash(1)
  assert.equal(await net.client.line(), 'ready')
  await transfer(t, net, ORIGIN[4])
  await net.client.host.run('ping', '-c', '2', '-i', '0.2', '-W', '20', ORIGIN[6])
})

test('a TCP connection through the TUN outlives its guard', async t => {
  if (lacksTun(t)) return
  await using lab = new Namespaces()
  const net = await begin(lab, { hops: 2, hasSpare: true })
  const carried = async () => (await net.exit.counters()).framesOpened
  const before = await carried()
  const done = transfer(t, net, ORIGIN[4], BYTES * 5)
  while ((await carried()) < before + 5_000);
  net.hops[0]?.kill()
  const atKill = await carried()
  await done
  assert.ok((await carried()) > atKill + 1_000, 'it was not over yet')
  assert.ok((await net.exit.counters()).roamed > 0)
})

for (const offload of [true, false]) {
  const words = offload ? 'with' : 'without'
  test(`a TUN that takes longer packets than the way carries is told so, ${words} offloads`, async t => {
    if (lacksTun(t)) return
    await using lab = new Namespaces()
    const net = await begin(lab, { hops: 1, deviceMtu: 1_500, offload })
    for (const address of [ORIGIN[4], ORIGIN[6]]) {
      await net.client.host.run('ping', '-c', '4', '-i', '0.2', '-W', '20', '-s', '1400', address)
      assert.match(await net.client.host.ip('route', 'get', address), /mtu 1280/)
      await transfer(t, net, address)
    }
    assert.ok((await net.client.counters()).dropTooBig > 0)
  })
}

test('a black hole of 1,296 bytes that opens in the middle of a transfer does not end it, nor what begins behind it', async t => {
  if (lacksTun(t)) return
  if (skipUnless(t, hasTool('nft'), 'needs nft', { tool: 'nftables' })) return
  await using lab = new Namespaces()
  const net = await begin(lab, { hops: 1, deviceMtu: 1_500, link: 1_500, exitMtu: 1_416 })
  const ends = [net.client.host, net.exit.host]
  // Datagrams travel one by one: a joined one is as long as all of its parts.
  for (const host of ends) await host.ip('link', 'set', 'eth0', 'gso_max_segs', '1')
  const fits = (bytes: number) =>
    net.client.host.run('ping', '-c', '1', '-W', '1', '-M', 'do', '-s', `${bytes - 28}`, ORIGIN[4])
  await waitFor(
    () =>
      fits(1_416)
        .then(() => true as const)
        .catch(() => undefined),
    'a packet of 1,416 bytes',
  )

  const carried = async () => (await net.exit.counters()).framesOpened
  const before = await carried()
  const done = transfer(t, net, ORIGIN[4], BYTES * 5)
  while ((await carried()) < before + 5_000);
  const drop = (side: string) => `add rule inet hole in udp ${side} 51821 meta length > 1296 counter drop`
  const table = `add table inet hole; add chain inet hole in { type filter hook prerouting priority 0; }; ${drop('dport')}; ${drop('sport')}`
  for (const host of ends) await host.run('nft', table)
  const atHole = await carried()
  const startedMs = performance.now()
  await done
  t.diagnostic(`over ${Math.round(performance.now() - startedMs)} ms after the black hole opened`)
  assert.ok((await carried()) > atHole + 1_000, 'it was not over yet')
  for (const host of ends) assert.match(await host.run('nft', 'list', 'table', 'inet', 'hole'), /packets [1-9]/)
  for (const address of [ORIGIN[4], ORIGIN[6]]) await transfer(t, net, address)
})

test('a packet in another name is dropped at the client and counted', async t => {
  if (lacksTun(t)) return
  await using lab = new Namespaces()
  const { client, exit } = await begin(lab, { hops: 1 })
  await client.host.ip('address', 'add', '192.0.2.77/32', 'dev', 'hop0')
  const before = await exit.counters()
  const { dropSpoofed: already } = await client.counters()
  await assert.rejects(client.host.run('ping', '-I', '192.0.2.77', '-c', '2', '-i', '0.2', '-W', '1', ORIGIN[4]))
  assert.ok((await client.counters()).dropSpoofed - already >= 2)
  assert.equal((await exit.counters()).dropSpoofed, before.dropSpoofed)
})

test('malformed packets from either kernel are dropped and counted, and nothing stands still', async t => {
  if (lacksTun(t)) return
  if (skipUnless(t, existsSync(VECTORS), 'the packets of others are not here')) return
  const { packets } = JSON.parse(readFileSync(VECTORS, 'utf8')) as { packets: { hex: string }[] }
  await using lab = new Namespaces()
  const net = await begin(lab, { hops: 1 })
  const seen = new IpPacket()
  const all = packets
    .map(({ hex }) => Buffer.from(hex, 'hex'))
    .filter(({ length }) => length > 0 && length <= TUNNEL_MTU)
  const malformed = all.filter(bytes => parseIpPacket(seen, bytes, 0, bytes.length) !== undefined)
  for (const node of [net.client, net.exit]) {
    const before = await node.counters()
    const sent = writeRaw(node.host, all)
    await net.client.host.run('ping', '-c', '1', '-W', '20', ORIGIN[4])
    const after = await node.counters()
    const grown = (name: Counter) => after[name] - before[name]
    const dropped = grown('dropTunnel') + grown('dropMalformed') + grown('dropSpoofed') + grown('dropNoFlow')
    t.diagnostic(`${sent} of ${all.length} taken, ${malformed.length} malformed, ${dropped} dropped`)
    assert.ok(sent >= malformed.length / 2)
    // None of them is of this tunnel; kernels say something of their own now and then.
    assert.ok(dropped >= sent)
  }
  await transfer(t, net, ORIGIN[4])
})
