import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { Secret } from '#bytes/secret.ts'
import {
  type DeviceSnapshot,
  decodeUapiRequest,
  ERRNO,
  encodeUapiDevice,
  encodeUapiErrno,
  type UapiRequest,
} from './uapi.ts'
import { MAX_UAPI_REQUEST_BYTES, UapiReader } from './uapi-reader.ts'

const HEX = (byte: string) => byte.repeat(32)
const key = (fill: number) => new Uint8Array(32).fill(fill)
const NONE = HEX('00')

const SET = `set=1
private_key=${HEX('a1')}
listen_port=51820
fwmark=4294967295
replace_peers=true
public_key=${HEX('B2')}
preshared_key=${HEX('c3')}
endpoint=[2001:db8::1]:51820
persistent_keepalive_interval=25
replace_allowed_ips=true
allowed_ip=192.0.2.77/24
allowed_ip=-2001:db8::/32
protocol_version=1
public_key=${HEX('d4')}
remove=true
public_key=${HEX('e5')}
update_only=true
preshared_key=${NONE}

`

const decode = (text: string) => decodeUapiRequest(Buffer.from(text))
const errnoOf = (request: UapiRequest) => (request.kind === 'refused' ? request.errno : undefined)

test('every key of a set is read', () => {
  const request = decode(SET)
  assert.ok(request.kind === 'set')
  const [first, , , , peer] = request.operations
  assert.ok(first?.kind === 'privateKey' && first.key instanceof Secret)
  assert.deepEqual(first.key.bytes, key(0xa1))
  assert.ok(peer?.kind === 'peer' && peer.presharedKey instanceof Secret)
  assert.deepEqual(peer.presharedKey.bytes, key(0xc3))
  assert.deepEqual(request.operations.slice(1), [
    { kind: 'listenPort', port: 51820 },
    { kind: 'fwmark', mark: 0xffff_ffff },
    { kind: 'replacePeers' },
    {
      kind: 'peer',
      publicKey: key(0xb2),
      isUpdateOnly: false,
      presharedKey: peer.presharedKey,
      endpoint: { host: '2001:db8::1', port: 51820 },
      persistentKeepaliveSeconds: 25,
      replacesAllowedIps: true,
      allowedIps: [
        { address: '192.0.2.0', prefix: 24, isRemoved: false },
        { address: '2001:db8::', prefix: 32, isRemoved: true },
      ],
    },
    { kind: 'removePeer', publicKey: key(0xd4) },
    {
      kind: 'peer',
      publicKey: key(0xe5),
      isUpdateOnly: true,
      presharedKey: 'none',
      replacesAllowedIps: false,
      allowedIps: [],
    },
  ])
  assert.deepEqual(decode(`set=1\nprivate_key=${NONE}\n\n`), {
    kind: 'set',
    operations: [{ kind: 'privateKey', key: 'none' }],
  })
  assert.deepEqual(decode('set=1\n\n'), { kind: 'set', operations: [] })
  assert.deepEqual(decode('get=1\n\n'), { kind: 'get' })
})

test('what is malformed is refused whole, with an errno', () => {
  for (const text of ['', '\n', 'get=2\n\n', 'get\n\n', 'get=1\n', 'set=1\n\n\n', 'set=1\nx\n\n', ' get=1\n\n'])
    assert.equal(errnoOf(decode(text)), ERRNO.protocol, JSON.stringify(text))
  const peer = `public_key=${HEX('b2')}`
  for (const line of [
    'get=1',
    '=',
    'x=1',
    'listen_port=',
    'listen_port=65536',
    'listen_port=-1',
    'listen_port=0x10',
    'listen_port=1\0',
    'fwmark=4294967296',
    'fwmark=off',
    'replace_peers=false',
    'private_key=',
    `private_key=${HEX('a1')}0`,
    `private_key=${HEX('g1')}`,
    `private_key=${HEX('a1').slice(1)}`,
    `public_key=${HEX('zz')}`,
    'remove=true',
    'allowed_ip=::/0',
    ...[
      ...['remove=1', 'update_only=', 'replace_allowed_ips=yes', 'preshared_key=x', 'protocol_version=2'],
      ...['endpoint=', 'endpoint=name:1', 'endpoint=1.2.3.4', 'endpoint=1.2.3.4:0', 'endpoint=::1:5'],
      ...['persistent_keepalive_interval=65536', 'persistent_keepalive_interval=off', 'listen_port=1'],
      ...['allowed_ip=', 'allowed_ip=10.0.0.0/33', 'allowed_ip=--::/0', 'allowed_ip=::/129', 'allowed_ip=+::/0'],
    ].map(each => `${peer}\n${each}`),
  ]) {
    assert.equal(errnoOf(decode(`set=1\n${line}\n\n`)), ERRNO.invalid, line)
  }
  assert.equal(errnoOf(decode('get=1\nx=1\n\n')), ERRNO.invalid)
})

test('a device is told as wg reads it', () => {
  const device: DeviceSnapshot = {
    privateKey: new Secret(key(0xa1)),
    listenPort: 51820,
    fwmark: 7,
    peers: [
      {
        publicKey: key(0xb2),
        presharedKey: new Secret(key(0xc3)),
        endpoint: { host: '2001:db8::1', port: 443 },
        lastHandshakeUnixMs: 1_700_000_000_123,
        rxBytes: 2 ** 53 - 1,
        txBytes: 5,
        persistentKeepaliveSeconds: 25,
        allowedIps: [{ address: '::', prefix: 0 }],
        protocolVersion: 1,
      },
    ],
  }
  assert.equal(
    Buffer.from(encodeUapiDevice(device)).toString(),
    `private_key=${HEX('a1')}
listen_port=51820
fwmark=7
public_key=${HEX('b2')}
preshared_key=${HEX('c3')}
protocol_version=1
endpoint=[2001:db8::1]:443
last_handshake_time_sec=1700000000
last_handshake_time_nsec=123000000
tx_bytes=5
rx_bytes=9007199254740991
persistent_keepalive_interval=25
allowed_ip=::/0
errno=0

`,
  )
  assert.equal(Buffer.from(encodeUapiDevice({ listenPort: 0, fwmark: 0, peers: [] })).toString(), 'errno=0\n\n')
  assert.equal(Buffer.from(encodeUapiErrno('set', ERRNO.invalid)).toString(), 'errno=-22\n\n')
  assert.equal(Buffer.from(encodeUapiErrno('get', ERRNO.io)).toString(), 'errno=5\n\n')
  assert.equal(Buffer.from(encodeUapiErrno('set', ERRNO.done)).toString(), 'errno=0\n\n')
})

test('requests are the same however the stream is cut', () => {
  const stream = Buffer.from(`${SET}get=1\n\nset=1\nx\n\n\nget=1\n\nset=1\n`)
  const whole = new UapiReader().push(stream)
  assert.deepEqual(
    whole?.map(request => request.kind),
    ['set', 'get', 'refused', 'refused', 'get'],
  )
  for (let at = 0; at <= stream.length; at++) {
    const reader = new UapiReader()
    const parts = [reader.push(stream.subarray(0, at)), reader.push(stream.subarray(at))]
    assert.deepEqual(parts.flat(), whole, `cut at ${at}`)
  }
  const single = new UapiReader()
  assert.deepEqual(
    [...stream].flatMap(byte => single.push(Uint8Array.of(byte))),
    whole,
  )
})

test('a request of more than 1 MiB ends the stream, and one of exactly that is read', () => {
  const line = Buffer.from(`public_key=${HEX('b2')}\n`)
  const start = Buffer.from('set=1\nreplace_peers=true\n')
  const count = Math.floor((MAX_UAPI_REQUEST_BYTES - start.length - 1) / line.length)
  const rest = MAX_UAPI_REQUEST_BYTES - start.length - 1 - count * line.length
  const fill = Buffer.from(`${'x'.repeat(rest - 1)}\n`)
  const exact = Buffer.concat([start, ...Array.from({ length: count }, () => line), fill, Buffer.from('\n')])
  assert.equal(exact.length, MAX_UAPI_REQUEST_BYTES)
  assert.deepEqual(new UapiReader().push(exact), [{ kind: 'refused', errno: ERRNO.protocol }])
  const reader = new UapiReader()
  for (let from = 0; from < exact.length - 1; from += 4096)
    assert.deepEqual(reader.push(exact.subarray(from, Math.min(from + 4096, exact.length - 1))), [])
  assert.equal(reader.push(Buffer.from('xx')), undefined)
  assert.equal(reader.push(Buffer.from('get=1\n\n')), undefined)
  assert.equal(new UapiReader().push(new Uint8Array(MAX_UAPI_REQUEST_BYTES + 1)), undefined)
})

test('no truncation, mutation or noise throws', () => {
  const bytes = Buffer.from(SET)
  for (let length = 0; length < bytes.length; length++)
    assert.equal(decodeUapiRequest(bytes.subarray(0, length)).kind, 'refused')
  for (let at = 0; at < bytes.length; at++) {
    for (const byte of [0, 0x0a, 0x20, 0x2d, 0x3d, 0x80, 0xff]) {
      const changed = Buffer.from(bytes)
      changed[at] = byte
      decodeUapiRequest(changed)
      new UapiReader().push(changed)
    }
  }
  const lines = fc.constantFrom(...SET.split('\n').map(line => `${line}\n`), '\0', '=', 'x')
  fc.assert(
    fc.property(fc.array(lines), parts => new UapiReader().push(Buffer.from(parts.join(''))) !== undefined),
    { seed: 9, numRuns: 500 },
  )
})
