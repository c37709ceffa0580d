// The kernel is the judge: a client and an exit with their own TUNs, hops between them, and behind the exit an origin that
// knows the way to the exit's tunnel networks. Each in a network namespace of its own, over the linux engine.

import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { createInterface, type Interface } from 'node:readline'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { generateX25519 } from '#crypto/x25519.ts'
import type { Counter } from '#forward/counters.ts'
import { IpPacket, parseIpPacket } from '#packet/ip-packet.ts'
import { CLIENT_ADDRESS_4, CLIENT_ADDRESS_6 } from '#wire/tunnel-addresses.ts'
import { type Host, missingForNamespaces, Namespaces } from './netns.ts'
import { skipUnless } from './skip.ts'
import type { TunnelNodePlan } from './tunnel-node-process.ts'

const NODE = fileURLToPath(new URL('tunnel-node-process.ts', import.meta.url))
const RAW = fileURLToPath(new URL('raw-packets-process.ts', import.meta.url))
const VECTORS = new URL('../../../shared/vectors/packets/raw-ip.json', import.meta.url)
const MTU = 1_280
const BYTES = 10_000_000
const ORIGIN = { 4: '10.40.0.2', 6: 'fd40::2' } as const
const INSIDE = { 4: '10.64.0.1/24', 6: 'fd64::1/64' } as const

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

const script = (code: string, ...words: string[]) => [
  '--no-warnings',
  '--input-type=module-typescript',
  '--eval',
  code,
  ...words,
]

/** A node's process, and what it says. */
class Node {
  readonly host: Host
  readonly #child: ChildProcess
  readonly #lines: Interface

  constructor(host: Host, plan: TunnelNodePlan) {
    this.host = host
    this.#child = host.start(process.execPath, ['--no-warnings', NODE, JSON.stringify(plan)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#lines = createInterface({ input: this.#child.stdout ?? assert.fail() })
  }

  async line(): Promise<string> {
    const [line] = (await once(this.#lines, 'line')) as [string]
    return line
  }

  async counters(): Promise<Record<Counter, number>> {
    this.#child.stdin?.write('\n')
    return JSON.parse(await this.line())
  }
}

interface Net {
  readonly client: Node
  readonly exit: Node
  readonly origin: Host
}

interface NetOptions {
  readonly hops: number
  readonly deviceMtu?: number
  readonly offload?: boolean
}

async function start(lab: Namespaces, { hops, deviceMtu = MTU, offload = true }: NetOptions): Promise<Net> {
  const [middle, origin] = [await lab.switch('switch'), await lab.host('origin')]
  const tun = { deviceMtu, offload }
  const route: { host: string; key: string }[] = []
  let exit: Node | undefined
  for (let i = 1; i <= hops; i++) {
    const { privateKey, publicKey } = generateX25519()
    const host = await lab.host(`hop${i}`)
    const address = `10.30.0.1${i}`
    await lab.plug(host, middle, `${address}/24`)
    if (i === hops) {
      const [near, far] = await lab.cable(host, '10.40.0.1/24', origin, `${ORIGIN[4]}/24`)
      await host.ip('address', 'add', 'fd40::1/64', 'dev', near, 'nodad')
      await origin.ip('address', 'add', `${ORIGIN[6]}/64`, 'dev', far, 'nodad')
      await origin.ip('route', 'add', '10.64.0.0/24', 'via', '10.40.0.1')
      await origin.ip('route', 'add', 'fd64::/64', 'via', 'fd40::1')
      await host.run('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1')
    }
    const node = new Node(host, {
      host: address,
      key: Buffer.from(privateKey).toString('hex'),
      mtu: MTU,
      ...(i === hops && { tun: { ...tun, addresses: [INSIDE[4], INSIDE[6]], routes: [] } }),
    })
    assert.equal(await node.line(), 'ready')
    route.push({ host: address, key: Buffer.from(publicKey).toString('hex') })
    exit = node
  }
  const host = await lab.host('client')
  await lab.plug(host, middle, '10.30.0.1/24')
  const addresses = [`${CLIENT_ADDRESS_4}/32`, `${CLIENT_ADDRESS_6}/128`]
  const routes = ['10.40.0.0/24', 'fd40::/64']
  const client = new Node(host, { host: '10.30.0.1', mtu: MTU, tun: { ...tun, addresses, routes }, route })
  assert.equal(await client.line(), 'ready')
  const server = origin.start(process.execPath, script(ECHO), { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(server.stdout ?? assert.fail(), 'data')
  return { client, exit: exit ?? assert.fail(), origin }
}

async function transfer(t: TestContext, { client }: Net, address: string): Promise<void> {
  const out = await client.host.run(process.execPath, ...script(TRANSFER, address, `${BYTES}`))
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
    const net = await start(lab, { hops, offload })
    for (const address of [ORIGIN[4], ORIGIN[6]]) {
      await net.client.host.run('ping', '-c', '2', '-i', '0.2', '-W', '2', address)
      await transfer(t, net, address)
    }
    for (const node of [net.client, net.exit]) {
      // What a kernel says to all neighbours when a link comes up has no flow yet.
      const { dropMalformed, dropSpoofed, dropForged, dropTunnel } = await node.counters()
      assert.deepEqual([dropMalformed, dropSpoofed, dropForged, dropTunnel], [0, 0, 0, 0])
    }
  })
}

for (const offload of [true, false]) {
  const words = offload ? 'with' : 'without'
  test(`a TUN that takes longer packets than the way carries is told so, ${words} offloads`, async t => {
    if (lacksTun(t)) return
    await using lab = new Namespaces()
    const net = await start(lab, { hops: 1, deviceMtu: 1_500, offload })
    for (const address of [ORIGIN[4], ORIGIN[6]]) {
      await net.client.host.run('ping', '-c', '4', '-i', '0.2', '-W', '2', '-s', '1400', address)
      assert.match(await net.client.host.ip('route', 'get', address), /mtu 1280/)
      await transfer(t, net, address)
    }
    assert.ok((await net.client.counters()).dropTooBig > 0)
  })
}

test('a packet in another name is dropped at the client and counted', async t => {
  if (lacksTun(t)) return
  await using lab = new Namespaces()
  const { client, exit } = await start(lab, { hops: 1 })
  await client.host.ip('address', 'add', '192.0.2.77/32', 'dev', 'hop0')
  const before = await exit.counters()
  await assert.rejects(client.host.run('ping', '-I', '192.0.2.77', '-c', '2', '-i', '0.2', '-W', '1', ORIGIN[4]))
  assert.equal((await client.counters()).dropSpoofed, 2)
  assert.equal((await exit.counters()).dropSpoofed, before.dropSpoofed)
})

test('malformed packets from either kernel are dropped and counted, and nothing stands still', async t => {
  if (lacksTun(t)) return
  if (skipUnless(t, existsSync(VECTORS), 'the packets of others are not here')) return
  const { packets } = JSON.parse(readFileSync(VECTORS, 'utf8')) as { packets: { hex: string }[] }
  await using lab = new Namespaces()
  const net = await start(lab, { hops: 1 })
  const seen = new IpPacket()
  const all = packets.map(({ hex }) => Buffer.from(hex, 'hex')).filter(({ length }) => length > 0 && length <= MTU)
  const malformed = all.filter(bytes => parseIpPacket(seen, bytes, 0, bytes.length) !== undefined)
  for (const node of [net.client, net.exit]) {
    const before = await node.counters()
    const sent = writeRaw(node.host, all)
    await net.client.host.run('ping', '-c', '1', '-W', '2', ORIGIN[4])
    const after = await node.counters()
    const grown = (name: Counter) => after[name] - before[name]
    const dropped = grown('dropTunnel') + grown('dropMalformed') + grown('dropSpoofed') + grown('dropNoFlow')
    t.diagnostic(`${sent} of ${all.length} taken, ${malformed.length} malformed, ${dropped} dropped`)
    assert.ok(sent >= malformed.length / 2)
    assert.equal(dropped, sent, 'none of them is of this tunnel')
  }
  await transfer(t, net, ORIGIN[4])
})
