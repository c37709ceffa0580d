import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { formatAddress, MAX_ADDRESS_BYTES, parseAddress, parseIp, readAddress, writeAddress } from './address.ts'

test('addresses survive encoding and decoding, in the canonical form', () => {
  for (const text of [
    '192.0.2.1:51821',
    '[2001:db8::1]:443',
    '[::1]:1',
    '[1:2:3:4:5:6:7:8]:65535',
    '[2001:db8:0:1:1:1:1:1]:9',
  ]) {
    const address = parseAddress(text)
    assert.ok(address, text)
    const writer = new Writer(MAX_ADDRESS_BYTES)
    writeAddress(writer, address)
    const reader = new Reader(writer.done())
    assert.deepEqual(readAddress(reader), address)
    assert.equal(reader.done, true)
    assert.equal(formatAddress(address), text)
  }
})

test('what is not exactly an address and a port is refused', () => {
  for (const text of [
    '',
    '1.2.3.4',
    '1.2.3.4:0',
    '1.2.3.4:65536',
    '01.2.3.4:5',
    '1.2.3:5',
    '::1:5',
    '[1.2.3.4]:5',
    '[::1%eth0]:5',
    '[::ffff:1.2.3.4]:5',
    '[:::1]:5',
    '[1:2]:5',
    'host:5',
    '1.2.3.4:5 ',
  ]) {
    assert.equal(parseAddress(text), undefined, text)
  }
})

test('an IPv4-mapped IPv6 address is refused on the wire: it is a second way to write an IPv4 one', () => {
  const bytes = Uint8Array.from([6, ...(parseIp('::ffff:127.0.0.1') ?? []), 1, 0])
  const reader = new Reader(bytes)
  assert.equal(readAddress(reader), undefined)
  assert.equal(reader.failed, true)
})

test('every truncation, port zero and an unknown family are refused', () => {
  const whole = Uint8Array.of(4, 1, 2, 3, 4, 5, 0)
  for (let length = 0; length < whole.length; length++) {
    assert.equal(readAddress(new Reader(whole.subarray(0, length))), undefined)
  }
  assert.equal(readAddress(new Reader(Uint8Array.of(4, 1, 2, 3, 4, 0, 0))), undefined)
  assert.equal(readAddress(new Reader(Uint8Array.of(5, 1, 2, 3, 4, 5, 0))), undefined)
})
