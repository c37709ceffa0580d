import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ACK, isIntact, makePacket } from '#lab/packets.ts'
import { IpPacket, parseIpPacket } from './ip-packet.ts'
import { clampSegmentSize } from './mss-clamp.ts'

const SYN = 0x02

function clamp(options: readonly number[], { version = 4, flags = SYN }: { version?: 4 | 6; flags?: number } = {}) {
  const bytes = makePacket({
    version,
    protocol: 'tcp',
    payload: Buffer.alloc(3),
    options: Uint8Array.from(options),
    flags,
  })
  const packet = new IpPacket()
  assert.equal(parseIpPacket(packet, bytes, 0, bytes.length), undefined)
  const isChanged = clampSegmentSize(bytes, 0, packet, 1_280)
  assert.ok(isIntact(Buffer.from(bytes)))
  const at = packet.transport + 20
  return { isChanged, options: [...bytes.subarray(at, at + options.length)] }
}

test('SYN and SYN-ACK are lowered to what fits, with a right checksum, wherever the option stands', () => {
  const mss4 = [1_240 >>> 8, 1_240 & 255]
  const mss6 = [1_220 >>> 8, 1_220 & 255]
  for (const flags of [SYN, SYN | ACK]) {
    assert.deepEqual(clamp([2, 4, 5, 0xb4], { flags }), { isChanged: true, options: [2, 4, ...mss4] })
    assert.deepEqual(clamp([2, 4, 5, 0xb4], { flags, version: 6 }).options, [2, 4, ...mss6])
  }
  assert.deepEqual(clamp([1, 2, 4, 5, 0xb4, 1, 1, 0]).options, [1, 2, 4, ...mss4, 1, 1, 0], 'at an odd place')
  assert.deepEqual(clamp([3, 3, 7, 1, 2, 4, 255, 255]).options, [3, 3, 7, 1, 2, 4, ...mss4])
})

test('smaller sizes, other packets and options that make no sense are left as they are', () => {
  assert.equal(clamp([2, 4, 1, 0]).isChanged, false)
  assert.equal(clamp([2, 4, 5, 0xb4], { flags: ACK }).isChanged, false)
  assert.equal(clamp([]).isChanged, false)
  for (const options of [
    [0, 2, 4, 255],
    [9, 0, 2, 4],
    [9, 1, 2, 4],
    [9, 200, 2, 4],
    [1, 1, 1, 2],
    [1, 1, 2, 4],
    [2, 3, 255, 1],
  ]) {
    assert.deepEqual(clamp(options), { isChanged: false, options })
  }
})

test('whatever the options, the checksum stays right', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.constantFrom(1, 2, 4, 255), fc.nat(255)), { maxLength: 40 }), options => {
      clamp(options.slice(0, options.length - (options.length % 4)))
    }),
    { numRuns: 1_000 },
  )
})
