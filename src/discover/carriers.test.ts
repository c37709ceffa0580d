// One suite that every carrier must pass, and what is special about each.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { WebSocket as NodeWebSocket } from 'ws'
import { seededRandom, systemRandom } from '#crypto/random.ts'
import { xwingFromSeed } from '#crypto/xwing.ts'
import { bucketOf, sealLetter } from '#meet/letter.ts'
import { beginWork, searchWork, workOf } from '#meet/work.ts'
import { type Bucket, LETTER_BYTES } from '#wire/letter.ts'
import { decodeRendezvous, encodeRendezvous } from '#wire/rendezvous.ts'
import type { Carrier } from './carrier.ts'
import { Directory } from './directory.ts'
import { FolderCarrier } from './folder-carrier.ts'
import { LineCarrier, letterToLine, lineToLetter } from './line-carrier.ts'
import { mailRecords } from './mailbox-carrier.ts'
import { type DiscoveryNode, startDiscovery } from './node.ts'
import { RendezvousCarrier } from './rendezvous-carrier.ts'
import { type RendezvousServer, serveRendezvous } from './rendezvous-server.ts'

const WORK = { bits: 1, workBits: 4 }
const random = seededRandom('carriers')
const started: { close(): Promise<void> }[] = []
const folders: string[] = []
after(async () => {
  await Promise.allSettled(started.toReversed().map(one => one.close()))
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

function letterIn(number: number, { workBits = WORK.workBits, lifetimeMs = 300_000 } = {}): Uint8Array {
  for (;;) {
    const to = xwingFromSeed(random(32)).publicKey
    if (bucketOf(to, WORK.bits).number !== number) continue
    const letter = sealLetter({ to, content: random(9) }, WORK.bits, Date.now() + lifetimeMs)
    assert.ok(letter)
    assert.ok(searchWork(beginWork(letter, workBits), 1_000_000))
    return letter
  }
}

async function node(role: 'server' | 'client', bootstrap: readonly string[]): Promise<DiscoveryNode> {
  const made = await startDiscovery({
    role,
    seed: systemRandom(32),
    listen: role === 'server' ? [{ host: '127.0.0.1', port: 0 }] : [],
    bootstrap,
    directory: new Directory(),
    allowPrivateAddresses: true,
    nowMs: Date.now,
    random: systemRandom,
    letters: WORK,
  })
  started.push(made)
  await made.join()
  return made
}

function folder(): string {
  const made = mkdtempSync(path.join(tmpdir(), 'hoplite-letters-'))
  folders.push(made)
  return made
}

async function rendezvous(): Promise<RendezvousServer> {
  const server = await serveRendezvous({ host: '127.0.0.1', port: 0, workBits: WORK.workBits, nowMs: Date.now })
  started.push(server)
  return server
}

function keep<T extends Carrier>(carrier: T): T {
  started.push(carrier)
  return carrier
}

async function until(holds: () => boolean, what: string): Promise<void> {
  for (const end = performance.now() + 60_000; !holds(); ) {
    assert.ok(performance.now() < end, what)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

/** Two ends of a carrier. */
const KINDS: Record<string, () => Promise<[Carrier, Carrier]>> = {
  gossip: async () => {
    const server = await node('server', [])
    const ends = await Promise.all([node('client', server.addresses), node('client', server.addresses)])
    return ends.map(end => end.carriers[0]) as [Carrier, Carrier]
  },
  rendezvous: async () => {
    const { port } = await rendezvous()
    return [
      keep(new RendezvousCarrier(`ws://127.0.0.1:${port}`)),
      keep(new RendezvousCarrier(`ws://127.0.0.1:${port}`)),
    ]
  },
  folder: async () => {
    const shared = folder()
    return [keep(new FolderCarrier(shared, Date.now)), keep(new FolderCarrier(shared, Date.now))]
  },
}

for (const [kind, make] of Object.entries(KINDS)) {
  test(`${kind}: a letter comes to who listens in its bucket, and to nobody else`, async () => {
    const [poster, listener] = await make()
    await until(() => poster.isReady && listener.isReady, 'the carriers are ready')
    const got: Record<number, string[]> = { 0: [], 1: [] }
    const bucket = (number: number): Bucket => ({ bits: WORK.bits, number })
    const hex = (letter: Uint8Array) => Buffer.from(letter).toString('hex')
    listener.subscribe(bucket(0), (letter, source) => {
      assert.ok(source.length > 0)
      got[0]?.push(hex(letter))
    })
    let last = ''
    // Subscriptions take a moment to be known: post until one arrives.
    for (let tries = 0; got[0]?.length === 0; tries++) {
      assert.ok(tries < 600, 'nothing arrives')
      const letter = letterIn(0)
      last = hex(letter)
      await poster.post(bucket(0), letter)
      await poster.post(bucket(1), letterIn(1))
      await new Promise(resolve => setTimeout(resolve, 100))
    }
    await until(() => got[0]?.includes(last) === true, 'the last letter arrives')
    assert.equal(new Set(got[0]).size, got[0]?.length, 'none comes twice')
    for (const text of got[0] ?? []) assert.equal(text.length, 2 * LETTER_BYTES)
    assert.ok(
      got[0]?.every(text => text.slice(2, 8) === '010000'),
      'all are of the bucket',
    )
  })

  test(`${kind}: after the end of a subscription nothing comes, and closing twice is no harm`, async () => {
    const [poster, listener] = await make()
    await until(() => poster.isReady && listener.isReady, 'the carriers are ready')
    let count = 0
    const end = listener.subscribe({ bits: WORK.bits, number: 0 }, () => count++)
    end()
    end()
    await poster.post({ bits: WORK.bits, number: 0 }, letterIn(0))
    await new Promise(resolve => setTimeout(resolve, 50))
    assert.equal(count, 0)
    await listener.close()
    await listener.close()
  })
}

test('gossip: letters without work, and no letters, are not passed on', async () => {
  const server = await node('server', [])
  const [poster, listener] = await Promise.all([node('client', server.addresses), node('client', server.addresses)])
  const [from, to] = [poster?.carriers[0], listener?.carriers[0]]
  assert.ok(from && to)
  const bucket = { bits: WORK.bits, number: 0 }
  const got: Uint8Array[] = []
  to.subscribe(bucket, letter => got.push(letter))
  while (got.length === 0) {
    await from.post(bucket, letterIn(0))
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  const before = got.length
  let idle = letterIn(0, { workBits: 0 })
  while (workOf(idle) >= WORK.workBits) idle = letterIn(0, { workBits: 0 })
  await from.post(bucket, idle)
  await from.post(bucket, random(LETTER_BYTES))
  await from.post(bucket, letterIn(0, { lifetimeMs: 3 * 3_600_000 }))
  await new Promise(resolve => setTimeout(resolve, 300))
  assert.equal(got.length, before)
})

test('mailbox: a letter waits for who was not there', async () => {
  const bootstrap = await node('server', [])
  const servers = await Promise.all([1, 2, 3].map(() => node('server', bootstrap.addresses)))
  const [sender, reader] = await Promise.all([
    node('client', [...bootstrap.addresses, ...(servers[0]?.addresses ?? [])]),
    node('client', [...bootstrap.addresses, ...(servers[1]?.addresses ?? [])]),
  ])
  const bucket = { bits: WORK.bits, number: 1 }
  const letter = letterIn(1, { lifetimeMs: 20 * 3_600_000 })
  const [from, to] = [sender?.carriers[1], reader?.carriers[1]]
  assert.ok(from && to)
  for (let tries = 0; ; tries++) {
    try {
      await from.post(bucket, letter)
      break
    } catch (error) {
      // Nodes take a moment to know each other's protocols.
      if (tries > 300) throw error
      await new Promise(resolve => setTimeout(resolve, 200))
    }
  }
  const got: Uint8Array[] = []
  to.subscribe(bucket, mail => got.push(mail))
  await until(() => got.length > 0, 'the letter is found')
  assert.deepEqual(Buffer.from(got[0] ?? []), Buffer.from(letter))
})

test('mailbox: a slot keeps its letter until that expires, or another has more work', async () => {
  let now = Date.now()
  const { validate, select } = mailRecords({ ...WORK, nowMs: () => now, isStore: true })
  const key = (name: string) => Buffer.from(`/hoplite-mail/${name}`)
  const first = letterIn(0, { lifetimeMs: 3_600_000 })
  await validate(key('1-0-3'), first)
  await validate(key('1-0-3'), first)
  let weaker = letterIn(0, { lifetimeMs: 3_600_000 })
  while (workOf(weaker) > workOf(first)) weaker = letterIn(0, { lifetimeMs: 3_600_000 })
  await assert.rejects(validate(key('1-0-3'), weaker), /taken/)
  const stronger = letterIn(0, { workBits: workOf(first) + 1, lifetimeMs: 7_200_000 })
  await validate(key('1-0-3'), stronger)
  assert.equal(select(key('1-0-3'), [first, stronger]), 1)
  now += 3_700_000
  await assert.rejects(validate(key('1-0-4'), first), /expired/)
  for (const [name, letter] of [
    ['1-1-3', weaker],
    ['1-0-16', letterIn(0)],
    ['1-0-', letterIn(0)],
    ['2-0-1', letterIn(0)],
    ['1-0-1', random(LETTER_BYTES)],
    ['1-0-1', letterIn(0, { lifetimeMs: 48 * 3_600_000 })],
  ] as const)
    await assert.rejects(validate(key(name), letter))
})

test('rendezvous: a letter is there for who comes later, and garbage ends a connection', async () => {
  const server = await rendezvous()
  const url = `ws://127.0.0.1:${server.port}`
  const poster = keep(new RendezvousCarrier(url))
  await until(() => poster.isReady, 'connected')
  const letter = letterIn(0)
  await poster.post({ bits: WORK.bits, number: 0 }, letter)
  await until(() => server.size.letters === 1, 'the server has it')
  const late = keep(new RendezvousCarrier(url))
  const got: Uint8Array[] = []
  late.subscribe({ bits: WORK.bits, number: 0 }, mail => got.push(Uint8Array.from(mail)))
  await until(() => got.length === 1, 'it was kept')
  assert.deepEqual(got[0], Uint8Array.from(letter))
  const rude = new WebSocket(url)
  await new Promise(resolve => (rude.onopen = resolve))
  const ended = new Promise<number>(resolve => (rude.onclose = ({ code }) => resolve(code)))
  for (let i = 0; i < 12; i++) rude.send(new Uint8Array(random(20)))
  assert.equal(await ended, 1008)
  const huge = new WebSocket(url)
  await new Promise(resolve => (huge.onopen = resolve))
  const cut = new Promise<number>(resolve => (huge.onclose = ({ code }) => resolve(code)))
  huge.send(new Uint8Array(100_000))
  assert.equal(await cut, 1009)
  assert.equal(server.size.letters, 1)
})

test('rendezvous: who comes later gets every letter that is there, the newest first, however slowly', async () => {
  const server = await rendezvous()
  const url = `ws://127.0.0.1:${server.port}`
  const { publicKey: to } = [1, 2, 3, 4, 5]
    .map(n => xwingFromSeed(new Uint8Array(32).fill(n)))
    .find(key => bucketOf(key.publicKey, WORK.bits).number === 0) as { publicKey: Uint8Array }
  const make = () => {
    const letter = sealLetter({ to, content: random(9) }, WORK.bits, Date.now() + 300_000) as Uint8Array
    assert.ok(searchWork(beginWork(letter, WORK.workBits), 1_000_000))
    return letter
  }
  // From as many networks as it takes: each may bring 60 at once.
  const [networks, each] = [4, 55]
  let newest = new Uint8Array() as Uint8Array
  for (let n = 0; n < networks; n++) {
    const guest = new NodeWebSocket(url, { localAddress: `127.0.1.${n + 1}` })
    await once(guest, 'open')
    for (let i = 0; i < each; i++) guest.send(encodeRendezvous({ kind: 'letter', letter: (newest = make()) }))
    await until(() => server.size.letters === (n + 1) * each, 'they are kept')
    guest.terminate()
  }
  const late = new NodeWebSocket(url)
  await once(late, 'open')
  const got: string[] = []
  late.on('message', data => got.push((data as Buffer).subarray(-LETTER_BYTES).toString('base64')))
  late.send(encodeRendezvous({ kind: 'listen', bucket: { bits: WORK.bits, number: 0 } }))
  // Whose line is slow reads slowly.
  late.pause()
  await new Promise(resolve => setTimeout(resolve, 200))
  late.resume()
  await until(() => got.length >= networks * each || late.readyState !== NodeWebSocket.OPEN, 'all of them')
  assert.equal(new Set(got).size, networks * each)
  assert.ok(got[0] === Buffer.from(newest).toString('base64'), 'the newest first')
  late.terminate()
})

test('rendezvous: one network has 16 connections, and a client finds back to a server that was away', async () => {
  const server = await rendezvous()
  const { port } = server
  const guests = Array.from({ length: 20 }, () => keep(new RendezvousCarrier(`ws://127.0.0.1:${port}`)))
  await until(() => guests.filter(guest => guest.isReady).length >= 16, 'some are in')
  await new Promise(resolve => setTimeout(resolve, 100))
  assert.equal(server.size.connections, 16)
  await Promise.all(guests.slice(1).map(guest => guest.close()))
  const [guest] = guests
  assert.ok(guest)
  await server.close()
  await until(() => !guest.isReady, 'it is gone')
  await assert.rejects(guest.post({ bits: 1, number: 0 }, letterIn(0)), /out of reach/)
  started.push(await serveRendezvous({ host: '127.0.0.1', port, workBits: WORK.workBits, nowMs: Date.now }))
  await until(() => guest.isReady, 'it is back')
})

test('rendezvous: every message is read back, and nothing else is one', () => {
  const letter = letterIn(0)
  for (const message of [
    { kind: 'letter', letter },
    { kind: 'listen', bucket: { bits: 4, number: 15 } },
    { kind: 'ignore', bucket: { bits: 0, number: 0 } },
  ] as const) {
    const bytes = encodeRendezvous(message)
    assert.deepEqual(decodeRendezvous(bytes), message)
    for (let length = 0; length < bytes.length; length++)
      assert.equal(decodeRendezvous(bytes.subarray(0, length)), undefined)
    assert.equal(decodeRendezvous(Buffer.concat([bytes, Uint8Array.of(0)])), undefined)
  }
  assert.equal(decodeRendezvous(Uint8Array.of(1, 4, 16, 0)), undefined)
  assert.equal(decodeRendezvous(Uint8Array.of(1, 17, 0, 0)), undefined)
})

test('folder: files that are cut off, expired or strange are left alone or removed, and disturb nobody', async () => {
  const shared = folder()
  const [poster, listener] = [keep(new FolderCarrier(shared, Date.now)), keep(new FolderCarrier(shared, Date.now))]
  const name = (digit: string) => path.join(shared, `1-0-${digit.repeat(32)}.letter`)
  writeFileSync(name('a'), letterIn(0).subarray(0, 100))
  writeFileSync(name('b'), letterIn(0, { lifetimeMs: -120_000 }))
  writeFileSync(path.join(shared, 'readme.txt'), 'hello')
  await poster.post({ bits: 1, number: 0 }, letterIn(0))
  const got: Uint8Array[] = []
  listener.subscribe({ bits: 1, number: 0 }, letter => got.push(letter))
  await until(() => got.length > 0 && readdirSync(shared).length === 3, 'one letter, and the expired one is gone')
  assert.equal(got.length, 1)
})

test('letters as lines: what is posted waits to be carried, and a line that was brought is heard in its bucket alone', async () => {
  const [poster, listener] = [new LineCarrier(), new LineCarrier()]
  const got: Uint8Array[] = []
  const end = listener.subscribe({ bits: 1, number: 0 }, letter => got.push(letter))
  for (const number of [0, 1]) await poster.post({ bits: 1, number }, letterIn(number))
  const lines = poster.take(8)
  assert.deepEqual([lines.length, poster.take(8).length], [2, 0])
  assert.deepEqual(
    [...lines, 'hello'].map(line => listener.give(line)),
    [true, true, false],
  )
  assert.equal(got.length, 1)
  end()
  listener.give(lines[0] ?? '')
  assert.equal(got.length, 1)
  for (let i = 0; i < 40; i++) await poster.post({ bits: 1, number: 0 }, letterIn(0))
  assert.equal(poster.take(100).length, 32)
})

test('a letter as a line of text survives line breaks, and one that is cut off is known as such', () => {
  const letter = letterIn(0)
  const line = letterToLine(letter)
  assert.deepEqual(lineToLetter(`  ${line.replace(/.{76}/g, '$&\n')}\n`), letter)
  for (const cut of ['', 'hello', line.slice(0, -4), `${line}AAAA`, 'x'.repeat(20_000)])
    assert.equal(lineToLetter(cut), undefined)
})
