// What a peer knows: a client's address, a server's address, sizes and times. Asserted on every packet on both sides of it, on
// its tables, and on the whole memory of a peer's process.

import assert from 'node:assert/strict'
import { closeSync, openSync, readFileSync, readSync } from 'node:fs'
import test from 'node:test'
import { calendarAt, WireGuardGate } from '#relay/wireguard-gate.ts'
import type { Address } from '#wire/address.ts'
import { skipUnless } from '../skip.ts'
import { waitFor } from '../testnet.ts'
import { addHop, VirtualNet, VirtualNode, type WirePacket } from '../virtual-net.ts'
import { makeEnd } from '../wireguard/wireguard-end.ts'
import { ENTRY, PeerFlow } from './peer-flow.ts'
import { HOSTS, startClient, startPeer, startServer } from './peer-process.ts'

/** What the two ends say to each other, again and again. */
const MARKER = Buffer.from('what only the two ends read, said many times over')
const WINDOW = 16
/** The mac2 of a handshake without a cookie is zeros, whoever makes it: there is nothing to match by. */
const EMPTY = '\0'.repeat(12)
const IDLE = { handleReport() {}, handleDeadline() {}, deadline: () => Number.POSITIVE_INFINITY }

/** Every 16 bytes that follow each other in the packets. */
function windowsOf(packets: readonly WirePacket[]): Set<string> {
  const windows = new Set<string>()
  for (const { bytes } of packets) {
    const text = Buffer.from(bytes).toString('latin1')
    for (let at = 0; at + WINDOW <= text.length; at++) {
      const window = text.slice(at, at + WINDOW)
      if (!window.includes(EMPTY)) windows.add(window)
    }
  }
  return windows
}

/** A client and a server that say thirty things each to the other through peers at `hosts`, on a virtual network. */
function converse(hosts: readonly string[]) {
  const net = new VirtualNet(`through ${hosts.join(' and ')}`)
  const [CLIENT, SERVER] = ['203.0.113.1', '185.65.135.1']
  const serverAddress: Address = { host: SERVER, port: 51_820 }
  const insides = new Map<string, Buffer[]>()
  const peers = hosts.map(host => {
    const limits = { maxClients: 2, maxFlowsPerClient: 1, bytesPerDay: 1e9 }
    const gate = new WireGuardGate({ limits, mayReach: to => to.host === SERVER, calendar: calendarAt(0) }, net.now)
    const peer = addHop(net, host, { wireGuard: gate })
    const opened: Buffer[] = []
    peer.node.forwarder.watch = (buffer, offset, length) => {
      opened.push(Buffer.from(buffer.subarray(offset, offset + length)))
    }
    insides.set(host, opened)
    return peer
  })
  const flow = new PeerFlow({ peers, server: serverAddress, client: { kind: 'tunnel' }, random: net.random })
  const client = new VirtualNode(net, CLIENT, flow, () => flow.take())
  const mine = makeEnd(1, (buffer, offset, length) => client.entries.send(ENTRY, buffer, offset, length, false))
  const node = new VirtualNode(net, SERVER, IDLE, () => [])
  const theirs = makeEnd(2, (buffer, offset, length, to) => socket.send(buffer, offset, length, to))
  const socket = node.open(
    { bind: serverAddress, isBusy: true },
    { onDatagram: (buffer, offset, length, from) => theirs.device.receive(buffer, offset, length, from, net.now) },
  )
  client.entries.tunnel = {
    receive: (_entry, buffer, offset, length) =>
      mine.device.receive(buffer, offset, length, serverAddress, net.now) === undefined,
    initiate() {},
    keepalive() {},
  }
  mine.know(theirs, 2, serverAddress)
  theirs.know(mine, 1)
  flow.begin(net.now)
  client.settle()
  assert.ok(net.run(2_000, () => flow.isOpen === true))
  for (let i = 0; i < 30; i++) {
    mine.say(MARKER, 2, 100 + 43 * i, net.now)
    net.run(100)
    theirs.say(MARKER, 1, 1_400 - 43 * i, net.now)
    net.run(100)
  }
  assert.deepEqual([mine.received.length, theirs.received.length], [30, 30])
  assert.ok(theirs.received.every(packet => Buffer.from(packet).includes(MARKER)))
  return { net, CLIENT, SERVER, peers, insides, secrets: [MARKER, ...mine.secrets, ...theirs.secrets] }
}

const hostOf = (address: string) => address.slice(0, address.lastIndexOf(':'))

/** Asserts that a peer between two hosts knows these two and nothing of the inside; `secrets` are the inside. */
function assertKnows(
  { net, peers, insides, secrets }: ReturnType<typeof converse>,
  host: string,
  sides: [string, string],
) {
  const between = (other: string) =>
    net.wire.filter(
      ({ from, to }) => [hostOf(from), hostOf(to)].includes(host) && [hostOf(from), hostOf(to)].includes(other),
    )
  const [near, far] = [between(sides[0]), between(sides[1])]
  const packets = net.wire.filter(({ from, to }) => [hostOf(from), hostOf(to)].includes(host))
  assert.equal(near.length + far.length, packets.length, 'it speaks to the two beside it and to nobody else')
  assert.ok(near.length > 60 && far.length > 60)
  const ofNear = windowsOf(near)
  const common = [...windowsOf(far)].filter(window => ofNear.has(window))
  assert.deepEqual(common, [], 'nothing to match the two sides by')

  const { tables, slab } = peers.find(({ id }) => id === host)?.node.forwarder ?? assert.fail('no such peer')
  const found = reachable(tables)
  assert.deepEqual([...found.hosts].sort(), [...sides].sort(), 'the tables name two hosts')
  assert.equal(found.bytes.length, 2, 'the two keys of the session with the client')
  const memory = [slab.buffer, ...found.bytes, ...(insides.get(host) ?? []), ...packets.map(({ bytes }) => bytes)]
  for (const bytes of memory) for (const secret of secrets) assert.ok(!Buffer.from(bytes).includes(secret))
}

test('a peer’s packets have two addresses and no byte of the inside, and those on its two sides have no 16 bytes in common', () => {
  const [peer] = ['198.51.100.1'] as const
  const world = converse([peer])
  assertKnows(world, peer, [world.CLIENT, world.SERVER])
  const ends = [world.CLIENT, world.SERVER]
  assert.ok(
    world.net.wire.every(({ from, to }) => ends.filter(end => [hostOf(from), hostOf(to)].includes(end)).length < 2),
  )
})

test('of two peers the first does not know the server, and the second does not know the client', () => {
  const [first, second] = ['198.51.100.1', '192.0.2.1'] as const
  const world = converse([first, second])
  assertKnows(world, first, [world.CLIENT, second])
  assertKnows(world, second, [first, world.SERVER])
})

/** Every host and every array of bytes that can be reached from a value. */
function reachable(root: unknown): { readonly hosts: Set<string>; readonly bytes: Uint8Array[] } {
  const [hosts, bytes, seen] = [new Set<string>(), [] as Uint8Array[], new Set<object>()]
  const visit = (value: unknown): void => {
    if (typeof value === 'string' && /^[0-9.]+$/.test(value)) hosts.add(value)
    if (typeof value !== 'object' || value === null || seen.has(value)) return
    seen.add(value)
    if (ArrayBuffer.isView(value)) {
      bytes.push(new Uint8Array(value.buffer, value.byteOffset, value.byteLength))
      return
    }
    if (value instanceof Map) for (const [key, entry] of value) [key, entry].forEach(visit)
    for (const entry of Object.values(value)) visit(entry)
  }
  visit(root)
  return { hosts, bytes }
}

test('the whole memory of a peer’s process has nothing of the inside', async t => {
  if (skipUnless(t, process.platform === 'linux', 'memory is read from /proc, and 127/8 is loopback, on Linux')) return
  const { end: theirs, socket: server } = await startServer(t)
  const serverAddress: Address = { host: HOSTS.server, port: server.address().port }
  const peer = await startPeer(t, serverAddress)
  const { end: mine, socket: near, entry } = await startClient(t, peer, serverAddress)
  mine.know(theirs, 2, entry)
  theirs.know(mine, 1)
  const clients = new Set<string>()
  /** How the datagrams of the two ends begin, sealed as they are. */
  const datagrams: Buffer[] = []
  near.on('message', bytes => datagrams.push(Buffer.from(bytes.subarray(0, 32))))
  server.on('message', (bytes, { address }) => {
    clients.add(address)
    datagrams.push(Buffer.from(bytes.subarray(0, 32)))
  })
  for (let i = 0; i < 20; i++) {
    mine.say(MARKER, 2, 300 + 40 * i)
    await waitFor(async () => theirs.received[i], 'a packet at the server')
    theirs.say(MARKER, 1, 300 + 40 * i)
    await waitFor(async () => mine.received[i], 'a packet at the client')
  }
  assert.deepEqual([...clients], [HOSTS.peer], 'the server sees the peer')
  const status = await peer.status()
  assert.deepEqual([status.clients, status.flows], [1, 1])
  assert.ok(status.bytesOut > 12_000 && status.bytesIn > 12_000)

  const secrets = [MARKER, ...mine.secrets, ...theirs.secrets]
  const client = Buffer.from(HOSTS.client)
  const found = searchMemory(peer.process.pid ?? 0, [...secrets, client, ...datagrams.slice(-12)])
  if (skipUnless(t, found !== undefined, 'the memory of another process may not be read here')) return
  assert.ok(found?.has(client), 'the search works: it finds the client’s address')
  assert.ok(
    datagrams.some(bytes => found?.has(bytes)),
    'and packets as they went by',
  )
  assert.deepEqual(
    secrets.map(secret => found?.has(secret)),
    secrets.map(() => false),
    'but neither what was said nor a key of the two ends',
  )
})

/** Which of the needles stand in the memory of a process; undefined when it may not be read. */
function searchMemory(pid: number, needles: readonly Buffer[]): Set<Buffer> | undefined {
  const found = new Set<Buffer>()
  const overlap = Math.max(...needles.map(({ length }) => length))
  let memory: number
  try {
    memory = openSync(`/proc/${pid}/mem`, 'r')
  } catch {
    return undefined
  }
  try {
    const chunk = Buffer.alloc(4 * 1024 * 1024)
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from = '', to = ''] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? []
      if (from === '') continue
      const end = BigInt(`0x${to}`)
      for (let at = BigInt(`0x${from}`); at < end; at += BigInt(chunk.length - overlap)) {
        const part = chunk.subarray(0, Number(end - at < BigInt(chunk.length) ? end - at : chunk.length))
        const length = readPart(memory, part, at)
        for (const needle of needles) if (part.subarray(0, length).includes(needle)) found.add(needle)
      }
    }
  } finally {
    closeSync(memory)
  }
  return found
}

/** Pages that are not there cannot be read: the rest is shorter, or nothing. */
function readPart(memory: number, part: Buffer, at: bigint): number {
  try {
    return readSync(memory, part, 0, part.length, at)
  } catch {
    return 0
  }
}
