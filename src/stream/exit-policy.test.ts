import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ExitPolicy, isPublicAddress } from './exit-policy.ts'

const open = new ExitPolicy({ rules: [], ownAddresses: ['8.8.4.4', '2001:4860::1'], allowPrivate: [] })

test('addresses that are not public are refused, in every way to write them', () => {
  for (const host of [
    '0.0.0.0',
    '0.1.2.3',
    '10.0.0.1',
    '100.64.0.1',
    '100.127.255.255',
    '127.0.0.1',
    '127.255.255.254',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.1',
    '192.0.2.1',
    '192.88.99.1',
    '192.168.0.1',
    '198.18.0.1',
    '198.51.100.1',
    '203.0.113.1',
    '224.0.0.1',
    '239.255.255.255',
    '240.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '::ffff:8.8.8.8',
    '::127.0.0.1',
    '64:ff9b::7f00:1',
    '64:ff9b::808:808',
    '64:ff9b:1::1',
    '2002:7f00:1::',
    '2002:808:808::1',
    '2001::1',
    '2001:db8::1',
    '3fff::1',
    'fe80::1',
    'fec0::1',
    'fc00::1',
    'fd00::1',
    'ff02::1',
    '4000::1',
    '100::1',
    '5f00::1',
  ]) {
    assert.equal(isPublicAddress(host), false, host)
    assert.equal(open.allows(host, 443), false, host)
  }
})

test('public addresses are allowed', () => {
  for (const host of [
    '8.8.8.8',
    '1.1.1.1',
    '100.63.255.255',
    '100.128.0.1',
    '172.15.0.1',
    '172.32.0.1',
    '223.255.255.255',
    '2606:4700::1',
    '2a00:1450::5',
  ]) {
    assert.equal(open.allows(host, 443), true, host)
  }
})

test('what is no IP address is refused: names never come this far', () => {
  for (const host of ['', 'localhost', '127.1', '0x7f000001', '2130706433', '01.1.1.1', '1.1.1.1%eth0', 'fe80::1%1']) {
    assert.equal(open.allows(host, 443), false, host)
  }
})

test('the exit’s own addresses are refused, and port 25 unless a rule opens it', () => {
  assert.equal(open.allows('8.8.4.4', 443), false)
  assert.equal(open.allows('2001:4860:0::1', 443), false, 'in another spelling')
  assert.equal(open.allows('8.8.8.8', 25), false)
  assert.equal(open.allows('8.8.8.8', 0), false)
  assert.equal(open.allows('8.8.8.8', 65_536), false)
  const mail = new ExitPolicy({
    rules: [{ action: 'allow', ports: { from: 25, to: 25 } }],
    ownAddresses: [],
    allowPrivate: [],
  })
  assert.equal(mail.allows('8.8.8.8', 25), true)
})

test('the first rule that matches decides', () => {
  const policy = new ExitPolicy({
    rules: [
      { action: 'allow', network: '8.8.8.0/24', ports: { from: 53, to: 53 } },
      { action: 'deny', network: '8.8.0.0/16' },
      { action: 'allow', network: '2606:4700::/32' },
      { action: 'deny', ports: { from: 6881, to: 6999 } },
    ],
    ownAddresses: [],
    allowPrivate: [],
  })
  assert.equal(policy.allows('8.8.8.8', 53), true)
  assert.equal(policy.allows('8.8.8.8', 443), false)
  assert.equal(policy.allows('9.9.9.9', 6900), false)
  assert.equal(policy.allows('2606:4700::9', 6900), true)
})

test('a laboratory opens exactly the addresses and ports that it names', () => {
  const lab = new ExitPolicy({ rules: [], ownAddresses: [], allowPrivate: [{ host: '127.99.0.1', port: 8080 }] })
  assert.equal(lab.allows('127.99.0.1', 8080), true)
  assert.equal(lab.allows('127.99.0.1', 8081), false)
  assert.equal(lab.allows('127.99.0.2', 8080), false)
})

test('a rule with a network that is none is refused when it is read', () => {
  for (const network of ['8.8.8.8', '8.8.8.0/33', '::/129', 'x/8', '8.8.8.0/']) {
    assert.throws(
      () => new ExitPolicy({ rules: [{ action: 'deny', network }], ownAddresses: [], allowPrivate: [] }),
      /is not a network/,
    )
  }
})
