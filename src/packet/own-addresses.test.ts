import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makePacket } from '#lab/packets.ts'
import { IpPacket, parseIpPacket } from './ip-packet.ts'
import { OwnAddresses } from './own-addresses.ts'

const six = (last: number) => Uint8Array.of(0x20, 0x01, 0x0d, 0xb8, ...new Uint8Array(11), last)

test('only what comes from the own addresses goes out, and only what is for them comes in', () => {
  const own = new OwnAddresses([Uint8Array.of(192, 0, 2, 1), six(1)])
  const seen = ([4, 6] as const).flatMap(version =>
    [
      [1, 2],
      [2, 1],
      [9, 2],
      [1, 9],
    ].map(([from = 0, to = 0]) => {
      const bytes = makePacket({ version, protocol: 'udp', payload: Buffer.alloc(4), from, to })
      const at = Buffer.concat([Buffer.alloc(3), bytes])
      // Destinations of the plain packets are in another network.
      if (version === 4) at.set([192, 0, 2, to], 3 + 16)
      const packet = new IpPacket()
      assert.equal(parseIpPacket(packet, at, 3, bytes.length), undefined)
      return [own.isSource(at, 3, packet), own.isDestination(at, 3, packet)]
    }),
  )
  const expected = [
    [true, false],
    [false, true],
    [false, false],
    [true, false],
  ]
  assert.deepEqual(seen, [...expected, ...expected])
})

test('an address of one family is none of the other, and one bit makes another one', () => {
  const packet = new IpPacket()
  const bytes = makePacket({ version: 6, protocol: 'udp', payload: Buffer.alloc(4) })
  assert.equal(parseIpPacket(packet, bytes, 0, bytes.length), undefined)
  assert.ok(!new OwnAddresses([bytes.subarray(8, 12)]).isSource(bytes, 0, packet))
  for (let bit = 0; bit < 128; bit++) {
    const other = six(1)
    other[bit >>> 3] = (other[bit >>> 3] ?? 0) ^ (1 << (bit & 7))
    assert.ok(!new OwnAddresses([other]).isSource(bytes, 0, packet))
  }
})

test('more addresses than a tunnel has, and what is no address, are a mistake', () => {
  assert.throws(() => new OwnAddresses(Array(17).fill(new Uint8Array(4))), RangeError)
  assert.throws(() => new OwnAddresses([new Uint8Array(5)]), RangeError)
})
