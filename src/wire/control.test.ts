import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ControlMessage, decodeControl, encodeControl, FLOW_PURPOSE, isTargetHost, REFUSAL } from './control.ts'

const MESSAGES: ControlMessage[] = [
  {
    type: 'request',
    number: 1,
    request: {
      kind: 'open',
      flow: 0xabcdef,
      purpose: FLOW_PURPOSE.hop,
      target: { host: '192.0.2.1', port: 51821 },
      first: Uint8Array.of(9, 8, 7),
    },
  },
  {
    type: 'request',
    number: 2,
    request: {
      kind: 'open',
      flow: 1,
      purpose: FLOW_PURPOSE.datagram,
      target: { host: '2001:db8::1', port: 53 },
      first: new Uint8Array(0),
    },
  },
  {
    type: 'request',
    number: 0xffff,
    request: { kind: 'openStream', stream: 0xdeadbeef, target: { host: 'example.com', port: 443 } },
  },
  { type: 'request', number: 3, request: { kind: 'close', flow: 5 } },
  { type: 'request', number: 4, request: { kind: 'ping' } },
  { type: 'request', number: 5, request: { kind: 'report' } },
  { type: 'request', number: 6, request: { kind: 'openTunnel', flow: 0x123456, mtu: 1_344 } },
  { type: 'request', number: 7, request: { kind: 'pay', token: new Uint8Array(354).fill(7), acceptedBytes: 2 ** 41 } },
  { type: 'request', number: 9, request: { kind: 'meet', flow: 0x123456, token: new Uint8Array(32).fill(9) } },
  { type: 'answer', number: 9, answer: { kind: 'meet' } },
  { type: 'request', number: 10, request: { kind: 'other', flow: 0x123456 } },
  { type: 'answer', number: 10, answer: { kind: 'other', host: '192.0.2.7' } },
  { type: 'answer', number: 11, answer: { kind: 'other', host: '2001:db8::7' } },
  { type: 'answer', number: 8, answer: { kind: 'pay', outwardBytes: 12 } },
  { type: 'answer', number: 1, answer: { kind: 'open' } },
  { type: 'answer', number: 3, answer: { kind: 'close' } },
  { type: 'answer', number: 4, answer: { kind: 'ping' } },
  { type: 'answer', number: 5, answer: { kind: 'report', packets: 12, bytes: 2 ** 40 } },
  { type: 'answer', number: 6, answer: { kind: 'openStream', stream: 77 } },
  { type: 'answer', number: 7, answer: { kind: 'refused', request: 'openStream', reason: REFUSAL.notAllowed } },
  {
    type: 'answer',
    number: 8,
    answer: {
      kind: 'openTunnel',
      hasIpv4: true,
      hasIpv6: false,
      mtu: 1_280,
      dns: ['192.0.2.53', '2001:db8::53'],
    },
  },
  { type: 'notice', flow: 9, reason: 2 },
]

test('every message survives encoding and decoding', () => {
  for (const message of MESSAGES) assert.deepEqual(decodeControl(encodeControl(message)), message)
})

test('the bytes of an open request are those of the table', () => {
  const bytes = encodeControl(MESSAGES[0] as ControlMessage)
  assert.equal(Buffer.from(bytes).toString('hex'), '010100' + 'efcdab' + '01' + '04c0000201' + '6dca' + '090807')
})

test('every truncation is refused, except of the first datagram, which is the rest', () => {
  for (const message of MESSAGES) {
    const bytes = encodeControl(message)
    const rest = message.type === 'request' && message.request.kind === 'open' ? message.request.first.length : 0
    for (let length = 0; length < bytes.length - rest; length++) {
      assert.equal(decodeControl(bytes.subarray(0, length)), undefined, `${message.type} cut to ${length}`)
    }
  }
})

test('trailing bytes are refused', () => {
  for (const message of MESSAGES) {
    if (message.type === 'request' && message.request.kind === 'open') continue
    assert.equal(decodeControl(Uint8Array.from([...encodeControl(message), 0])), undefined)
  }
})

test('the bytes of a tunnel offer are those of the table, and offers that cannot be meant are refused', () => {
  const offer = { kind: 'openTunnel', hasIpv4: true, hasIpv6: true, mtu: 1_420, dns: ['192.0.2.53'] } as const
  const bytes = encodeControl({ type: 'answer', number: 1, answer: offer })
  assert.equal(Buffer.from(bytes).toString('hex'), '860100' + '00' + '03' + '8c05' + '01' + '04c0000235')
  const spoilt: [number, number, string][] = [
    [4, 0, 'no family'],
    [4, 4, 'an unknown family'],
    [6, 4, 'an MTU below 1,280'],
    [7, 0, 'no DNS server'],
    [7, 5, 'five DNS servers'],
    [8, 3, 'a name for a DNS server'],
  ]
  for (const [at, value, what] of spoilt) {
    assert.equal(decodeControl(Uint8Array.from(bytes).fill(value, at, at + 1)), undefined, what)
  }
})

test('random bytes never throw', () => {
  let state = 12345
  const byte = () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return state >>> 24
  }
  for (let i = 0; i < 20_000; i++) {
    const bytes = Uint8Array.from({ length: byte() % 40 }, byte)
    if (i % 2 === 0 && bytes.length > 0) bytes[0] = ((bytes[0] ?? 0) % 8) | ((bytes[0] ?? 0) & 0x80)
    const message = decodeControl(bytes)
    if (message !== undefined && message.type !== 'notice') assert.ok(encodeControl(message).length > 0)
  }
})

test('hosts that are neither an address nor a lower-case name are refused', () => {
  for (const host of [
    'example.com',
    'a',
    'xn--bcher-kva.example',
    'origin.hoplite.test',
    '192.0.2.1',
    '::1',
    '_dns.example',
  ]) {
    assert.equal(isTargetHost(host), true, host)
  }
  for (const host of [
    '',
    '.',
    'a..b',
    '-a.example',
    'a b',
    'EXAMPLE.com',
    '1.2.3',
    '256.1.1.1',
    '0x7f.1',
    'a'.repeat(64),
    'é.example',
    `${'a.'.repeat(127)}aa`,
  ]) {
    assert.equal(isTargetHost(host), false, host)
  }
})
