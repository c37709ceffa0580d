import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ipDestinationOffset, ipFamily, ipLength, ipSourceOffset } from './ip-header.ts'

const four = Uint8Array.from([0x45, 0, 1, 2, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2])
const six = new Uint8Array(40)
six.set([0x60, 0, 0, 0, 1, 2])

test('family, length and the places of both addresses are read at any offset', () => {
  for (const offset of [0, 5]) {
    const at = (packet: Uint8Array) => Buffer.concat([Buffer.alloc(offset, 0xff), packet])
    assert.equal(ipFamily(at(four), offset, 20), 4)
    assert.equal(ipFamily(at(six), offset, 40), 6)
    assert.equal(ipLength(at(four), offset, 4), 258)
    assert.equal(ipLength(at(six), offset, 6), 298)
  }
  assert.deepEqual([...four.subarray(ipSourceOffset(4), ipSourceOffset(4) + 4)], [10, 0, 0, 1])
  assert.deepEqual([...four.subarray(ipDestinationOffset(4), ipDestinationOffset(4) + 4)], [10, 0, 0, 2])
  assert.equal(ipDestinationOffset(6) - ipSourceOffset(6), 16)
})

test('a truncated header and other versions have no family', () => {
  for (let length = 0; length < 20; length++) assert.equal(ipFamily(four, 0, length), undefined)
  for (let length = 0; length < 40; length++) assert.equal(ipFamily(six, 0, length), undefined)
  for (let version = 0; version < 16; version++) {
    if (version !== 4 && version !== 6) assert.equal(ipFamily(new Uint8Array(60).fill(version << 4), 0, 60), undefined)
  }
})
