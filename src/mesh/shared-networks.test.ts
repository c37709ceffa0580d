import assert from 'node:assert/strict'
import test from 'node:test'
import { formatPrefix, type IpPrefix, parsePrefix } from '#wire/ip-prefix.ts'
import { overlapping, problemWith, readShareable } from './shared-networks.ts'

const DEVICES = { address: 'fd68:6f70:6c69::', prefix: 48 }
const prefix = (text: string) => parsePrefix(text) as IpPrefix

test('private networks can be offered, in one form', () => {
  for (const [text, expected] of Object.entries({
    '192.168.1.0/24': '192.168.1.0/24',
    '192.168.1.7/24': '192.168.1.0/24',
    '10.0.0.0/8': '10.0.0.0/8',
    '172.31.9.9': '172.31.9.9/32',
    'FD00:1:2::/48': 'fd00:1:2::/48',
  })) {
    const network = readShareable(text, DEVICES)
    assert.equal(network && formatPrefix(network), expected)
  }
})

test('everything, what is public, shared, local, or of devices, and half a family cannot', () => {
  const refused = [
    ...['0.0.0.0/0', '::/0', '8.8.8.8', '203.0.113.0/24', '2001:db8::/32', '128.0.0.0/1'],
    ...['100.64.0.0/10', '100.100.1.1', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/4', 'fe80::/10', 'ff00::/8'],
    ...['fd68:6f70:6c69::/48', 'fd68:6f70:6c69:1::/64', 'fd00::/8', 'fc00::/7', '192.0.0.0/8', '172.0.0.0/8'],
    ...['', 'internet', '10.0.0.0/33', '10.0.0/8', '10.0.0.0/-1', '10.0.0.0/8/8', '::ffff:10.0.0.0/104'],
  ]
  for (const text of refused) assert.equal(readShareable(text, DEVICES), undefined, text)
})

test('an offer that takes our own network, or what is needed outside of the tunnel, leads nowhere', () => {
  const around = {
    devices: DEVICES,
    attached: [prefix('192.168.1.9/24'), prefix('fd00:9::1/64')],
    needed: ['10.1.2.3', 'fd00:7::1', '203.0.113.1'],
  }
  const why = (text: string) => problemWith(prefix(text), around)
  assert.match(why('192.168.0.0/16') ?? '', /in such a network itself/)
  assert.match(why('192.168.1.128/25') ?? '', /in such a network itself/)
  assert.match(why('fd00:9::/48') ?? '', /in such a network itself/)
  assert.match(why('10.1.0.0/16') ?? '', /relay/)
  assert.match(why('fd00:7::/64') ?? '', /relay/)
  assert.match(why('0.0.0.0/0') ?? '', /private/)
  assert.equal(why('192.168.2.0/24'), undefined)
  assert.equal(why('10.2.0.0/16'), undefined)
})

test('two devices cannot be the way to one address', () => {
  const taken = [prefix('192.168.1.0/24'), prefix('fd00:1::/64')]
  assert.equal(overlapping(prefix('192.168.0.0/16'), taken), '192.168.1.0/24')
  assert.equal(overlapping(prefix('192.168.1.7/32'), taken), '192.168.1.0/24')
  assert.equal(overlapping(prefix('192.168.2.0/24'), taken), undefined)
})
