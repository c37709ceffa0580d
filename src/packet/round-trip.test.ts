import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sum } from './checksum.ts'
import { IpPacket, parseIpPacket } from './ip-packet.ts'
import { roundTripToken, writeRoundTrip } from './round-trip.ts'

const ADDRESSES = [Uint8Array.of(10, 66, 0, 2), Uint8Array.from({ length: 16 }, (_, i) => i + 1)]
const TOKEN = Buffer.from('a token!')
const AT = 6

for (const address of ADDRESSES) {
  test(`a packet to its own address of ${address.length} bytes is a whole one of its length, and known again`, () => {
    for (const length of [64, 1_280, 1_393]) {
      const buffer = new Uint8Array(2_000).fill(0xaa)
      writeRoundTrip(address, TOKEN, length, buffer, AT)
      assert.deepEqual([buffer[AT - 1], buffer[AT + length]], [0xaa, 0xaa])
      const packet = new IpPacket()
      assert.equal(parseIpPacket(packet, buffer, AT, length), undefined)
      assert.deepEqual([packet.length, packet.protocol], [length, 17])
      const header = address.length === 4 ? 20 : 40
      if (header === 20) assert.equal(sum(buffer, AT, 20), 0xffff)
      const pseudo = sum(buffer, AT + packet.source, 2 * address.length, 17 + length - header)
      assert.equal(sum(buffer, AT + header, length - header, pseudo), 0xffff)
      assert.deepEqual(Buffer.from(roundTripToken(address, buffer, AT, length) ?? []), TOKEN)
    }
  })

  test(`nothing else is taken for one, nor read beyond its end (${address.length} bytes)`, () => {
    const buffer = new Uint8Array(200)
    writeRoundTrip(address, TOKEN, 100, buffer, AT)
    for (let length = 0; length < (address.length === 4 ? 36 : 56); length++)
      assert.equal(roundTripToken(address, buffer, AT, length), undefined)
    const other = Uint8Array.from(address, byte => byte ^ 1)
    assert.equal(roundTripToken(other, buffer, AT, 100), undefined)
    for (const at of [0, address.length === 4 ? 9 : 6, address.length === 4 ? 23 : 43]) {
      const changed = Uint8Array.from(buffer)
      changed[AT + at] = 0x11 ^ (changed[AT + at] ?? 0)
      assert.equal(roundTripToken(address, changed, AT, 100), undefined, `${at}`)
    }
  })
}
