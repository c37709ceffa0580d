import assert from 'node:assert/strict'
import test from 'node:test'
import { covers, formatPrefix, type IpPrefix, maskPrefix, overlap, parsePrefix } from './ip-prefix.ts'

test('prefixes are read into one form', () => {
  for (const [text, expected] of Object.entries({
    '192.0.2.1': '192.0.2.1/32',
    '192.0.2.1/24': '192.0.2.1/24',
    '0.0.0.0/0': '0.0.0.0/0',
    '::0/0': '::/0',
    '2001:DB8:0:0::1': '2001:db8::1/128',
    '::ffff:192.0.2.1/120': '::ffff:192.0.2.1/120',
    '::c000:201': '::192.0.2.1/128',
    '::1': '::1/128',
    '::1:0:0': '::1:0:0/128',
  })) {
    const prefix = parsePrefix(text)
    assert.ok(prefix, text)
    assert.equal(formatPrefix(prefix), expected)
    assert.deepEqual(parsePrefix(expected), prefix)
  }
})

test('what is no prefix is refused', () => {
  for (const text of [
    '',
    '/',
    '/8',
    '1.2.3.4/',
    '1.2.3.4/33',
    '::/129',
    '1.2.3.4/-1',
    '1.2.3.4/8 ',
    '1.2.3/8',
    '::%lo',
  ])
    assert.equal(parsePrefix(text), undefined, text)
})

test('bits behind a prefix are made zero, whatever its length', () => {
  const masked = (address: string, prefix: number) => formatPrefix(maskPrefix({ address, prefix }))
  assert.equal(masked('255.255.255.255', 0), '0.0.0.0/0')
  assert.equal(masked('255.255.255.255', 1), '128.0.0.0/1')
  assert.equal(masked('255.255.255.255', 13), '255.248.0.0/13')
  assert.equal(masked('255.255.255.255', 32), '255.255.255.255/32')
  assert.equal(masked('2001:db8:ffff::ffff', 33), '2001:db8:8000::/33')
  assert.equal(masked('2001:db8::ffff', 128), '2001:db8::ffff/128')
})

test('prefixes cover and overlap as their bits say, never across families', () => {
  const prefix = (text: string) => parsePrefix(text) as IpPrefix
  const cases: [string, string, boolean, boolean][] = [
    ['10.0.0.0/8', '10.9.0.0/16', true, true],
    ['10.9.0.0/16', '10.0.0.0/8', false, true],
    ['192.168.1.0/24', '192.168.2.0/24', false, false],
    ['0.0.0.0/0', '203.0.113.9', true, true],
    ['::/0', '10.0.0.0/8', false, false],
    ['fd00::/8', 'fd68:6f70:6c69::/48', true, true],
    ['192.168.1.7/24', '192.168.1.0/24', true, true],
  ]
  for (const [a, b, isCovered, isShared] of cases) {
    assert.equal(covers(prefix(a), prefix(b)), isCovered, `${a} ${b}`)
    assert.equal(overlap(prefix(a), prefix(b)), isShared, `${a} ${b}`)
  }
})
