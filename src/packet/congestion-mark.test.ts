import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isIntact, makePacket } from '#lab/packets.ts'
import { markCongestion } from './congestion-mark.ts'
import { IpPacket, parseIpPacket } from './ip-packet.ts'

/** A packet with these two bits, and others around them, behind some bytes. */
function packet(version: 4 | 6, bits: number): Buffer {
  const bytes = makePacket({ version, protocol: 'udp', payload: Buffer.alloc(9, 7) })
  const before = new IpPacket()
  assert.equal(parseIpPacket(before, bytes, 0, bytes.length), undefined)
  if (version === 6) {
    bytes[0] = 0x6a
    bytes[1] = 0x85 | (bits << 4)
  } else {
    bytes[1] = 0xb8 | bits
    bytes[10] = 0
    bytes[11] = 0
    let sum = 0
    for (let i = 0; i < 20; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
    bytes[10] = (~sum >>> 8) & 255
    bytes[11] = ~sum & 255
  }
  return Buffer.concat([Buffer.alloc(6), bytes])
}

for (const version of [4, 6] as const) {
  test(`an IPv${version} packet whose sender understands is marked, and nothing else of it is changed`, () => {
    for (const bits of [1, 2, 3]) {
      const bytes = packet(version, bits)
      const before = Buffer.from(bytes)
      assert.equal(markCongestion(bytes, 6), true)
      assert.ok(isIntact(bytes.subarray(6)))
      const changed = [...bytes.keys()].filter(i => bytes[i] !== before[i]).map(i => i - 6)
      assert.ok(
        changed.every(i => i === 1 || (version === 4 && (i === 10 || i === 11))),
        `${changed}`,
      )
      assert.equal(((bytes[7] ?? 0) >>> (version === 4 ? 0 : 4)) & 3, 3)
    }
  })

  test(`an IPv${version} packet whose sender would not understand is left as it is`, () => {
    const bytes = packet(version, 0)
    const before = Buffer.from(bytes)
    assert.equal(markCongestion(bytes, 6), false)
    assert.deepEqual(bytes, before)
  })
}
