import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import test from 'node:test'
import { promisify, stripVTControlCharacters } from 'node:util'
import { Secret } from '#bytes/secret.ts'
import { x25519FromPrivate } from '#crypto/x25519.ts'
import { hasTool, skipUnless } from '#lab/skip.ts'
import { type DeviceSnapshot, type PeerSnapshot, serveUapi } from '#platform/uapi-server.ts'
import { parsePrefix } from '#wire/ip-prefix.ts'
import { formatWgShow, type ShownDevice, wantsColor } from './wg-show.ts'

const run = promisify(execFile)
const NOW = 1_800_000_000_000

const key = (fill: number) => new Uint8Array(32).fill(fill)

function peer(fill: number, more: Partial<PeerSnapshot> = {}): PeerSnapshot {
  const none = { lastHandshakeUnixMs: 0, rxBytes: 0, txBytes: 0, persistentKeepaliveSeconds: 0, allowedIps: [] }
  return { publicKey: key(fill), protocolVersion: 1, ...none, ...more }
}

function prefixes(...texts: readonly string[]): PeerSnapshot['allowedIps'] {
  return texts.map(text => parsePrefix(text) ?? assert.fail(text))
}

function named(device: DeviceSnapshot, name: string): ShownDevice {
  if (device.privateKey === undefined) return { ...device, name }
  return { ...device, name, publicKey: x25519FromPrivate(device.privateKey.bytes).publicKey }
}

/** Interfaces with everything that changes what is printed; `now` in ms. */
function samples(now: number): readonly DeviceSnapshot[] {
  const ago = (seconds: number) => now - seconds * 1000
  const amounts = [
    ...[1, 1023, 1024, 1152, 1157, 1167, 1025, 1024 ** 2 - 1, 1024 ** 2, 1024 ** 2 * 1.005, 1024 ** 3 - 1],
    ...[1024 ** 3, 3.126 * 1024 ** 3, 1024 ** 4 - 1, 1024 ** 4, 5.375 * 1024 ** 4, 1024 ** 5 * 3, 2 ** 53 - 1],
  ].map(Math.floor)
  const times = [
    ...[0, 1, 59, 60, 61, 3599, 3600, 3661, 86_399, 86_400, 90_061, 31_536_000, 31_536_001],
    ...[2 * 31_536_000 + 3 * 86_400 + 4 * 3600 + 5 * 60 + 6, -100],
  ]
  return [
    { listenPort: 0, fwmark: 0, peers: [] },
    { listenPort: 0, fwmark: 0xffff_ffff, peers: [peer(1)] },
    {
      privateKey: new Secret(key(0x55)),
      listenPort: 51820,
      fwmark: 10,
      peers: [
        peer(2, { persistentKeepaliveSeconds: 1 }),
        peer(3, {
          presharedKey: new Secret(key(0x66)),
          endpoint: { host: '2001:db8::1', port: 51820 },
          allowedIps: prefixes(
            '0.0.0.0/0',
            '::/0',
            '2001:db8:0:1::/64',
            '::ffff:192.0.2.0/120',
            '::c000:200/120',
            '::1/128',
          ),
          lastHandshakeUnixMs: ago(63),
          rxBytes: 1239,
          txBytes: 3_565_158,
          persistentKeepaliveSeconds: 25,
        }),
        peer(4, { endpoint: { host: '192.0.2.1', port: 1 }, allowedIps: prefixes('10.0.0.0/8'), txBytes: 1 }),
        peer(5, { lastHandshakeUnixMs: ago(62), persistentKeepaliveSeconds: 65_535 }),
      ],
    },
    {
      listenPort: 1,
      fwmark: 0,
      peers: amounts.map((rxBytes, i) => peer(i + 1, { rxBytes, txBytes: amounts.at(-i) ?? 0 })),
    },
    {
      listenPort: 1,
      fwmark: 0,
      peers: times.map((seconds, i) => peer(i + 1, { lastHandshakeUnixMs: ago(seconds), rxBytes: i })),
    },
  ]
}

test('the real wg prints the same, byte for byte, with colours and without', async t => {
  if (skipUnless(t, hasTool('wg'), 'wg is not installed', { tool: 'wireguard-tools' })) return
  if (skipUnless(t, process.getuid?.() === 0, 'wg looks in a directory of root')) return
  const name = `hopl-${randomBytes(4).toString('hex')}`
  let device: DeviceSnapshot = { listenPort: 0, fwmark: 0, peers: [] }
  const server = await serveUapi(name, { get: () => device, set: () => 0 })
  t.after(() => server.close())
  const wg = async (mode: string, ...args: readonly string[]) =>
    (await run('wg', args, { env: { ...process.env, WG_COLOR_MODE: mode } })).stdout
  for (let i = 0; i < samples(0).length; i++) {
    for (const isColored of [false, true]) {
      // What is printed depends on the second: one in which wg began and ended is soon found.
      for (let tries = 0; ; tries++) {
        assert.ok(tries < 20, 'wg never ends in the second in which it began')
        const now = Math.floor(Date.now() / 1000) * 1000
        device = samples(now)[i] ?? device
        const printed = await wg(isColored ? 'always' : 'never', 'show', name)
        if (Math.floor(Date.now() / 1000) * 1000 !== now) continue
        assert.equal(formatWgShow(named(device, name), now, isColored), printed)
        break
      }
    }
    assert.equal(formatWgDump(named(device, name)), await wg('never', 'show', name, 'dump'))
  }
})

test('an interface is shown as wg shows it', () => {
  const device = samples(NOW)[2]
  assert.ok(device)
  const text = formatWgShow(named(device, 'hoplite0'), NOW, false)
  assert.equal(
    text,
    `interface: hoplite0
  public key: ${Buffer.from(named(device, '').publicKey ?? []).toString('base64')}
  private key: (hidden)
  listening port: 51820
  fwmark: 0xa

peer: ${Buffer.from(key(5)).toString('base64')}
  allowed ips: (none)
  latest handshake: 1 minute, 2 seconds ago
  persistent keepalive: every 18 hours, 12 minutes, 15 seconds

peer: ${Buffer.from(key(3)).toString('base64')}
  preshared key: (hidden)
  endpoint: [2001:db8::1]:51820
  allowed ips: 0.0.0.0/0, ::/0, 2001:db8:0:1::/64, ::ffff:192.0.2.0/120, ::192.0.2.0/120, ::1/128
  latest handshake: 1 minute, 3 seconds ago
  transfer: 1.21 KiB received, 3.40 MiB sent
  persistent keepalive: every 25 seconds

peer: ${Buffer.from(key(2)).toString('base64')}
  allowed ips: (none)
  persistent keepalive: every 1 second

peer: ${Buffer.from(key(4)).toString('base64')}
  endpoint: 192.0.2.1:1
  allowed ips: 10.0.0.0/8
  transfer: 0 B received, 1 B sent
`,
  )
  assert.equal(stripVTControlCharacters(formatWgShow(named(device, 'hoplite0'), NOW, true)), text)
  for (const secret of [0x55, 0x66]) assert.ok(!text.includes(Buffer.from(key(secret)).toString('base64')))
})

test('colours are for terminals, and never with NO_COLOR', () => {
  assert.equal(wantsColor({ isTTY: true }, {}), true)
  assert.equal(wantsColor({ isTTY: true }, { NO_COLOR: '' }), true)
  assert.equal(wantsColor({ isTTY: true }, { NO_COLOR: '1' }), false)
  assert.equal(wantsColor({}, {}), false)
})

/** The text of `wg show NAME dump`: tabs between fields, the interface first, keys bare. */
function formatWgDump(device: ShownDevice): string {
  const key = (bytes: Uint8Array | undefined) => (bytes === undefined ? '(none)' : base64(bytes))
  const fwmark = device.fwmark === 0 ? 'off' : `0x${device.fwmark.toString(16)}`
  const rows = [[key(device.privateKey?.bytes), key(device.publicKey), `${device.listenPort}`, fwmark]]
  for (const peer of device.peers) {
    rows.push([
      base64(peer.publicKey),
      key(peer.presharedKey?.bytes),
      peer.endpoint === undefined ? '(none)' : endpoint(peer),
      peer.allowedIps.map(({ address, prefix }) => `${address}/${prefix}`).join(',') || '(none)',
      `${seconds(peer.lastHandshakeUnixMs)}`,
      `${peer.rxBytes}`,
      `${peer.txBytes}`,
      peer.persistentKeepaliveSeconds === 0 ? 'off' : `${peer.persistentKeepaliveSeconds}`,
    ])
  }
  return rows.map(row => `${row.join('\t')}\n`).join('')
}

function endpoint({ endpoint }: PeerSnapshot): string {
  if (endpoint === undefined) return ''
  return endpoint.host.includes(':') ? `[${endpoint.host}]:${endpoint.port}` : `${endpoint.host}:${endpoint.port}`
}

function seconds(unixMs: number): number {
  return Math.floor(unixMs / 1000)
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64')
}
