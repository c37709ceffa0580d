// What a peer knows: a client's address, a server's address, sizes and times. Asserted on every packet on both sides of it, on
// its tables, and on the whole memory of a peer's process.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import { seededRandom, systemRandom } from '#crypto/random.ts'
import { ControlLoop } from '#daemon/control-loop.ts'
import { monotonicMs } from '#platform/clock.ts'
import { socketPath } from '#platform/directories.ts'
import { startEngineOf } from '#platform/engine.ts'
import { readKeys } from '#platform/keys.ts'
import { calendarAt, WireGuardGate } from '#relay/wireguard-gate.ts'
import { WireGuardDevice } from '#session/wireguard/device.ts'
import { type Address, formatAddress, parseAddress } from '#wire/address.ts'
import { ENTRY, PeerFlow } from './peer-flow.ts'
import { skipUnless } from './skip.ts'
import { waitFor } from './testnet.ts'
import { addHop, VirtualNet, VirtualNode, type WirePacket } from './virtual-net.ts'
import { inside4, ipPacket } from './wireguard-net.ts'

/** What the two ends say to each other, again and again. */
const MARKER = Buffer.from('what only the two ends read, said many times over')
const WINDOW = 16
/** The mac2 of a handshake without a cookie is zeros, whoever makes it: there is nothing to match by. */
const EMPTY = '\0'.repeat(12)
const IDLE = { handleReport() {}, handleDeadline() {}, deadline: () => Number.POSITIVE_INFINITY }

/** A WireGuard device with one peer; `send` is how its datagrams leave. */
function device(host: number, send: (buffer: Uint8Array, offset: number, length: number, to: Address) => void) {
  const received: Uint8Array[] = []
  const privateKey = systemRandom(32)
  const wireGuard = new WireGuardDevice<Address>({
    privateKey: Uint8Array.from(privateKey),
    random: systemRandom,
    unixOffsetMs: 1_700_000_000_000,
    outlet: {
      toEndpoint: (_peer, endpoint, buffer, offset, length) => send(buffer, offset, length, endpoint),
      toTunnel: (_peer, buffer, offset, length) =>
        received.push(Uint8Array.from(buffer.subarray(offset, offset + length))),
    },
    sameEndpoint: (a, b) => a.host === b.host && a.port === b.port,
    endpointBytes: endpoint => Buffer.from(formatAddress(endpoint)),
  })
  const know = (publicKey: Uint8Array, other: number, endpoint?: Address) =>
    wireGuard.setPeer(
      { publicKey, allowedIps: [{ address: inside4(other), bits: 32 }], ...(endpoint && { endpoint }) },
      monotonicMs(),
    )
  /** Says the marker inside an IP packet of `length` bytes. */
  const say = (other: number, length: number, now: number) => {
    const buffer = Buffer.alloc(32 + length + 32)
    const packet = ipPacket(inside4(host), inside4(other), length)
    for (let at = 28; at + MARKER.length <= length; at += MARKER.length) packet.set(MARKER, at)
    buffer.set(packet, 32)
    assert.equal(wireGuard.send(buffer, 32, length, now), undefined)
  }
  return { wireGuard, received, privateKey, know, say }
}

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

test('a peer’s packets have two addresses and no byte of the inside, and those on its two sides have no 16 bytes in common', () => {
  const net = new VirtualNet('what a peer knows')
  const [CLIENT, PEER, SERVER] = ['203.0.113.1', '198.51.100.1', '185.65.135.1']
  const serverAddress: Address = { host: SERVER, port: 51_820 }
  const gate = new WireGuardGate(
    {
      limits: { maxClients: 1, maxFlowsPerClient: 1, bytesPerDay: 1e9 },
      mayReach: ({ host }) => host === SERVER,
      calendar: calendarAt(0),
    },
    net.now,
  )
  const peer = addHop(net, PEER, { wireGuard: gate })
  const seenInside: Buffer[] = []
  peer.node.forwarder.watch = (buffer, offset, length) => {
    seenInside.push(Buffer.from(buffer.subarray(offset, offset + length)))
  }
  const flow = new PeerFlow({ peers: [peer], server: serverAddress, client: { kind: 'tunnel' }, random: net.random })
  const client = new VirtualNode(net, CLIENT, flow, () => flow.take())

  const mine = device(1, (buffer, offset, length) => client.entries.send(ENTRY, buffer, offset, length, false))
  const node = new VirtualNode(net, SERVER, IDLE, () => [])
  const theirs = device(2, (buffer, offset, length, to) => socket.send(buffer, offset, length, to))
  const socket = node.open(
    { bind: serverAddress, isBusy: true },
    {
      onDatagram: (buffer, offset, length, from) =>
        theirs.wireGuard.receive(buffer, offset, length, { ...from }, net.now),
    },
  )
  client.entries.tunnel = {
    receive: (_entry, buffer, offset, length) => mine.wireGuard.receive(buffer, offset, length, serverAddress, net.now),
    initiate() {},
    keepalive() {},
  }
  mine.know(theirs.wireGuard.publicKey, 2, serverAddress)
  theirs.know(mine.wireGuard.publicKey, 1)

  flow.begin(net.now)
  client.settle()
  assert.ok(net.run(2_000, () => flow.isOpen === true))
  for (let i = 0; i < 30; i++) {
    mine.say(2, 100 + 43 * i, net.now)
    net.run(100)
    theirs.say(1, 1_400 - 43 * i, net.now)
    net.run(100)
  }
  assert.deepEqual([mine.received.length, theirs.received.length], [30, 30])
  assert.ok(theirs.received.every(packet => Buffer.from(packet).includes(MARKER)))

  const hostOf = (address: string) => address.slice(0, address.lastIndexOf(':'))
  const ofPeer = net.wire.filter(({ from, to }) => [hostOf(from), hostOf(to)].includes(PEER))
  const others = new Set(ofPeer.flatMap(({ from, to }) => [hostOf(from), hostOf(to)]))
  assert.deepEqual([...others].sort(), [SERVER, PEER, CLIENT].sort())
  assert.equal(ofPeer.length, net.wire.length, 'client and server never speak to each other')

  const onClientSide = ofPeer.filter(({ from, to }) => [hostOf(from), hostOf(to)].includes(CLIENT))
  const onServerSide = ofPeer.filter(({ from, to }) => [hostOf(from), hostOf(to)].includes(SERVER))
  assert.ok(onClientSide.length > 60 && onServerSide.length > 60)
  const ofClient = windowsOf(onClientSide)
  const common = [...windowsOf(onServerSide)].filter(window => ofClient.has(window))
  assert.deepEqual(common, [], 'nothing to match the two sides by')

  const { tables, slab } = peer.node.forwarder
  const secrets = [MARKER, ...[mine, theirs].flatMap(one => [one.privateKey, one.wireGuard.publicKey])]
  for (const secret of secrets) {
    for (const { bytes } of ofPeer) assert.ok(!Buffer.from(bytes).includes(secret), 'on the wire')
    for (const bytes of seenInside) assert.ok(!bytes.includes(secret), 'inside a layer that the peer opened')
    assert.ok(!Buffer.from(slab.buffer).includes(secret), 'in the memory where packets are sealed')
  }
  const found = reachable(tables)
  assert.deepEqual([...found.hosts].sort(), [CLIENT, SERVER].sort(), 'the tables name two hosts')
  for (const bytes of found.bytes)
    for (const secret of secrets) assert.ok(!Buffer.from(bytes).includes(secret), 'in the tables')
  assert.equal(found.bytes.length, 2, 'the two keys of the session with the client')
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

test('the whole memory of a peer’s process has nothing of the inside', { timeout: 60_000 }, async t => {
  if (skipUnless(t, process.platform === 'linux', 'memory is read from /proc, and 127/8 is loopback, on Linux')) return
  const [PEER, SERVER, CLIENT] = ['127.41.0.1', '127.42.0.1', '127.43.0.1']
  const server = await bound(t, SERVER)
  const serverAddress: Address = { host: SERVER, port: server.address().port }
  const peer = await startPeer(t, PEER, serverAddress)

  const flow = new PeerFlow({
    peers: [peer.hop],
    server: serverAddress,
    client: { kind: 'socket', listen: { host: '127.0.0.1', port: 0 } },
    random: seededRandom('a client'),
  })
  const entry = Promise.withResolvers<Address>()
  const engine = startEngineOf('portable', {
    host: CLIENT,
    port: 0,
    maxStreamDatagram: 1_172,
    onReport: report => {
      if (report.kind === 'entryReady') entry.resolve(report.address)
      loop.run(now => flow.handleReport(report, now))
    },
    onFailure: error => entry.reject(error),
  })
  const loop = new ControlLoop(flow, () => engine.send(...flow.take()))
  t.after(async () => {
    loop.close()
    await engine.close()
  })
  loop.run(now => flow.begin(now))
  const entryAddress = await entry.promise

  const near = await bound(t, '127.0.0.1')
  /** How the datagrams of the two ends begin, sealed as they are. */
  const datagrams: Buffer[] = []
  const mine = device(1, (buffer, offset, length) =>
    near.send(Uint8Array.from(buffer.subarray(offset, offset + length)), entryAddress.port, entryAddress.host),
  )
  const theirs = device(2, (buffer, offset, length, to) =>
    server.send(Uint8Array.from(buffer.subarray(offset, offset + length)), to.port, to.host),
  )
  mine.know(theirs.wireGuard.publicKey, 2, entryAddress)
  theirs.know(mine.wireGuard.publicKey, 1)
  const clients = new Set<string>()
  near.on('message', bytes => {
    datagrams.push(Buffer.from(bytes.subarray(0, 32)))
    mine.wireGuard.receive(Buffer.from(bytes), 0, bytes.length, entryAddress, monotonicMs())
  })
  server.on('message', (bytes, { address, port }) => {
    clients.add(address)
    datagrams.push(Buffer.from(bytes.subarray(0, 32)))
    theirs.wireGuard.receive(Buffer.from(bytes), 0, bytes.length, { host: address, port }, monotonicMs())
  })
  for (let i = 0; i < 20; i++) {
    mine.say(2, 300 + 40 * i, monotonicMs())
    await waitFor(async () => theirs.received[i], 'a packet at the server', 5_000)
    theirs.say(1, 300 + 40 * i, monotonicMs())
    await waitFor(async () => mine.received[i], 'a packet at the client', 5_000)
  }
  assert.deepEqual([...clients], [PEER], 'the server sees the peer')
  const status = await callAction(socketPath(peer.stateDir), 'status', {})
  assert.deepEqual([status.peer?.clients, status.peer?.flows], [1, 1])
  assert.ok((status.peer?.bytesOut ?? 0) > 12_000 && (status.peer?.bytesIn ?? 0) > 12_000)

  const keys = [mine, theirs].flatMap(one => [one.privateKey, one.wireGuard.publicKey])
  const secrets = [MARKER, ...keys.map(key => Buffer.from(key))]
  const known = [Buffer.from(CLIENT), ...datagrams.slice(-12)]
  const found = searchMemory(peer.process.pid ?? 0, [...secrets, ...known])
  if (skipUnless(t, found !== undefined, 'the memory of another process may not be read here')) return
  assert.ok(found?.has(known[0] as Buffer), 'the search works: it finds the client’s address')
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

async function bound(t: TestContext, host: string): Promise<Socket> {
  const socket = createSocket('udp4')
  t.after(() => socket.close())
  await new Promise<void>(resolve => socket.bind(0, host, resolve))
  return socket
}

async function startPeer(t: TestContext, host: string, server: Address) {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-knows-'))
  const stateDir = path.join(directory, 'state')
  const config = path.join(directory, 'hoplite.toml')
  const listen = `[relay]\nlisten = "${host}:0"\ncontrol_listen = "${host}:0"\n`
  writeFileSync(config, `${listen}[peer]\nallow_private = ["${formatAddress(server)}"]\n`)
  const main = fileURLToPath(new URL('../cli/main.ts', import.meta.url))
  const args = ['--no-warnings', main, 'peer', '--config', config, '--state-dir', stateDir]
  const child: ChildProcess = spawn(process.execPath, args, { stdio: 'ignore' })
  t.after(async () => {
    const ended = new Promise(resolve => child.once('exit', resolve))
    child.kill('SIGTERM')
    await ended
    rmSync(directory, { recursive: true })
  })
  const ask = () => callAction(socketPath(stateDir), 'status', {}).catch(() => undefined)
  const status = await waitFor(ask, 'the peer')
  const address = parseAddress(status.listening['udp']?.[0] ?? '') ?? assert.fail('the peer does not listen')
  const keys = readKeys(stateDir) ?? assert.fail('the peer has no keys')
  return { process: child, stateDir, hop: { id: 'peer', operator: 'peer', address, key: keys.hop.publicKey } }
}

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
