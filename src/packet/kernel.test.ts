// The kernel is the judge: two hosts whose only way to each other is a pair of TUN devices with offloads, between which
// packets are cut and joined.

import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type Host, missingForNamespaces, Namespaces } from '#lab/netns.ts'
import { skipUnless } from '#lab/skip.ts'

const PAIR = fileURLToPath(new URL('../lab/machine/tun-pair-process.ts', import.meta.url))
const SOCKETS = new URL('../platform/linux/socket-calls.ts', import.meta.url)
const BYTES = 40_000_000

interface Seen {
  readonly reads: number
  readonly longestRead: number
  readonly packets: number
  readonly writes: number
  readonly longestWrite: number
  readonly cutSmaller: number
  readonly tooBig: number
  readonly faults: readonly string[]
  readonly offload: string
}

/** Takes connections on both families; gives each the SHA-256 of what it sent. */
const SERVER = `
  import net from 'node:net'
  import { createHash } from 'node:crypto'
  net.createServer({ allowHalfOpen: true }, socket => {
    const hash = createHash('sha256')
    socket.on('data', bytes => hash.update(bytes)).on('end', () => socket.end(hash.digest('hex')))
  }).listen(7000, '::', () => console.log('listening'))`

/** Sends bytes that repeat in no power of two; prints both digests and the megabits in a second. */
const CLIENT = `
  import net from 'node:net'
  import { createHash } from 'node:crypto'
  import { text } from 'node:stream/consumers'
  const bytes = Buffer.alloc(Number(process.argv[2]))
  for (let i = 0; i < bytes.length; i++) bytes[i] = i % 251 + i / 65_521
  const started = performance.now()
  const socket = net.connect(7000, process.argv[1])
  socket.end(bytes)
  const theirs = await text(socket)
  const mbitPerSecond = Math.round(bytes.length / 125 / (performance.now() - started))
  console.log(JSON.stringify({ ours: createHash('sha256').update(bytes).digest('hex'), theirs, mbitPerSecond }))`

function script(code: string, ...words: string[]): string[] {
  return ['--no-warnings', '--input-type=module-typescript', '--eval', code, ...words]
}

class Pair {
  readonly a: Host
  readonly b: Host
  readonly #process: ChildProcess

  private constructor(a: Host, b: Host, process: ChildProcess) {
    this.a = a
    this.b = b
    this.#process = process
  }

  static async start(lab: Namespaces, mtu: number, deviceMtu: number): Promise<Pair> {
    const [a, b] = [await lab.host('a'), await lab.host('b')]
    const argument = JSON.stringify({ namespace: b.namespace, mtu })
    const child = a.start(process.execPath, ['--no-warnings', PAIR, argument], { stdio: ['pipe', 'pipe', 'inherit'] })
    await Promise.race([
      once(child.stdout ?? assert.fail(), 'readable'),
      once(child, 'exit').then(([code]) => assert.fail(`the pair ended with ${code}`)),
    ])
    const ends = [
      [a, 'hop0', 1],
      [b, 'hop1', 2],
    ] as const
    // Both are up before anything is sent.
    for (const [host, device] of ends) {
      await host.ip('link', 'set', device, 'addrgenmode', 'none', 'mtu', `${deviceMtu}`, 'up')
    }
    for (const [host, device, last] of ends) {
      await host.ip('address', 'add', `10.9.0.${last}/24`, 'dev', device)
      await host.ip('address', 'add', `fd09::${last}/64`, 'dev', device, 'nodad')
    }
    return new Pair(a, b, child)
  }

  /** Ends the process; gives what it has seen. */
  async stop(): Promise<Seen> {
    this.#process.stdin?.end()
    const lines = (await text(this.#process.stdout ?? assert.fail())).trim().split('\n')
    return JSON.parse(lines.at(-1) ?? '')
  }

  /** Sends from a to b over TCP, and asserts that it arrives. */
  async transfer(t: TestContext, address: string, bytes: number): Promise<void> {
    const out = await this.a.run(process.execPath, ...script(CLIENT, address, `${bytes}`))
    const { ours, theirs, mbitPerSecond } = JSON.parse(out)
    assert.equal(theirs, ours)
    t.diagnostic(`${address}: ${mbitPerSecond} Mbit/s`)
  }

  async serve(): Promise<void> {
    const server = this.b.start(process.execPath, script(SERVER), { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(server.stdout ?? assert.fail(), 'data')
  }
}

function lacksTun(t: TestContext): boolean {
  const missing = missingForNamespaces()
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: 'iproute2' })) return true
  return skipUnless(t, existsSync('/dev/net/tun'), 'needs /dev/net/tun')
}

test('TCP of both families passes from TUN to TUN in superpackets and arrives as it was sent', async t => {
  if (lacksTun(t)) return
  await using lab = new Namespaces()
  const pair = await Pair.start(lab, 1_420, 1_420)
  await pair.serve()
  await pair.transfer(t, '10.9.0.2', BYTES)
  await pair.transfer(t, 'fd09::2', BYTES)
  const seen = await pair.stop()
  t.diagnostic(JSON.stringify(seen))
  assert.deepEqual(seen.faults, [])
  assert.ok(seen.longestRead > 10_000, 'the kernel gave superpackets')
  assert.ok(seen.longestWrite > 3_000, 'and was given some')
  assert.ok(seen.writes < seen.packets)
})

test('a way that is narrower than the device says loses nothing: TCP is cut smaller, others are told', async t => {
  if (lacksTun(t)) return
  await using lab = new Namespaces()
  const pair = await Pair.start(lab, 1_280, 1_420)
  await pair.serve()
  await pair.transfer(t, '10.9.0.2', BYTES / 4)
  await pair.transfer(t, 'fd09::2', BYTES / 4)
  for (const address of ['10.9.0.2', 'fd09::2']) {
    // Requests of 1,400 bytes, then replies, are answered with the MTU; the kernels keep that for the way, and cut the next
    // into fragments.
    await pair.a.run('ping', '-c', '4', '-i', '0.2', '-W', '20', '-s', '1372', address)
    assert.match(await pair.a.ip('route', 'get', address), /mtu 1280/)
  }
  const seen = await pair.stop()
  t.diagnostic(JSON.stringify(seen))
  assert.deepEqual(seen.faults, [])
  assert.ok(seen.tooBig > 0)
})

test('UDP superpackets are cut and joined, and every datagram arrives by itself', async t => {
  if (lacksTun(t)) return
  await using lab = new Namespaces()
  const pair = await Pair.start(lab, 1_420, 1_420)
  const receive = `
    import dgram from 'node:dgram'
    const seen = []
    const socket = dgram.createSocket('udp4', bytes => {
      seen.push([bytes.length, bytes[0]])
      if (seen.length === 12) { console.log(JSON.stringify(seen)); socket.close() }
    })
    socket.bind(7000, () => console.log('listening'))`
  const receiver = pair.b.start(process.execPath, script(receive), { stdio: ['ignore', 'pipe', 'inherit'] })
  const output = receiver.stdout ?? assert.fail()
  const lines: string[] = []
  output.setEncoding('utf8').on('data', line => lines.push(line))
  await once(output, 'data')
  const ended = once(receiver, 'exit')
  // One write of 11.5 datagrams: struct sockaddr_in is family, port, address.
  const send = `
    import { Memory, setOption, socketCalls, SOL_UDP, UDP_SEGMENT } from ${JSON.stringify(SOCKETS)}
    const memory = new Memory(16384)
    memory.bytes.set([2, 0, 7000 >>> 8, 7000 & 255, 10, 9, 0, 2])
    const fd = socketCalls().socket(2, 2, 0)
    if (socketCalls().connect(fd, memory.pointer, 16) !== 0) throw new Error('connect')
    if (!setOption(fd, SOL_UDP, UDP_SEGMENT, 1000)) throw new Error('segment')
    for (let i = 0; i < 11500; i++) memory.bytes[i] = i / 1000
    console.log(socketCalls().write(fd, memory.pointer, 11500))`
  assert.equal((await pair.a.run(process.execPath, ...script(send))).trim(), '11500')
  await ended
  const seen = await pair.stop()
  t.diagnostic(JSON.stringify(seen))
  assert.deepEqual(
    JSON.parse(lines.join('').split('\n')[1] ?? ''),
    Array.from({ length: 12 }, (_, i) => [i === 11 ? 500 : 1_000, i]),
  )
  assert.deepEqual(seen.faults, [])
  if (seen.offload === 'tcp and udp') assert.ok(seen.longestRead > 11_500 && seen.longestWrite > 11_500)
})
