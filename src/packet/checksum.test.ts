import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { vectorMemory, vectorSumOf } from '#bytes/vector-memory.ts'
import { makePacket, slowChecksum } from '#lab/packets.ts'
import { completeChecksum, sum, updatedChecksum, writeIpv4Checksum } from './checksum.ts'

test('the fast sum is the slow one, at every place and of every length', () => {
  const memories = [Buffer.alloc(256), vectorMemory(256)]
  fc.assert(
    fc.property(fc.nat(9), fc.uint8Array({ maxLength: 200 }), fc.nat(3), fc.nat(1), (at, bytes, shift, which) => {
      // A view that begins at an odd place of its memory is a place like any other.
      const buffer = memories[which]?.subarray(shift) ?? assert.fail()
      buffer.fill(0xee)
      buffer.set(bytes, at)
      assert.equal(0xffff - sum(buffer, at, bytes.length), slowChecksum(bytes))
    }),
    { numRuns: 2_000 },
  )
})

test('64 KiB of ones do not overflow the sum', () => {
  for (const memory of [Buffer.alloc(65_540), vectorMemory(65_540)]) {
    for (const at of [0, 1, 2, 3]) assert.equal(sum(memory.fill(0xff), at, 65_535), 0xff00)
  }
})

test('the sample of RFC 1071 §3', () => {
  assert.equal(sum(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7), 0, 8), 0xddf2)
})

test('a changed word changes a checksum as summing everything again would', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 4, maxLength: 40 }), fc.nat(), fc.nat(0xffff), (bytes, place, value) => {
      const packet = Buffer.from(bytes)
      const at = (place % (packet.length >>> 1)) * 2
      const before = slowChecksum(packet)
      const word = packet.readUInt16BE(at)
      packet.writeUInt16BE(value, at)
      const [fast, slow] = [updatedChecksum(before, word, value), slowChecksum(packet)]
      // The two forms of zero.
      assert.equal(fast % 0xffff, slow % 0xffff)
    }),
  )
})

test('a checksum that lacks all but the pseudo-header is completed, and is never 0', () => {
  const packet = Buffer.from(makePacket({ version: 4, protocol: 'udp', payload: Buffer.from('twelve bytes') }))
  const whole = Buffer.from(packet)
  const pseudo = Buffer.concat([packet.subarray(12, 20), Buffer.from([0, 17, 0, packet.length - 20])])
  packet.writeUInt16BE(0xffff - slowChecksum(pseudo), 26)
  completeChecksum(packet, 20, packet.length, 26)
  assert.deepEqual(packet, whole)

  const nothing = Buffer.from([0, 0, 0xff, 0xff])
  completeChecksum(nothing, 0, 4, 0)
  assert.equal(nothing.readUInt16BE(0), 0xffff)
})

test('the header checksum of IPv4 is that of the slow twin', () => {
  const packet = Buffer.from(makePacket({ version: 4, protocol: 'tcp', payload: Buffer.alloc(3) }))
  const right = packet.readUInt16BE(10)
  packet.writeUInt16BE(0xabcd, 10)
  writeIpv4Checksum(packet, 0, 20)
  assert.equal(packet.readUInt16BE(10), right)
})

test('this machine has vector instructions, or plain memory does as well', t => {
  const memory = vectorMemory(100_000)
  assert.deepEqual([memory.length, memory.every(byte => byte === 0)], [100_000, true])
  t.diagnostic(vectorSumOf(memory) === undefined ? 'plain memory' : 'vectors')
  assert.equal(vectorSumOf(Buffer.alloc(10)), undefined)
})
