import assert from 'node:assert/strict'
import test from 'node:test'
import { inspect } from 'node:util'
import { x25519FromPrivate } from '#crypto/x25519.ts'
import type { Command, TunnelPeerReport } from '#forward/commands.ts'
import { ERRNO } from '#wire/uapi.ts'
import { parseWgQuick } from '#wire/wg-quick.ts'
import { formatKey } from '#wire/wireguard-key.ts'
import { TunnelView } from './tunnel-view.ts'

const [PRIVATE, FIRST, SECOND, SHARED] = [1, 2, 3, 4].map(fill => new Uint8Array(32).fill(fill)) as [
  Uint8Array,
  Uint8Array,
  Uint8Array,
  Uint8Array,
]
const FILE = `[Interface]
PrivateKey = ${formatKey(PRIVATE)}
Address = 10.66.0.2/32
[Peer]
PublicKey = ${formatKey(FIRST)}
PresharedKey = ${formatKey(SHARED)}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = 192.0.2.1:51820
PersistentKeepalive = 25
[Peer]
PublicKey = ${formatKey(SECOND)}
AllowedIPs = 10.0.0.0/8
`
const REPORTED: readonly TunnelPeerReport[] = [
  {
    publicKey: FIRST,
    presharedKey: SHARED,
    entry: 1,
    latestHandshakeUnixMs: 1_700_000_000_123,
    rxBytes: 5,
    txBytes: 6,
    persistentKeepaliveSeconds: 25,
    allowedIps: [
      { address: new Uint8Array(4), bits: 0 },
      { address: new Uint8Array(16), bits: 0 },
    ],
  },
  {
    publicKey: SECOND,
    presharedKey: undefined,
    entry: undefined,
    latestHandshakeUnixMs: undefined,
    rxBytes: 0,
    txBytes: 0,
    persistentKeepaliveSeconds: 0,
    allowedIps: [{ address: Uint8Array.of(10, 0, 0, 0), bits: 8 }],
  },
]

function view(answers = true) {
  const sent: Command[] = []
  const file = parseWgQuick(Buffer.from(FILE))
  if ('error' in file) throw new Error(file.error.text)
  const made: TunnelView = new TunnelView({
    name: 'wg0',
    file,
    servers: [{ host: '192.0.2.1', port: 51_820 }],
    send: (...commands) => {
      sent.push(...commands)
      for (const command of commands)
        if (answers && command.kind === 'reportTunnel')
          queueMicrotask(() => made.handleReport({ kind: 'tunnelReport', request: command.request, peers: REPORTED }))
    },
  })
  return { view: made, sent, file }
}

test('the tunnel is installed with the keys, networks and entries of its file', () => {
  const { view: made, file } = view()
  const command = made.install({ fd: 9, offload: 'tcp' }, 1_392, new Map([[formatKey(FIRST), 1]]))
  assert.ok(command.kind === 'installTunnel')
  const { peers, ...rest } = command.tunnel
  assert.deepEqual(rest, {
    fd: 9,
    offload: 'tcp',
    mtu: 1_392,
    address: Uint8Array.of(10, 66, 0, 2),
    privateKey: PRIVATE,
  })
  assert.deepEqual(peers, [
    {
      publicKey: FIRST,
      presharedKey: SHARED,
      entry: 1,
      persistentKeepaliveSeconds: 25,
      allowedIps: REPORTED[0]?.allowedIps,
    },
    { publicKey: SECOND, persistentKeepaliveSeconds: 0, allowedIps: REPORTED[1]?.allowedIps },
  ])
  // What crosses to the worker is a copy: the file's secrets may be wiped.
  file.interface.privateKey?.wipe()
  assert.deepEqual(command.tunnel.privateKey, PRIVATE)
})

test('hoplite wg show is told of servers and not of peers, and of no secret', async () => {
  const described = await view().view.describe()
  assert.deepEqual(described, {
    name: 'wg0',
    publicKey: formatKey(x25519FromPrivate(PRIVATE).publicKey),
    peers: [
      {
        publicKey: formatKey(FIRST),
        hasPresharedKey: true,
        endpoint: '192.0.2.1:51820',
        allowedIps: ['0.0.0.0/0', '::/0'],
        lastHandshakeUnixMs: 1_700_000_000_123,
        rxBytes: 5,
        txBytes: 6,
        persistentKeepaliveSeconds: 25,
      },
      {
        publicKey: formatKey(SECOND),
        hasPresharedKey: false,
        allowedIps: ['10.0.0.0/8'],
        lastHandshakeUnixMs: 0,
        rxBytes: 0,
        txBytes: 0,
        persistentKeepaliveSeconds: 0,
      },
    ],
  })
  for (const secret of [PRIVATE, SHARED]) assert.ok(!JSON.stringify(described).includes(formatKey(secret)))
})

test('wg(8) is given the device with its keys, which are never printed by accident', async () => {
  const snapshot = await view().view.get()
  assert.deepEqual(snapshot.privateKey?.bytes, PRIVATE)
  assert.deepEqual(snapshot.peers[0]?.presharedKey?.bytes, SHARED)
  assert.deepEqual(
    snapshot.peers.map(({ endpoint, allowedIps, lastHandshakeUnixMs }) => ({
      endpoint,
      allowedIps,
      lastHandshakeUnixMs,
    })),
    [
      {
        endpoint: { host: '192.0.2.1', port: 51_820 },
        allowedIps: [
          { address: '0.0.0.0', prefix: 0 },
          { address: '::', prefix: 0 },
        ],
        lastHandshakeUnixMs: 1_700_000_000_123,
      },
      { endpoint: undefined, allowedIps: [{ address: '10.0.0.0', prefix: 8 }], lastHandshakeUnixMs: 0 },
    ],
  )
  assert.doesNotMatch(inspect(snapshot, { depth: 9 }), /privateKey: Uint8Array|presharedKey: Uint8Array/)
})

test('wg(8) cannot change it', () => {
  assert.equal(view().view.set(), ERRNO.invalid)
})

test('questions asked at the same time get their own answers; a stray answer is nobody’s', async () => {
  const { view: made, sent } = view()
  made.handleReport({ kind: 'tunnelReport', request: 99, peers: [] })
  made.handleReport({ kind: 'failed', what: 'something else' })
  const all = await Promise.all([made.describe(), made.describe(), made.get()])
  assert.deepEqual(
    all.map(({ peers }) => peers.length),
    [2, 2, 2],
  )
  assert.equal(new Set(sent.map(command => command.kind === 'reportTunnel' && command.request)).size, 3)
})

test('when the data plane does not answer within two seconds, the interface is shown without peers', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { view: made, sent } = view(false)
  const asked = made.describe()
  t.mock.timers.tick(2_000)
  assert.deepEqual((await asked).peers, [])
  const [command] = sent
  assert.ok(command?.kind === 'reportTunnel')
  made.handleReport({ kind: 'tunnelReport', request: command.request, peers: REPORTED })
})
