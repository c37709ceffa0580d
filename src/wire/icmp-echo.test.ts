import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseIp } from './address.ts'
import { echoReply, echoRequest, echoSequence } from './icmp-echo.ts'

const PAIRS = [
  ['192.0.2.1', '192.0.2.2'],
  ['2001:db8::1', '2001:db8::2'],
] as const

/** The sum over the message, and in IPv6 over the pseudo-header, is all ones when the checksum is right (RFC 1071). */
function sumOf(packet: Uint8Array): number {
  const isV6 = (packet[0] ?? 0) >>> 4 === 6
  const header = isV6 ? 40 : 20
  const pseudo = isV6 ? [...packet.subarray(8, 40), 0, 0, 0, packet.length - 40, 0, 0, 0, 58] : []
  const bytes = [...pseudo, ...packet.subarray(header)]
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return sum
}

test('a request is answered with its own sequence, back to where it came from, and both have right checksums', () => {
  for (const [from, to] of PAIRS) {
    const ends = [parseIp(from), parseIp(to)] as [Uint8Array, Uint8Array]
    const request = echoRequest(...ends, 4_711, 56)
    const reply = echoReply(request)
    assert.ok(reply)
    assert.deepEqual([sumOf(request), sumOf(reply)], [0xffff, 0xffff])
    assert.equal(echoSequence(reply), 4_711)
    assert.equal(echoSequence(request), undefined)
    assert.equal(echoReply(reply), undefined)
    const at = from.includes(':') ? 8 : 12
    assert.deepEqual(reply.subarray(at, at + ends[0].length), Buffer.from(ends[1]))
  }
})

test('what is cut off, or of another protocol, is no echo', () => {
  for (const [from, to] of PAIRS) {
    const request = echoRequest(parseIp(from) as Uint8Array, parseIp(to) as Uint8Array, 1, 56)
    const header = from.includes(':') ? 40 : 20
    for (let length = 0; length < header + 8; length++) assert.equal(echoReply(request.subarray(0, length)), undefined)
    const other = Buffer.from(request)
    other[from.includes(':') ? 6 : 9] = 17
    assert.equal(echoReply(other), undefined)
  }
})
