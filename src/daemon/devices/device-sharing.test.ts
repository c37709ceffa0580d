import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { HopliteError } from '#api/errors.ts'
import { deviceAddresses } from '#meet/device-address.ts'
import type { DeviceRoute, DeviceSharing as KernelSharing } from '#platform/linux/network/device-network.ts'
import { encodeSharing, type Shared } from '#wire/device-sharing.ts'
import { formatPrefix, type IpPrefix, parsePrefix } from '#wire/ip-prefix.ts'
import { parseConfig } from '../config.ts'
import type { Kernel } from './device-kernel.ts'
import { DeviceSharing, type DeviceSharingOptions } from './device-sharing.ts'
import type { Phone } from './phones.ts'

const NOW = 1_800_000_000_000
const silent = () => undefined
const LOG = { error: silent, warn: silent, info: silent, debug: silent }
const IDS = ['a', 'b', 'c'].map(letter => letter.repeat(32)) as [string, string, string]
const [TOWER, LAPTOP, MALLORY] = IDS
const addresses = deviceAddresses(IDS)
const NAMES: Readonly<Record<string, string>> = { [TOWER]: 'tower', [LAPTOP]: 'laptop', [MALLORY]: 'mallory' }

interface Side {
  readonly sharing: DeviceSharing
  readonly kernel: { sharing: KernelSharing | undefined; routes: readonly DeviceRoute[]; attached: IpPrefix[] }
  /** What the kernel was told and what the tunnels were let do, in order. */
  readonly order: string[]
  readonly refresh: () => void
  /** What it says to a device. */
  readonly said: Map<string, Uint8Array>
  readonly settle: () => Promise<void>
}

/** A device with two others. */
function side(t: TestContext, self: string, toml = '', more: Partial<DeviceSharingOptions> = {}): Side {
  const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-sharing-'))
  t.after(() => rmSync(stateDir, { recursive: true }))
  return open(stateDir, self, toml, more)
}

function open(
  stateDir: string,
  self: string,
  toml: string,
  { phones = [], ...more }: Partial<DeviceSharingOptions> & { readonly phones?: readonly Phone[] } = {},
): Side {
  const kernel: Side['kernel'] = { sharing: undefined, routes: [], attached: [] }
  const order: string[] = []
  const said = new Map<string, Uint8Array>()
  const others = IDS.filter(id => id !== self).map(id => {
    return { id, name: NAMES[id] ?? '', addresses: addresses.get(id) as { ipv6: string; ipv4: string } }
  })
  const fake: Kernel = {
    share: async wanted => {
      order.push(`kernel ${wanted.grants.length}`)
      kernel.sharing = wanted.grants.length === 0 ? undefined : wanted
      return wanted.grants.some(({ internet }) => internet) ? [4] : []
    },
    route: async (_tun, _before, after) => {
      kernel.routes = after
    },
    attached: () => kernel.attached,
  }
  const refresh = () => {
    sharing.update(
      { name: NAMES[self] ?? '', addresses: addresses.get(self) as { ipv6: string; ipv4: string } },
      others,
      phones,
      NOW,
    )
    for (const [id, bytes] of sharing.take()) said.set(id, bytes)
  }
  const sharing = new DeviceSharing({
    ...{ config: parseConfig(`[meet]\n${toml}`, 'test'), stateDir, log: LOG, isShut: false, kernel: fake },
    needed: () => ['20.0.0.1', '10.9.9.9'],
    onChange: () => {
      order.push(`tunnels ${others.map(({ id }) => sharing.accessOf(id).reaches.length).join(' ')}`)
      refresh()
    },
    ...more,
  })
  const settle = async () => {
    for (let i = 0; i < 30; i++) await new Promise(resolve => setImmediate(resolve))
  }
  refresh()
  sharing.handleInterface('hoplite0')
  return { sharing, kernel, order, refresh, said, settle }
}

const refused = (pattern: RegExp) => (error: unknown) =>
  error instanceof HopliteError && error.code === 'REQUEST_INVALID' && pattern.test(`${error.message} ${error.advice}`)
const texts = (networks: readonly IpPrefix[]) => networks.map(formatPrefix)

function says(networks: readonly string[], version = NOW, more: Partial<Shared> = {}): Uint8Array {
  const prefixes = networks.map(text => parsePrefix(text) as IpPrefix)
  return encodeSharing({
    ...{ version, heard: 0, asks: false, name: 'tower', networks: prefixes, internet4: false, internet6: false },
    ...more,
  })
}

test('an offer is served, told and let in, in that order; and taken back the other way round', async t => {
  const tower = side(t, TOWER)
  await tower.settle()
  assert.equal(tower.said.size, 0)
  assert.equal(tower.sharing.offer('192.168.1.7/24', [LAPTOP]), '192.168.1.0/24')
  tower.refresh()
  assert.deepEqual(tower.said.size, 0, 'not before it is served')
  await tower.settle()
  assert.deepEqual(tower.kernel.sharing?.grants, [
    {
      addresses: [addresses.get(LAPTOP)?.ipv6, addresses.get(LAPTOP)?.ipv4],
      networks: ['192.168.1.0/24'],
      onward: [],
      internet: false,
    },
  ])
  assert.deepEqual(texts(tower.sharing.accessOf(LAPTOP).reaches), ['192.168.1.0/24'])
  assert.deepEqual(tower.sharing.accessOf(MALLORY).reaches, [])
  assert.deepEqual([...tower.said.keys()], [LAPTOP], 'who may not use it is not told')
  const begun = tower.order.indexOf('kernel 1')
  assert.equal(tower.order.findIndex(entry => entry.startsWith('tunnels 1')) > begun, true)
  tower.order.splice(0)
  tower.sharing.withdraw('192.168.1.0/24')
  tower.refresh()
  await tower.settle()
  assert.equal(tower.kernel.sharing, undefined)
  assert.ok(tower.order.indexOf('tunnels 0 0') < tower.order.indexOf('kernel 0'), tower.order.join())
})

test('settings offer what they say to whom they say, a part of it too; nobody gets what no rule speaks of', async t => {
  const toml = `offer = ["10.1.0.0/16", "192.168.5.0/24"]\nexit = true\nallow = [
    { device = "laptop", network = "10.1.2.0/24" }, { device = "*", network = "internet" },
    { device = "laptop", network = "172.16.0.0/16" } ]`
  const tower = side(t, TOWER, toml)
  await tower.settle()
  const grants = tower.kernel.sharing?.grants ?? []
  assert.deepEqual(
    grants.map(({ networks, internet }) => [networks, internet]),
    [
      [['10.1.2.0/24'], true],
      [[], true],
    ],
  )
  assert.deepEqual(
    tower.sharing.offers.map(({ network, to }) => [network, to]),
    [
      ['10.1.0.0/16', ['laptop']],
      ['192.168.5.0/24', []],
      ['internet', ['laptop', 'mallory']],
    ],
  )
  assert.equal(tower.sharing.answersFor(addresses.get(LAPTOP)?.ipv4 ?? ''), true)
  assert.equal(tower.sharing.answersFor('192.0.2.1'), false)
  assert.throws(() => tower.sharing.withdraw('10.1.0.0/16'), refused(/configuration/))
  for (const text of ['0.0.0.0/0', '8.8.8.8/32', 'fd68:6f70:6c69::/48', '100.64.0.0/10', 'garbage'])
    assert.throws(() => tower.sharing.offer(text, ['*']), refused(/cannot be offered/), text)
})

test('an offer changes no route until it is accepted, and then only that, while its device is within reach', async t => {
  const laptop = side(t, LAPTOP)
  laptop.sharing.handle(TOWER, says(['192.168.1.0/24', '10.1.0.0/16']), NOW)
  laptop.sharing.handlePath(TOWER, true)
  laptop.refresh()
  await laptop.settle()
  assert.deepEqual([laptop.kernel.routes, laptop.sharing.accessOf(TOWER).networks], [[], []])
  assert.throws(() => laptop.sharing.accept({ id: TOWER, name: 'tower' }, '192.168.0.0/16'), refused(/no such network/))
  assert.throws(() => laptop.sharing.accept({ id: TOWER, name: 'tower' }, 'internet'), refused(/--via tower/))
  laptop.sharing.accept({ id: TOWER, name: 'tower' }, '192.168.1.0/24')
  laptop.refresh()
  await laptop.settle()
  assert.deepEqual(laptop.kernel.routes, [{ network: '192.168.1.0/24', isUp: true }])
  assert.deepEqual(texts(laptop.sharing.accessOf(TOWER).networks), ['192.168.1.0/24'])
  laptop.sharing.handlePath(TOWER, false)
  await laptop.settle()
  assert.deepEqual(laptop.kernel.routes, [{ network: '192.168.1.0/24', isUp: false }])
  laptop.sharing.handle(TOWER, says([], NOW + 1), NOW)
  laptop.refresh()
  await laptop.settle()
  assert.deepEqual(laptop.kernel.routes, [])
  laptop.sharing.decline({ id: TOWER, name: 'tower' }, '192.168.1.0/24')
  assert.throws(() => laptop.sharing.decline({ id: TOWER, name: 'tower' }, '192.168.1.0/24'), refused(/not accepted/))
})

test('hostile offers: everything, our own network, what we need outside, what is of devices, too many', async t => {
  const laptop = side(t, LAPTOP)
  laptop.kernel.attached = [parsePrefix('192.168.7.2/24') as IpPrefix]
  const hostile = ['0.0.0.0/0', '::/0', '192.168.7.0/24', '192.168.0.0/16', '10.9.0.0/16', '20.0.0.0/24']
  const more = ['fd68:6f70:6c69::/48', '100.64.0.0/10', '127.0.0.0/8', '8.0.0.0/8']
  laptop.sharing.handle(MALLORY, says([...hostile, ...more]), NOW)
  laptop.sharing.handlePath(MALLORY, true)
  laptop.refresh()
  for (const network of [...hostile, ...more]) {
    assert.throws(() => laptop.sharing.accept({ id: MALLORY, name: 'mallory' }, network), refused(/accept/), network)
  }
  const thousands = Buffer.from(says([]))
  const count = thousands.length - 1
  laptop.sharing.handle(MALLORY, Buffer.concat([thousands.subarray(0, count), Buffer.alloc(40_000, 24)]), NOW + 1)
  laptop.refresh()
  await laptop.settle()
  assert.deepEqual(laptop.kernel.routes, [])
  assert.equal(laptop.sharing.offered(MALLORY).length, 10, 'what made no sense changed nothing')
  assert.ok(laptop.sharing.offered(MALLORY).every(({ isAccepted, problem }) => !isAccepted && problem !== undefined))
})

test('what one device leads to no other takes over, however it is offered; and our own network comes first', async t => {
  const toml = 'accept = [{ device = "mallory", network = "192.168.1.128/25" }]'
  const laptop = side(t, LAPTOP, toml)
  laptop.sharing.handle(TOWER, says(['192.168.1.0/24']), NOW)
  laptop.sharing.accept({ id: TOWER, name: 'tower' }, '192.168.1.0/24')
  laptop.sharing.handle(MALLORY, says(['192.168.1.128/25', '192.168.0.0/16', '192.168.1.0/24']), NOW)
  for (const id of [TOWER, MALLORY]) laptop.sharing.handlePath(id, true)
  laptop.refresh()
  await laptop.settle()
  assert.deepEqual(laptop.kernel.routes, [{ network: '192.168.1.0/24', isUp: true }])
  assert.deepEqual(laptop.sharing.accessOf(MALLORY).networks, [])
  const mallory = { id: MALLORY, name: 'mallory' }
  for (const network of ['192.168.0.0/16', '192.168.1.0/24'])
    assert.throws(() => laptop.sharing.accept(mallory, network), refused(/overlaps 192.168.1.0\/24/), network)
  laptop.kernel.attached = [parsePrefix('192.168.1.50/24') as IpPrefix]
  laptop.sharing.handleNetworkChange()
  await laptop.settle()
  assert.deepEqual(laptop.kernel.routes, [], 'at home')
  assert.match(laptop.sharing.offered(TOWER)[0]?.problem ?? '', /in such a network itself/)
})

test('what was offered and accepted outlives the process, and is not taken back while it starts', async t => {
  const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-sharing-'))
  t.after(() => rmSync(stateDir, { recursive: true }))
  const before = open(stateDir, TOWER, '')
  before.sharing.offer('192.168.1.0/24', ['*'])
  before.sharing.handle(LAPTOP, says(['10.7.0.0/16'], NOW, { name: 'laptop' }), NOW)
  before.sharing.accept({ id: LAPTOP, name: 'laptop' }, '10.7.0.0/16')
  before.refresh()
  await before.settle()
  const told = before.said.get(LAPTOP)
  await before.sharing.close()
  if (process.platform !== 'win32') assert.equal(statSync(path.join(stateDir, 'sharing.state')).mode & 0o777, 0o600)
  assert.equal(before.kernel.sharing, undefined)
  const again = open(stateDir, TOWER, '')
  await again.settle()
  assert.deepEqual(again.sharing.offers, [{ network: '192.168.1.0/24', to: ['*'], isSetting: false }])
  assert.deepEqual(texts(again.sharing.accessOf(LAPTOP).networks), ['10.7.0.0/16'])
  assert.deepEqual(again.said.get(LAPTOP)?.subarray(1, 9), told?.subarray(1, 9), 'the same version, said again')
  writeFileSync(path.join(stateDir, 'sharing.state'), '{"offers":')
  assert.throws(
    () => open(stateDir, TOWER, ''),
    (error: unknown) => error instanceof HopliteError && error.code === 'STATE_UNREADABLE',
  )
})

test('everything goes through a device only while it offers that and is within reach, by the families it has', async t => {
  const laptop = side(t, LAPTOP, '', { isShut: true, via: { id: TOWER, hasIpv6: false } })
  laptop.sharing.handle(TOWER, says([], NOW, { internet4: true, internet6: true }), NOW)
  laptop.sharing.handle(MALLORY, says([], NOW, { internet4: true, internet6: true }), NOW)
  laptop.refresh()
  await laptop.settle()
  assert.deepEqual([laptop.sharing.isVia, laptop.sharing.viaProblem], [false, 'tower is out of reach'])
  laptop.sharing.handlePath(TOWER, true)
  await laptop.settle()
  assert.equal(laptop.sharing.isVia, true)
  assert.deepEqual(texts(laptop.sharing.accessOf(TOWER).networks), ['0.0.0.0/0'])
  assert.deepEqual(laptop.sharing.accessOf(MALLORY).networks, [])
  assert.ok(laptop.kernel.routes.some(({ network }) => network === `${addresses.get(TOWER)?.ipv4}/32`))
  laptop.sharing.handle(TOWER, says([], NOW + 1), NOW)
  assert.deepEqual(laptop.sharing.accessOf(TOWER).networks, [])
  assert.match(laptop.sharing.viaProblem ?? '', /does not offer the internet any more/)
})

test('a phone is carried on to what lies behind another device, where that is offered to it; no device is', async t => {
  const id = 'd'.repeat(32)
  const own = { ipv6: 'fd68:6f70:6c69::d', ipv4: '100.64.9.9' }
  const phone = { id, name: 'pocket', addresses: own } as Phone
  const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-sharing-'))
  t.after(() => rmSync(stateDir, { recursive: true }))
  const tower = open(stateDir, TOWER, '', { phones: [phone] })
  tower.sharing.handle(LAPTOP, says(['10.7.0.0/16']), NOW)
  tower.sharing.accept({ id: LAPTOP, name: 'laptop' }, '10.7.0.0/16')
  tower.sharing.handlePath(LAPTOP, true)
  for (const to of [['*'], [LAPTOP], [MALLORY, id]])
    assert.throws(() => tower.sharing.offer('10.7.1.0/24', to), refused(/lies behind another device/))
  assert.throws(() => tower.sharing.offer('devices', ['*']), refused(/--to PHONE/))
  tower.sharing.offer('192.168.1.0/24', ['*'])
  tower.sharing.offerToPhone(['10.7.1.0/24', 'devices', 'internet', '192.168.1.0/24'], phone)
  tower.refresh()
  await tower.settle()
  const grant = tower.kernel.sharing?.grants.find(({ addresses: [first] }) => first === own.ipv6)
  const others = [LAPTOP, MALLORY].flatMap(each => {
    const { ipv6, ipv4 } = addresses.get(each) as { ipv6: string; ipv4: string }
    return [`${ipv6}/128`, `${ipv4}/32`]
  })
  assert.deepEqual(grant, {
    addresses: [own.ipv6, own.ipv4],
    networks: ['192.168.1.0/24'],
    onward: ['10.7.1.0/24', ...others],
    internet: true,
  })
  for (const { onward } of tower.kernel.sharing?.grants.filter(each => each !== grant) ?? [])
    assert.deepEqual(onward, [])
  const reaches = tower.sharing.reachesOf(phone, false)
  assert.deepEqual(reaches, ['192.168.1.0/24', '10.7.1.0/24', 'devices'])
  const ipv4 = others.filter(text => !text.includes(':'))
  assert.deepEqual(texts(tower.sharing.networksOf(reaches)), [
    'fd68:6f70:6c69::/48',
    '192.168.1.0/24',
    '10.7.1.0/24',
    ...ipv4,
  ])
  assert.deepEqual(texts(tower.sharing.networksOf([...reaches, 'internet'])), ['0.0.0.0/0', '::/0'])
  assert.ok(tower.said.get(LAPTOP)?.length === tower.said.get(MALLORY)?.length, 'nobody is told of it')

  tower.sharing.handle(LAPTOP, says([], NOW + 1), NOW)
  tower.refresh()
  await tower.settle()
  const [later] = tower.kernel.sharing?.grants.filter(({ addresses: [first] }) => first === own.ipv6) ?? []
  assert.deepEqual(later?.networks, ['192.168.1.0/24'], 'what laptop offers no more is not looked for elsewhere')
  tower.sharing.forgetPhone(id)
  assert.deepEqual(
    tower.sharing.offers.map(({ network }) => network),
    ['192.168.1.0/24'],
  )
})
