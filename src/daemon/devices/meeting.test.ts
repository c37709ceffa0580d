import assert from 'node:assert/strict'
import { Resolver } from 'node:dns/promises'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { HopliteError } from '#api/errors.ts'
import type { Output } from '#api/table.ts'
import { seededRandom } from '#crypto/random.ts'
import { xwingFromSeed } from '#crypto/xwing.ts'
import { serveRendezvous } from '#discover/rendezvous-server.ts'
import { sealLetter } from '#meet/letter.ts'
import { parseConfig } from '../config.ts'
import { Meeting } from './meeting.ts'

const silent = () => undefined
const LOG = { error: silent, warn: silent, info: silent, debug: silent }

interface Person {
  readonly stateDir: string
  meeting: Meeting
  readonly act: Required<ReturnType<Meeting['handlers']>>
  close(): Promise<void>
}

async function rendezvous(t: TestContext): Promise<string> {
  const server = await serveRendezvous({ host: '127.0.0.1', port: 0, workBits: 0, nowMs: Date.now })
  t.after(() => server.close())
  return `ws://127.0.0.1:${server.port}`
}

async function person(t: TestContext, name: string, url: string, known?: string, more = ''): Promise<Person> {
  const stateDir = known ?? mkdtempSync(path.join(tmpdir(), 'hoplite-meeting-'))
  const toml = `[meet]\nname = "${name}"\nrendezvous = ["${url}"]\ninterval_ms = 20\nwork_bits = 0\ntunnel = false\ndns = "127.0.0.1:0"\n${more}`
  const meeting = new Meeting({ config: parseConfig(toml, 'test'), stateDir, log: LOG })
  await meeting.start()
  t.after(async () => {
    await meeting.close()
    rmSync(stateDir, { recursive: true, force: true })
  })
  return { stateDir, meeting, act: meeting.handlers() as Person['act'], close: () => meeting.close() }
}

async function until<T>(what: () => T | Promise<T>, isThere: (value: T) => boolean): Promise<T> {
  for (;;) {
    const value = await what()
    if (isThere(value)) return value
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

async function outcome({ act }: Person): Promise<Output<'pair.status'>> {
  return until(
    () => act['pair.status']({}),
    ({ state }) => state === 'paired' || state === 'failed',
  )
}

const names = async ({ act }: Person) => (await act.devices({})).devices.map(({ name }) => name)
const fails = (code: string) => (error: unknown) => error instanceof HopliteError && error.code === code

async function pair(a: Person, b: Person, kind: 'short' | 'long' = 'short'): Promise<void> {
  const { code } = await a.act.pair({ kind })
  await b.act['pair.join']({ code })
  const [seenByA, seenByB] = await Promise.all([outcome(a), outcome(b)])
  assert.equal(seenByA.state, 'paired')
  assert.deepEqual(seenByA.words, seenByB.words)
}

test('two devices pair over a rendezvous server, hear each other, and know each other after a restart', async t => {
  const url = await rendezvous(t)
  const [a, b] = [await person(t, 'tower', url), await person(t, 'laptop', url)]
  await pair(a, b)
  const isHeard = (book: Output<'devices'>) => book.devices[0]?.isConfirmed === true
  await until(async () => a.act.devices({}), isHeard)
  await until(async () => b.act.devices({}), isHeard)
  if (process.platform !== 'win32') assert.equal(statSync(path.join(a.stateDir, 'devices.state')).mode & 0o777, 0o600)
  const before = await a.act.devices({})
  await a.close()
  const again = await person(t, 'tower', url, a.stateDir)
  assert.deepEqual(await again.act.devices({}), before)
  await again.act['device.rotate']({})
  const told = await until(
    async () => b.act.devices({}),
    book => book.devices[0]?.generation === 2,
  )
  assert.equal(told.devices[0]?.name, 'tower')
})

test('a device that is removed is out at once here, and soon there', async t => {
  const url = await rendezvous(t)
  const [a, b] = [await person(t, 'tower', url), await person(t, 'laptop', url)]
  await pair(a, b, 'long')
  await a.act['device.remove']({ device: 'laptop' })
  assert.deepEqual(await names(a), [])
  await until(
    () => names(b),
    list => list.length === 0,
  )
})

test('a wrong code costs its one guess, on both sides in words; the right one is of no use then', async t => {
  const url = await rendezvous(t)
  const [a, b] = [await person(t, 'tower', url), await person(t, 'laptop', url)]
  const { code } = await a.act.pair({ kind: 'short' })
  const wrong = [...code.split('-').slice(0, 3), code.endsWith('zoo') ? 'zone' : 'zoo'].join('-')
  await b.act['pair.join']({ code: wrong })
  for (const { problem } of [await outcome(a), await outcome(b)]) assert.match(problem ?? '', /code was wrong/)
  await b.act['pair.join']({ code })
  assert.match((await outcome(b)).problem ?? '', /was used/)
  assert.deepEqual([await names(a), await names(b)], [[], []])
})

test('devices pair through a folder full of garbage, and letters for others', async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-folder-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const random = seededRandom('garbage')
  for (let i = 0; i < 300; i++) {
    const stranger = xwingFromSeed(random(32)).publicKey
    const letter = sealLetter({ to: stranger, content: random(100) }, 0, Date.now() + 300_000) as Uint8Array
    const bytes =
      i % 3 === 0 ? random(4_096) : i % 3 === 1 ? letter : letter.map((byte, at) => (at > 16 ? byte ^ 1 : byte))
    writeFileSync(path.join(folder, `0-0-${Buffer.from(random(16)).toString('hex')}.letter`), bytes)
  }
  const more = `folder = "${folder}"\n`
  const url = 'ws://127.0.0.1:9'
  const [a, b] = [await person(t, 'tower', url, undefined, more), await person(t, 'laptop', url, undefined, more)]
  await pair(a, b)
  assert.deepEqual([await names(a), await names(b)], [['laptop'], ['tower']])
  assert.ok((a.meeting.counters['letters.foreign'] ?? 0) + (a.meeting.counters['letters.refused'] ?? 0) >= 200)
})

test('what is no code is refused before anything is sent; one pairing at a time; one may be ended', async t => {
  const a = await person(t, 'tower', await rendezvous(t))
  for (const code of ['', 'one two three', 'hoplite-pair1-AAAA', 'zzzz zzzz zzzz zzzz'])
    await assert.rejects(async () => a.act['pair.join']({ code }), fails('CODE_INVALID'))
  const { code } = await a.act.pair({ kind: 'long' })
  await assert.rejects(async () => a.act.pair({ kind: 'short' }), fails('PAIRING_BUSY'))
  assert.deepEqual(await a.act['pair.end']({}), { ended: true })
  assert.match((await a.act['pair.status']({})).problem ?? '', /taken back/)
  await a.act['pair.join']({ code })
  assert.deepEqual(await a.act['pair.end']({}), { ended: true })
  assert.equal((await a.act['pair.status']({})).state, 'none')
})

test('two devices without any network between them pair by letters that are carried by hand', async t => {
  const [a, b] = ['tower', 'laptop'].map(name => {
    const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-meeting-'))
    const toml = `[meet]\nname = "${name}"\nby_hand = true\ninterval_ms = 20\nwork_bits = 0\ntunnel = false\n`
    const meeting = new Meeting({ config: parseConfig(toml, 'test'), stateDir, log: LOG })
    t.after(async () => {
      await meeting.close()
      rmSync(stateDir, { recursive: true, force: true })
    })
    return { stateDir, meeting, act: meeting.handlers() as Person['act'], close: () => meeting.close() }
  }) as [Person, Person]
  const { code } = await a.act.pair({ kind: 'short' })
  await b.act['pair.join']({ code })
  const carry = async (from: Person, to: Person) => {
    for (const line of (await from.act['letters.take']({})).lines)
      assert.deepEqual(await to.act['letters.give']({ line }), { taken: true })
  }
  await until(
    async () => {
      await carry(a, b)
      await carry(b, a)
      return b.act['pair.status']({})
    },
    ({ state }) => state === 'paired',
  )
  assert.deepEqual(await a.act['letters.give']({ line: 'hoplite-letter1-AAAA' }), { taken: false })
  const without = await person(t, 'other', await rendezvous(t))
  await assert.rejects(async () => without.act['letters.take']({}), fails('NO_CARRIER'))
})

test('a phone has a name and addresses, and is removed as devices are', async t => {
  const a = await person(t, 'tower', await rendezvous(t))
  const endpoint = 'home.example.org:41000'
  const { file } = await a.act['device.addPhone']({ name: 'pocket', endpoint })
  assert.match(file, /Endpoint = home\.example\.org:41000/)
  const book = await a.act.devices({})
  assert.deepEqual(
    book.phones.map(({ name, isUp }) => [name, isUp]),
    [['pocket', false]],
  )
  const again = async () => a.act['device.addPhone']({ name: 'pocket', endpoint })
  await assert.rejects(again, fails('DEVICE_NAME_INVALID'))
  await assert.rejects(
    async () => a.act['device.addPhone']({ name: 'other', endpoint: 'home.example.org' }),
    fails('REQUEST_INVALID'),
  )
  await assert.rejects(async () => a.act['device.addPhone']({ name: 'other' }), fails('REQUEST_INVALID'))
  const renew = { again: true }
  await assert.rejects(async () => a.act['device.addPhone']({ ...renew, name: 'other' }), fails('DEVICE_UNKNOWN'))
  const phone = async () => (await a.act.devices({})).phones[0]
  assert.equal((await phone())?.problem, undefined)
  await a.act['device.offer']({ network: '192.168.7.0/24', to: ['*'] })
  assert.equal((await phone())?.problem, 'its file lacks 192.168.7.0/24')
  const renewed = await a.act['device.addPhone']({ ...renew, name: 'pocket', offer: ['10.8.0.0/16'] })
  assert.match(renewed.file, /AllowedIPs = .*192\.168\.7\.0\/24, 10\.8\.0\.0\/16\n/)
  assert.match(renewed.file, /Endpoint = home\.example\.org:41000/)
  assert.deepEqual([(await phone())?.reaches, (await phone())?.problem], [renewed.reaches, undefined])
  await a.act['device.withdraw']({ network: '192.168.7.0/24' })
  assert.match((await phone())?.problem ?? '', /leads to 192\.168\.7\.0\/24, which it may not reach now/)
  await a.act['device.rotate']({})
  assert.match((await phone())?.problem ?? '', /earlier keys/)
  await a.act['device.remove']({ device: 'pocket' })
  assert.deepEqual((await a.act.devices({})).phones, [])
  assert.deepEqual((await a.act.devices({})).own.offers, [], 'what was offered to it alone is offered no more')
})

test('names are answered locally, before and after a device is renamed; others are refused', async t => {
  const url = await rendezvous(t)
  const [a, b] = [await person(t, 'tower', url), await person(t, 'laptop', url)]
  await pair(a, b)
  const resolver = new Resolver()
  resolver.setServers([a.meeting.dnsAddress ?? ''])
  const { own, devices } = await a.act.devices({})
  assert.deepEqual(await resolver.resolve6('laptop.hop'), [devices[0]?.ipv6])
  assert.deepEqual(await resolver.resolve4('tower.hop'), [own.ipv4])
  await a.act['device.rename']({ device: 'laptop', name: 'book' })
  assert.deepEqual(await resolver.resolve6('book.hop'), [devices[0]?.ipv6])
  await assert.rejects(resolver.resolve6('laptop.hop'), /ENOTFOUND/)
  await assert.rejects(resolver.resolve6('example.org'), /EREFUSED/)
  await assert.rejects(
    async () => a.act['device.rename']({ device: 'book', name: 'tower' }),
    fails('DEVICE_NAME_INVALID'),
  )
  await assert.rejects(async () => a.act['device.remove']({ device: 'nobody' }), fails('DEVICE_UNKNOWN'))
})

test('without a way for letters pairing is refused; a damaged file is not overwritten', async t => {
  const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-meeting-'))
  t.after(() => rmSync(stateDir, { recursive: true }))
  const options = { config: parseConfig('', 'test'), stateDir, log: LOG }
  const meeting = new Meeting(options)
  await meeting.start()
  await assert.rejects(async () => meeting.handlers().pair?.({ kind: 'short' }), fails('NO_CARRIER'))
  await meeting.close()
  const file = path.join(stateDir, 'devices.state')
  writeFileSync(file, 'cut off', { mode: 0o600 })
  assert.throws(() => new Meeting(options), fails('STATE_UNREADABLE'))
  assert.equal(readFileSync(file, 'utf8'), 'cut off')
})
