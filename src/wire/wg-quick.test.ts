import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import test from 'node:test'
import fc from 'fast-check'
import { skipUnless } from '#lab/skip.ts'
import { formatWgQuick, MAX_WG_QUICK_BYTES, parseWgQuick, type WgQuickConfig } from './wg-quick.ts'
import { formatKey } from './wireguard-key.ts'

const VECTORS = new URL('../../../shared/vectors/configs-socks-dns/wg-conf/', import.meta.url)

const key = (fill: number) => formatKey(new Uint8Array(32).fill(fill))
const PRIVATE = key(1)
const PEER = key(2)
const SHARED = key(3)

const FULL = `# a comment
[Interface]
PrivateKey = ${PRIVATE}
ListenPort = 51820
FwMark = 0xca6c
Address = 10.0.0.2/24, 2001:db8::2
Address = 10.9.0.1/16
DNS = 10.0.0.1, 2001:db8::53, Corp.Example, ~.
MTU = 1420
Table = off
SaveConfig = true
PostUp = iptables -A FORWARD -i %i -j ACCEPT; echo a = b # seen
PreDown = true
PostUp = second

[Peer]
PublicKey = ${PEER}
PresharedKey = ${SHARED}
AllowedIPs = 0.0.0.0/0, ::/0
AllowedIPs = 192.0.2.77/24
Endpoint = [2001:DB8::1]:51820
PersistentKeepalive = 25

[Peer]
PublicKey = ${key(4)}
Endpoint = VPN.example.net:443
PersistentKeepalive = off
`

function parse(text: string): ReturnType<typeof parseWgQuick> {
  return parseWgQuick(Buffer.from(text))
}

function accepted(text: string): WgQuickConfig {
  const config = parse(text)
  if ('error' in config) assert.fail(`line ${config.error.line}: ${config.error.text}`)
  return config
}

function refused(text: string): { line: number; text: string } {
  const config = parse(text)
  assert.ok('error' in config, text)
  return config.error
}

/** Secrets laid open, so that configurations can be compared. */
function open(config: WgQuickConfig): unknown {
  return JSON.parse(formatOpen(config))
}

function formatOpen(config: WgQuickConfig): string {
  const { notes: _, ...rest } = config
  return JSON.stringify({
    ...rest,
    privateKey: config.interface.privateKey?.bytes,
    presharedKeys: config.peers.map(peer => peer.presharedKey?.bytes),
  })
}

test('files of other projects get the verdict of those projects', t => {
  if (skipUnless(t, existsSync(VECTORS), 'no vectors beside the repository')) return
  const verdicts: Record<string, { valid: boolean; line?: number; attribute?: string }> = JSON.parse(
    readFileSync(new URL('expected.json', VECTORS), 'utf8'),
  )
  assert.ok(Object.keys(verdicts).length >= 14)
  for (const [name, { valid, line, attribute }] of Object.entries(verdicts)) {
    const config = parseWgQuick(readFileSync(new URL(name, VECTORS)))
    assert.equal(!('error' in config), valid, `${name}: ${'error' in config ? config.error.text : 'accepted'}`)
    if (!('error' in config)) {
      assert.deepEqual(open(accepted(formatWgQuick(config))), open(config), name)
      continue
    }
    if (line !== undefined) assert.equal(config.error.line, line, name)
    if (attribute !== undefined) assert.match(config.error.text, new RegExp(`\\b${attribute}\\b`), name)
  }
})

test('every key is read', () => {
  const config = accepted(FULL)
  const { privateKey, ...device } = config.interface
  assert.deepEqual(privateKey?.bytes, new Uint8Array(32).fill(1))
  assert.deepEqual(device, {
    listenPort: 51820,
    fwmark: 0xca6c,
    addresses: [
      { address: '10.0.0.2', prefix: 24 },
      { address: '2001:db8::2', prefix: 128 },
      { address: '10.9.0.1', prefix: 16 },
    ],
    dnsServers: ['10.0.0.1', '2001:db8::53'],
    dnsSearch: ['corp.example', '~.'],
    mtu: 1420,
    table: { kind: 'off' },
    saveConfig: true,
  })
  const [first, second] = config.peers
  assert.deepEqual(first?.presharedKey?.bytes, new Uint8Array(32).fill(3))
  assert.deepEqual(first?.allowedIps, [
    { address: '0.0.0.0', prefix: 0 },
    { address: '::', prefix: 0 },
    { address: '192.0.2.0', prefix: 24 },
  ])
  assert.deepEqual(first?.endpoint, { host: '2001:db8::1', port: 51820 })
  assert.equal(first?.persistentKeepaliveSeconds, 25)
  assert.deepEqual(second, {
    publicKey: new Uint8Array(32).fill(4),
    allowedIps: [],
    persistentKeepaliveSeconds: 0,
    endpoint: { host: 'vpn.example.net', port: 443 },
  })
  assert.deepEqual(config.hooks, [
    { when: 'PostUp', command: 'iptables -A FORWARD -i %i -j ACCEPT; echo a = b' },
    { when: 'PreDown', command: 'true' },
    { when: 'PostUp', command: 'second' },
  ])
  assert.deepEqual(config.notes, [{ line: 20, text: 'AllowedIPs has bits behind its prefix: they are zero now' }])
})

test('a printed configuration reads back as the same one', () => {
  const config = accepted(FULL)
  assert.deepEqual(open(accepted(formatWgQuick(config))), open(config))
  const smallest = accepted('[Interface]')
  assert.equal(formatWgQuick(smallest), '[Interface]\n')
  assert.throws(() => formatWgQuick({ ...smallest, hooks: [{ when: 'PostUp', command: 'a\n[Peer]' }] }), TypeError)
})

test('odd spacing, case, line ends, a byte order mark and comments change nothing', () => {
  const expected = open(accepted(FULL))
  for (const [name, text] of Object.entries({
    'CR LF': FULL.replaceAll('\n', '\r\n'),
    'CR alone': FULL.replaceAll('\n', '\r'),
    'byte order mark': `\uFEFF${FULL}`,
    'names in upper case': FULL.replace(/^[A-Za-z]+ =/gm, name => name.toUpperCase()),
    'no spaces': FULL.replace(/^(\w+) = /gm, '$1='),
    tabs: FULL.replace(/^(\w+) = /gm, ' $1\t\t=\t'),
    'trailing blanks': FULL.replaceAll('\n', ' \t\n'),
    'sections in lower case': FULL.replaceAll('[Peer]', ' [ peer ]').replace('[Interface]', '[interface] # x'),
    comments: FULL.replaceAll('\n', '\n# PrivateKey = x\n ; [Peer]\n'),
    'peers before the interface': FULL.replace(/([^]*?)(\[Peer\][^]*)/, '$2\n$1'),
    'no last line end': FULL.trimEnd(),
  }).filter(([name]) => name !== 'trailing blanks' || true)) {
    assert.deepEqual(open(accepted(text)), expected, name)
  }
})

test('an error names its line and what was expected there', () => {
  const cases: readonly [string, number, RegExp][] = [
    ['', 1, /expected \[Interface\]/],
    ['\n\n# only a comment\n', 4, /expected \[Interface\]/],
    [`[Peer]\nPublicKey = ${PEER}\n`, 3, /expected \[Interface\]/],
    ['MTU = 1420\n[Interface]', 1, /before the first section/],
    ['[Interface]\nMTU 1420', 2, /expected Key = value/],
    ['[Interface]\nMTU = 12', 2, /MTU is malformed: expected 576 to 65535/],
    ['[Interface]\n[Interface]', 2, /a second \[Interface\]/],
    ['[Interface]\n[Peers]', 2, /expected \[Interface\] or \[Peer\]/],
    ['[Interface]\nListenPort = 65536', 2, /expected 0 to 65535/],
    ['[Interface]\nListenPort = -1', 2, /expected 0 to 65535/],
    ['[Interface]\nListenPort =', 2, /ListenPort is empty/],
    ['[Interface]\nFwMark = 0x100000000', 2, /expected off, or a number/],
    ['[Interface]\nTable = 0', 2, /expected auto, off/],
    ['[Interface]\nTable = -x', 2, /expected auto, off/],
    ['[Interface]\nSaveConfig = yes', 2, /expected true or false/],
    ['[Interface]\nAddress = 10.0.0.1/33', 2, /expected IP addresses/],
    ['[Interface]\nAddress = 2001:db8::1/129', 2, /expected IP addresses/],
    ['[Interface]\nAddress = 010.0.0.1/8', 2, /expected IP addresses/],
    ['[Interface]\nDNS = 10.0.0', 2, /expected IP addresses and search domains/],
    ['[Interface]\nDNS = a..b', 2, /expected IP addresses and search domains/],
    ['[Interface]\nPublicKey = x', 2, /PublicKey in \[Interface\]: expected in \[Peer\]/],
    ['[Interface]\nDontLetTheFeelingFade = 1', 2, /unknown key in \[Interface\]: expected PrivateKey, ListenPort/],
    ['[Interface]\n__proto__ = 1', 2, /unknown key/],
    [`[Interface]\nPrivateKey = ${key(0)}`, 2, /PrivateKey is malformed: expected 32 bytes/],
    ['[Interface]\n[Peer]\nMTU = 1420', 3, /MTU in \[Peer\]: expected in \[Interface\]/],
    ['[Interface]\n[Peer]\nAllowedIPs = ::/0\n\n[Peer]', 2, /without a PublicKey/],
    ['[Interface]\n[Peer]\n\n\n', 2, /without a PublicKey/],
    [`[Interface]\n[Peer]\nPublicKey=${PEER}\n[Peer]\nPublicKey=${PEER}`, 4, /expected each peer once/],
    [`[Interface]\n[Peer]\nPublicKey=${key(0)}`, 3, /not all zero/],
    ['[Interface]\n[Peer]\nAllowedIPs = 10.0.0.0/8 10.1.0.0/16', 3, /expected IP addresses with/],
    ['[Interface]\n[Peer]\nAllowedIPs = -10.0.0.0/8', 3, /expected IP addresses with/],
    ...[
      '',
      'x',
      'x:0',
      'x:65536',
      ':1',
      '1.2.3:1',
      '1.2.3.4',
      '2001:db8::1:51820',
      '[1.2.3.4]:5',
      '[::1]',
      'a b:1',
    ].map((endpoint): [string, number, RegExp] => [
      `[Interface]\n[Peer]\nEndpoint = ${endpoint}`,
      3,
      /expected IPv4:port/,
    ]),
    ...['0L', '22-30', '-1', '65536', '1e3', ' '].map((seconds): [string, number, RegExp] => [
      `[Interface]\n[Peer]\nPersistentKeepalive = ${seconds}`,
      3,
      /expected off, or 0 to 65535 seconds/,
    ]),
    ['[Interface]\nMTU = 1420\0', 2, /NUL/],
  ]
  for (const [text, line, expected] of cases) {
    const error = refused(text)
    assert.match(error.text, expected, JSON.stringify(text))
    assert.equal(error.line, line, JSON.stringify(text))
  }
  assert.match(refused(`[Interface]\n${'#'.repeat(MAX_WG_QUICK_BYTES)}`).text, /longer than 64 KiB/)
  const utf16 = parseWgQuick(Buffer.from('\uFEFF[Interface]', 'utf16le'))
  assert.ok('error' in utf16 && /UTF-16/.test(utf16.error.text))
})

test('what other programs add is passed over with a note, unless it changes the packets', () => {
  const { notes, interface: device } = accepted(`[Interface]
ExcludedApplications = a.b, c
Jc = 4
H1 = 1
DNS =
MTU =
MTU = 1400
MTU = 1300
[Socks5]
Whatever
[Peer]
PublicKey = ${PEER}
AllowedIPs = 10.0.0.0/8,`)
  assert.equal(device.mtu, 1300)
  assert.deepEqual(notes, [
    { line: 2, text: 'ExcludedApplications is not of WireGuard: passed over' },
    { line: 3, text: 'Jc is not of WireGuard: passed over' },
    { line: 4, text: 'H1 is not of WireGuard: passed over' },
    { line: 5, text: 'DNS is empty: passed over' },
    { line: 6, text: 'MTU is empty: passed over' },
    { line: 8, text: 'MTU stands there again: the last counts' },
    { line: 9, text: '[Socks5] is not of WireGuard: passed over' },
  ])
  assert.match(refused('[Interface]\nH2 = 1234567').text, /H2 changes the packets/)
})

test('1,000 peers are read and one more is refused', () => {
  const peer = (n: number) => {
    const bytes = new Uint8Array(32).fill(9)
    new DataView(bytes.buffer).setUint16(0, n)
    return `[Peer]\nPublicKey=${formatKey(bytes)}`
  }
  const lines = ['[Interface]', ...Array.from({ length: 1000 }, (_, n) => peer(n))]
  assert.equal(accepted(lines.join('\n')).peers.length, 1000)
  const over = parseWgQuick(Buffer.from([...lines, peer(1000)].join('\n')))
  assert.deepEqual('error' in over && over.error, { line: 2002, text: 'another [Peer]: expected at most 1,000' })
})

test('no truncation or mutation throws, and no error or note has a word of the keys', () => {
  const file = Buffer.from(FULL)
  const secrets = [PRIVATE, SHARED, PEER, key(4)]
  const check = (bytes: Uint8Array) => {
    const config = parseWgQuick(bytes)
    const said = 'error' in config ? [config.error] : config.notes
    for (const { text } of said)
      for (const secret of secrets)
        for (let at = 0; at + 6 <= secret.length; at++) assert.ok(!text.includes(secret.slice(at, at + 6)), text)
    if (!('error' in config)) assert.deepEqual(open(accepted(formatWgQuick(config))), open(config))
  }
  for (let length = 0; length <= file.length; length++) check(file.subarray(0, length))
  for (let at = 0; at < file.length; at++) {
    for (const byte of [0, 0x0a, 0x20, 0x23, 0x3d, 0x5b, 0xff]) {
      const changed = Buffer.from(file)
      changed[at] = byte
      check(changed)
    }
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), bytes => check(Buffer.concat([file, bytes]))),
    { seed: 7 },
  )
  const words = fc.constantFrom(...FULL.split(/(\s+)/), '=', '[', ']', '\0', ',', ':')
  fc.assert(
    fc.property(fc.array(words), parts => check(Buffer.from(parts.join('')))),
    { seed: 8, numRuns: 500 },
  )
})

test('a file of nothing but list items is read in no time', () => {
  const config = parse(`[Interface]\n[Peer]\nPublicKey=${PEER}\nAllowedIPs=${'::,'.repeat(21_000)}`)
  assert.ok(!('error' in config) && config.peers[0]?.allowedIps.length === 21_000)
  const lines = `[Interface]\n[Peer]\nPublicKey=${PEER}\n${'AllowedIPs=::\n'.repeat(4600)}`
  assert.equal(accepted(lines).peers[0]?.allowedIps.length, 4600)
})
