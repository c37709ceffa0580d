import assert from 'node:assert/strict'
import test from 'node:test'
import { MAX_ENDPOINTS, parseRequest } from './helper-order.ts'

const relay = { address: '192.0.2.1', protocol: 'udp', port: 51_820 }
const source = { address: '2001:db8::1', protocol: 'tcp', port: 443 }
const open = { verb: 'open', mtu: 1_280, queues: 1, control: [source] }

const grant = {
  addresses: ['fd68:6f70:6c69::7', '100.64.3.4'],
  networks: ['192.168.1.0/24'],
  onward: [],
  internet: true,
}

const entry = {
  verb: 'entry',
  addresses: ['10.2.0.2/32', 'fd00::2/128'],
  dnsServers: ['10.2.0.1', 'fd00::1'],
  dnsSearch: ['corp.example', '~.', '~internal', 'a-b.c_d'],
  routes: ['0.0.0.0/0', '::/0'],
  killSwitch: true,
}

const GOOD = [
  open,
  { ...open, mtu: 65_535, queues: 64, control: Array.from({ length: MAX_ENDPOINTS }, () => source) },
  { verb: 'socket', family: 4 },
  { verb: 'socket', family: 6 },
  { verb: 'relays', relays: [] },
  { verb: 'relays', relays: [relay, { ...relay, address: '2001:db8::2', port: 1 }] },
  { verb: 'control', control: [source] },
  { verb: 'mtu', mtu: 1_500 },
  { verb: 'alive' },
  { verb: 'entryLeft' },
  { verb: 'entryRestore' },
  entry,
  { ...entry, addresses: [], dnsServers: [], dnsSearch: [], routes: [], killSwitch: false },
  { verb: 'reset' },
  { verb: 'restore' },
  { verb: 'hooks', when: 'PostDown' },
  { verb: 'wg' },
  { verb: 'meshGrants', grants: [] },
  {
    verb: 'meshGrants',
    grants: [grant, { ...grant, networks: [], onward: ['10.0.0.0/8', '100.64.0.1/32'], internet: false }],
  },
  { verb: 'meshNetworks', networks: [{ network: '10.0.0.0/8', isUp: true }] },
  { verb: 'linkSocket', family: 6, port: 0 },
  { verb: 'linkSocket', family: 4, port: 65_535 },
]

/** A number that JSON has and that is none of ours. */
const HUGE = 1e308

const BAD: readonly unknown[] = [
  ...[null, true, 0, 'open', [], [open], {}, { verb: null }, { verb: ['open'] }, { verb: 'Open' }, { verb: 'run' }],
  ...['exec', 'nft', 'sysctl', 'constructor', '__proto__', 'toString', ''].map(verb => ({ verb })),
  ...[1_279, 65_536, -1, 1_280.5, HUGE, '1280', null, [1_280], { valueOf: 1_280 }].flatMap(mtu => [
    { ...open, mtu },
    { verb: 'mtu', mtu },
  ]),
  ...[0, 65, -1, 1.5, HUGE, '1', null].map(queues => ({ ...open, queues })),
  ...[null, {}, 'x', 7, Array.from({ length: MAX_ENDPOINTS + 1 }, () => source)].map(control => ({ ...open, control })),
  ...[0, 5, 46, '4', null, 4.5, [6]].map(family => ({ verb: 'socket', family })),
  ...[
    ...[
      { ...grant, tun: 'eth0' },
      { addresses: [], networks: [], internet: true },
      { ...grant, internet: 1 },
      null,
      [grant],
      'eth0',
    ],
    ...[[''], ['10.0.0.0/33'], ['fe80::1%eth0/64'], ['1.1.1.1 }; flush ruleset; #'], [1], '10.0.0.0/8', null].map(
      networks => ({ ...grant, networks }),
    ),
    ...[['10.0.0.0/33'], ['1.1.1.1 }; flush ruleset; #'], null].map(onward => ({ ...grant, onward })),
    ...[['localhost'], ['10.0.0.0/8'], [['10.0.0.1']], null].map(addresses => ({ ...grant, addresses })),
  ].map(entry => ({ verb: 'meshGrants', grants: [entry] })),
  ...[{}, null, Array.from({ length: MAX_ENDPOINTS + 1 }, () => grant)].map(grants => ({ verb: 'meshGrants', grants })),
  ...[
    ...[{ network: '10.0.0.0/8' }, { network: '10.0.0.0/8', isUp: 'yes' }, '10.0.0.0/8', null],
    ...[
      { network: '10.0.0.0/8', isUp: true, dev: 'eth0' },
      { network: 'default', isUp: true },
    ],
  ].map(entry => ({ verb: 'meshNetworks', networks: [entry] })),
  ...[22, 53, 1_023, 65_536, -1, '41000', null].map(port => ({ verb: 'linkSocket', family: 4, port })),
  { verb: 'linkSocket', family: 5, port: 0 },
  { verb: 'linkSocket', family: 4, port: 0, mark: 1 },
  ...['name', 'hooks', 'lan', 'split', 'uid', 'journal', 'table', 'mark'].map(more => ({ ...entry, [more]: 'x' })),
  ...['addresses', 'dnsServers', 'dnsSearch', 'routes', 'killSwitch'].flatMap(name => {
    const { [name as 'routes']: _, ...rest } = entry
    return [
      rest,
      { ...entry, [name]: null },
      { ...entry, [name]: 'x' },
      { ...entry, [name]: [7] },
      { ...entry, [name]: [null] },
    ]
  }),
  ...['', 'localhost', '10.0.0.0/33', '1.1.1.1; id', 'fe80::1%eth0/64'].flatMap(bad => [
    { ...entry, addresses: [bad] },
    { ...entry, routes: ['0.0.0.0/0', bad] },
  ]),
  ...['', '10.0.0.0/8', 'a.example', '1.1.1.1\nnameserver 2.2.2.2', 'fe80::1%eth0'].map(bad => ({
    ...entry,
    dnsServers: [bad],
  })),
  ...[
    '',
    '-x',
    '--set',
    'a b',
    'a..b',
    'a\n',
    'ä.example',
    '~~a',
    'a;b',
    `${'a'.repeat(64)}.example`,
    'a.'.repeat(128),
  ].map(bad => ({ ...entry, dnsSearch: [bad] })),
  { ...entry, routes: Array.from({ length: 8_193 }, () => '10.0.0.0/8') },
  { ...entry, addresses: Array.from({ length: MAX_ENDPOINTS + 1 }, () => '10.0.0.1/32') },
  { verb: 'entryLeft', journal: '/etc' },
  { verb: 'entryRestore', journal: '/etc' },
  // What is not said counts as much as what is.
  { verb: 'open', mtu: 1_280, queues: 1 },
  { ...open, name: 'eth0' },
  { ...open, tun: 'hoplite0' },
  { verb: 'relays' },
  { verb: 'alive', forMs: 1 },
  { verb: 'reset', addresses: ['0.0.0.0/0'] },
  { verb: 'restore', journal: '/etc' },
  { verb: 'wg', directory: '/etc' },
  { verb: 'wg', name: '../x' },
  { verb: 'hooks', when: 'postup' },
  { verb: 'hooks', when: 'PostUp', command: 'id' },
  { verb: 'hooks', when: ['PostUp'] },
  ...[
    ...[0, 65_536, -1, 1.5, HUGE, '443', null].map(port => ({ ...relay, port })),
    ...[
      '',
      'localhost',
      '192.0.2.1/0',
      '192.0.2.256',
      '0x7f000001',
      'fe80::1%eth0',
      '1.1.1.1 }; flush ruleset; #',
      1,
      null,
    ].map(address => ({ ...relay, address })),
    ...['tcp', 'icmp', '', null, 17].map(protocol => ({ ...relay, protocol })),
    ...[{ ...relay, extra: 1 }, { address: '192.0.2.1', port: 1 }, null, [relay], '192.0.2.1:1'],
  ].map(entry => ({ verb: 'relays', relays: [relay, entry] })),
  // Relays are spoken to by UDP, sources of the directory by TCP.
  { verb: 'control', control: [relay] },
]

test('every request of the list is read as it was said', () => {
  for (const request of GOOD) assert.deepEqual(parseRequest(JSON.stringify(request)), request)
})

test('what is no request, has a field too many or too few, another type or a value out of range, is refused', () => {
  for (const request of BAD) {
    const line = JSON.stringify(request)
    assert.equal(parseRequest(line), undefined, line)
  }
})

test('a line that is no JSON, or half of it, is refused', () => {
  for (const request of GOOD) {
    const line = JSON.stringify(request)
    // A list of a thousand is cut where it matters.
    for (let at = 0; at < Math.min(line.length, 400); at++) assert.equal(parseRequest(line.slice(0, at)), undefined)
  }
  for (const line of ['\0', '\u{1F6E1}', '{'.repeat(100_000), '['.repeat(200_000), '{"verb":"wg"}{"verb":"wg"}']) {
    assert.equal(parseRequest(line), undefined)
  }
})

test('a request whose letters were changed is refused, or is one of the list', () => {
  let seed = 7
  const next = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below
  for (let round = 0; round < 20_000; round++) {
    const letters = [...JSON.stringify(GOOD[2 + next(GOOD.length - 2)])]
    for (let change = 0; change <= next(3); change++) letters[next(letters.length)] = String.fromCharCode(32 + next(95))
    const line = letters.join('')
    const found = parseRequest(line)
    if (found !== undefined) assert.deepEqual(parseRequest(JSON.stringify(found)), found, line)
  }
})

test('a field that is inherited, or said twice, changes nothing', () => {
  assert.equal(parseRequest('{"__proto__":{"verb":"restore"}}'), undefined)
  assert.deepEqual(parseRequest('{"verb":"restore","verb":"reset"}'), { verb: 'reset' })
  assert.equal(parseRequest('{"verb":"reset","__proto__":{}}'), undefined)
})
