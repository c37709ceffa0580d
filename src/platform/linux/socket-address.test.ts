import assert from 'node:assert/strict'
import test from 'node:test'
import { AddressBook, encodeSocketAddress } from './socket-address.ts'

/** Where the kernel would have put it. */
function placed(host: string, port: number) {
  const bytes = new Uint8Array(64)
  bytes.set(encodeSocketAddress({ host, port }), 32)
  return { bytes, words: new Uint32Array(bytes.buffer) }
}

test('one sender is one object, of either family, and another address or port is another', () => {
  const book = new AddressBook()
  const find = (host: string, port: number) => {
    const { bytes, words } = placed(host, port)
    return book.find(bytes, words, 32)
  }
  for (const [one, other] of [
    ['192.0.2.1', '192.0.2.2'],
    ['2001:db8::1', '2001:db8::2'],
  ] as const) {
    assert.deepEqual(find(one, 9), { host: one, port: 9 })
    assert.deepEqual(find(other, 9), { host: other, port: 9 })
    assert.equal(find(one, 9), find(one, 9))
    assert.notEqual(find(one, 9), find(other, 9))
    assert.notEqual(find(one, 9), find(one, 10))
  }
})

test('of IPv6 addresses with one hash each is told as it is', () => {
  const book = new AddressBook()
  const { bytes, words } = placed('2001:db8::', 9)
  const find = (last: number, before: number) => {
    words.set([before, last], 12)
    return book.find(bytes, words, 32).host
  }
  // The hash weighs each word 31 times as much as the one after it.
  const [one, other] = [find(31, 0), find(0, 1)]
  assert.notEqual(one, other)
  assert.deepEqual([find(31, 0), find(0, 1), find(31, 0)], [one, other, one])
})
