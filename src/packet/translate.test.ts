import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { isIntact, makePacket, slowChecksum, writeChecksums } from '#lab/packets.ts'
import { skipUnless } from '#lab/skip.ts'
import { IpPacket, parseIpPacket } from './ip-packet.ts'
import { type TranslateFault, Translation } from './translate.ts'

const ROOM = 16
const SEED = 'translate'
const VECTORS = new URL('../../../shared/vectors/packets/raw-ip.json', import.meta.url)
const CLIENT = { 4: Buffer.from([192, 0, 0, 2]), 6: Buffer.from('fd686f706c6974650000000000000002', 'hex') }
const OUTSIDE = { 4: Buffer.from([10, 64, 201, 7]), 6: Buffer.from('fd686f706c697465000000000000c907', 'hex') }
const FAR = { 4: Buffer.from([198, 51, 100, 2]), 6: Buffer.from('20010db8000000000000000000000002', 'hex') }
const FAMILIES = [4, 6] as const
type Family = (typeof FAMILIES)[number]

const SOURCE_AT = { 4: 12, 6: 8 } as const
const DESTINATION_AT = { 4: 16, 6: 24 } as const
const HEADER_BYTES = { 4: 20, 6: 40 } as const

/** Translates a copy between bytes that must stay as they are. */
function translated(
  bytes: Uint8Array,
  direction: 'outward' | 'inward',
  [client, outside]: readonly [Uint8Array, Uint8Array],
): Buffer | TranslateFault | 'malformed' {
  const buffer = Buffer.alloc(ROOM + bytes.length + ROOM, 0xee)
  buffer.set(bytes, ROOM)
  const packet = new IpPacket()
  if (parseIpPacket(packet, buffer, ROOM, bytes.length) !== undefined) return 'malformed'
  const fault = new Translation(client, outside)[direction](buffer, ROOM, packet)
  const after = buffer.subarray(ROOM, ROOM + bytes.length)
  assert.ok([...buffer.subarray(0, ROOM), ...buffer.subarray(ROOM + bytes.length)].every(byte => byte === 0xee))
  if (fault === undefined) return after
  assert.deepEqual(after, Buffer.from(bytes), 'a packet with a fault stays as it was')
  return fault
}

const pair = (family: Family) => [CLIENT[family], OUTSIDE[family]] as const

function good(result: Buffer | string): Buffer {
  assert.ok(typeof result !== 'string', `translated: ${String(result)}`)
  return result
}

/** A TCP or UDP packet between these addresses, with right checksums. */
function between(
  family: Family,
  protocol: 'tcp' | 'udp',
  from: Uint8Array,
  to: Uint8Array,
  payload: Uint8Array,
): Buffer {
  const packet = Buffer.from(makePacket({ version: family, protocol, payload, sourcePort: 1_000 + payload.length }))
  packet.set(from, SOURCE_AT[family])
  packet.set(to, DESTINATION_AT[family])
  writeChecksums(packet)
  return packet
}

/** An ICMP message behind an IP header, with right checksums. */
function icmp(family: Family, from: Uint8Array, to: Uint8Array, message: Uint8Array): Buffer {
  const packet = Buffer.concat([Buffer.alloc(HEADER_BYTES[family]), message])
  if (family === 4) {
    packet[0] = 0x45
    packet.writeUInt16BE(packet.length, 2)
    packet.set([64, 1], 8)
  } else {
    packet[0] = 0x60
    packet.writeUInt16BE(message.length, 4)
    packet.set([58, 64], 6)
  }
  packet.set(from, SOURCE_AT[family])
  packet.set(to, DESTINATION_AT[family])
  writeIcmpChecksums(packet, family)
  return packet
}

function writeIcmpChecksums(packet: Buffer, family: Family): void {
  if (family === 4) {
    packet.writeUInt16BE(0, 10)
    packet.writeUInt16BE(slowChecksum(packet.subarray(0, 20)), 10)
  }
  packet.writeUInt16BE(0, HEADER_BYTES[family] + 2)
  packet.writeUInt16BE(icmpChecksum(packet, family), HEADER_BYTES[family] + 2)
}

/** 0 over a message whose checksum is right. */
function icmpChecksum(packet: Buffer, family: Family): number {
  if (family === 4) return slowChecksum(packet.subarray(20))
  const length = Buffer.alloc(8)
  length.writeUInt32BE(packet.length - 40, 0)
  length.writeUInt32BE(58, 4)
  return slowChecksum(Buffer.concat([packet.subarray(8, 40), length, packet.subarray(40)]))
}

/** An ICMP error (time exceeded) that quotes `quote`. */
function icmpError(family: Family, from: Uint8Array, to: Uint8Array, quote: Uint8Array): Buffer {
  return icmp(family, from, to, Buffer.concat([Buffer.from([family === 4 ? 11 : 3, 0, 0, 0, 0, 0, 0, 0]), quote]))
}

test('what comes of a packet is what it would be made as with the other address, checksums and all', () => {
  const random = seededRandom(SEED)
  for (const family of FAMILIES) {
    for (const protocol of ['tcp', 'udp'] as const) {
      for (let i = 0; i < 300; i++) {
        const payload = random(i)
        const outside = Buffer.concat([OUTSIDE[family].subarray(0, -2), random(2)])
        const addresses = [CLIENT[family], outside] as const
        const fromClient = between(family, protocol, CLIENT[family], FAR[family], payload)
        const fromOutside = between(family, protocol, outside, FAR[family], payload)
        assert.deepEqual(good(translated(fromClient, 'outward', addresses)), fromOutside)
        const toClient = between(family, protocol, FAR[family], CLIENT[family], payload)
        const toOutside = between(family, protocol, FAR[family], outside, payload)
        assert.deepEqual(good(translated(toOutside, 'inward', addresses)), toClient)
      }
    }
  }
})

test('there and back is what it was, damaged checksums included', () => {
  const random = seededRandom(SEED)
  for (const family of FAMILIES) {
    for (const protocol of ['tcp', 'udp'] as const) {
      for (let i = 0; i < 300; i++) {
        const packet = between(family, protocol, CLIENT[family], FAR[family], random(i))
        const field = HEADER_BYTES[family] + (protocol === 'tcp' ? 16 : 6)
        if (i % 2 === 0) packet.writeUInt16BE((Buffer.from(random(2)).readUInt16BE() % 0xfffe) + 1, field)
        const there = good(translated(packet, 'outward', pair(family)))
        assert.equal(isIntact(there), isIntact(packet))
        const back = good(translated(there, 'outward', [OUTSIDE[family], CLIENT[family]]))
        assert.deepEqual(back, packet)
      }
    }
  }
})

test('a UDP checksum that is absent stays absent, and one that comes to 0 is written as 65,535', () => {
  for (const family of FAMILIES) {
    const field = HEADER_BYTES[family] + 6
    const absent = between(family, 'udp', CLIENT[family], FAR[family], Buffer.alloc(9, 7))
    absent.writeUInt16BE(0, field)
    assert.equal(good(translated(absent, 'outward', pair(family))).readUInt16BE(field), 0)
    // The payload's last word makes the sum come to 65,535 with the outside address.
    const payload = Buffer.alloc(10, 7)
    const probe = between(family, 'udp', OUTSIDE[family], FAR[family], Buffer.concat([payload, Buffer.alloc(2)]))
    const last = Buffer.alloc(2)
    last.writeUInt16BE(probe.readUInt16BE(field))
    const zero = between(family, 'udp', CLIENT[family], FAR[family], Buffer.concat([Buffer.alloc(10, 7), last]))
    const out = good(translated(zero, 'outward', pair(family)))
    assert.equal(out.readUInt16BE(field), 0xffff)
    assert.ok(isIntact(out))
    assert.deepEqual(good(translated(out, 'outward', [OUTSIDE[family], CLIENT[family]])), zero)
  }
})

test('of fragments only the first has a checksum of its transport', () => {
  const later4 = between(4, 'tcp', CLIENT[4], FAR[4], Buffer.alloc(40, 3))
  later4.writeUInt16BE(100, 6)
  writeChecksums(later4)
  const out = good(translated(later4, 'outward', pair(4)))
  assert.equal(slowChecksum(out.subarray(0, 20)), 0)
  assert.deepEqual(out.subarray(20), later4.subarray(20))

  const whole = between(6, 'udp', CLIENT[6], FAR[6], Buffer.alloc(64, 9))
  const fragment = (offset: number, bytes: Uint8Array) => {
    const header = Buffer.from([17, 0, 0, offset === 0 ? 1 : 0, 0, 0, 0, 1])
    if (offset > 0) header.writeUInt16BE(offset, 2)
    const packet = Buffer.concat([whole.subarray(0, 40), header, bytes])
    packet.writeUInt16BE(packet.length - 40, 4)
    packet[6] = 44
    return packet
  }
  const expected = between(6, 'udp', OUTSIDE[6], FAR[6], Buffer.alloc(64, 9))
  const first = good(translated(fragment(0, whole.subarray(40, 80)), 'outward', pair(6)))
  assert.deepEqual(first.subarray(48), expected.subarray(40, 80))
  const later = good(translated(fragment(40, whole.subarray(80)), 'outward', pair(6)))
  assert.deepEqual(later.subarray(48), expected.subarray(80))
})

test('an echo has the sum of its pseudo-header mended in IPv6 and is left alone in IPv4', () => {
  for (const family of FAMILIES) {
    const message = Buffer.from([family === 4 ? 8 : 128, 0, 0, 0, 1, 2, 3, 4, 5])
    const packet = icmp(family, CLIENT[family], FAR[family], message)
    const out = good(translated(packet, 'outward', pair(family)))
    assert.deepEqual(out, icmp(family, OUTSIDE[family], FAR[family], message))
  }
})

test('the packet that an ICMP error quotes is translated too, in both directions, wherever it is cut', () => {
  for (const family of FAMILIES) {
    for (const protocol of ['tcp', 'udp'] as const) {
      const payload = Buffer.alloc(31, 5)
      const [client, outside, far] = [CLIENT[family], OUTSIDE[family], FAR[family]]
      const checksumAt = HEADER_BYTES[family] + (protocol === 'tcp' ? 16 : 6)
      for (let cut = HEADER_BYTES[family]; cut <= HEADER_BYTES[family] + 50; cut++) {
        // Half a checksum is nothing that could be mended.
        if (cut === checksumAt + 1) continue
        const sent = (from: Uint8Array) => between(family, protocol, from, far, payload).subarray(0, cut)
        const inward = icmpError(family, far, outside, sent(outside))
        assert.deepEqual(
          good(translated(inward, 'inward', pair(family))),
          icmpError(family, far, client, sent(client)),
          `inward, ${protocol} over IPv${family}, cut to ${cut}`,
        )
        const received = (to: Uint8Array) => between(family, protocol, far, to, payload).subarray(0, cut)
        const outward = icmpError(family, client, far, received(client))
        assert.deepEqual(
          good(translated(outward, 'outward', pair(family))),
          icmpError(family, outside, far, received(outside)),
          `outward, ${protocol} over IPv${family}, cut to ${cut}`,
        )
      }
    }
    const echo = (from: Uint8Array) =>
      icmp(family, from, FAR[family], Buffer.from([family === 4 ? 8 : 128, 0, 0, 0, 1, 2, 3, 4]))
    assert.deepEqual(
      good(translated(icmpError(family, FAR[family], OUTSIDE[family], echo(OUTSIDE[family])), 'inward', pair(family))),
      icmpError(family, FAR[family], CLIENT[family], echo(CLIENT[family])),
    )
  }
})

test('packets of others, and errors about packets of others, are refused as they are', () => {
  for (const family of FAMILIES) {
    const [client, outside, far] = [CLIENT[family], OUTSIDE[family], FAR[family]]
    const payload = Buffer.alloc(3)
    assert.equal(translated(between(family, 'tcp', far, client, payload), 'outward', pair(family)), 'foreign')
    assert.equal(translated(between(family, 'tcp', far, client, payload), 'inward', pair(family)), 'foreign')
    const about = (quote: Uint8Array) => translated(icmpError(family, far, outside, quote), 'inward', pair(family))
    assert.equal(about(between(family, 'tcp', far, outside, payload)), 'quote')
    assert.equal(about(between(family, 'tcp', client, far, payload)), 'quote')
    assert.equal(about(between(family === 4 ? 6 : 4, 'tcp', OUTSIDE[4], far, payload)), 'quote')
    const whole = between(family, 'tcp', outside, far, payload)
    for (let cut = 0; cut < HEADER_BYTES[family]; cut++) assert.equal(about(whole.subarray(0, cut)), 'quote')
  }
  const longHeader = between(4, 'tcp', OUTSIDE[4], FAR[4], Buffer.alloc(3)).subarray(0, 28)
  longHeader[0] = 0x4f
  assert.equal(translated(icmpError(4, FAR[4], OUTSIDE[4], longHeader), 'inward', pair(4)), 'quote')
})

test('whatever a packet says of itself, nothing outside of it is written, and back it is what it was', () => {
  const random = seededRandom(SEED)
  const seeds = FAMILIES.flatMap(family => [
    between(family, 'tcp', CLIENT[family], FAR[family], random(40)),
    between(family, 'udp', CLIENT[family], FAR[family], random(40)),
    icmpError(family, CLIENT[family], FAR[family], between(family, 'udp', FAR[family], CLIENT[family], random(30))),
    icmpError(family, CLIENT[family], FAR[family], between(family, 'tcp', FAR[family], CLIENT[family], random(30))),
  ])
  let passed = 0
  for (const seed of seeds) {
    for (let i = 0; i < 2_000; i++) {
      const [at = 0, value = 0, end = 0, flips = 0] = random(4)
      const packet = Buffer.from(seed.subarray(0, i % 3 === 0 ? seed.length : end % seed.length))
      for (let j = 0; j <= flips % 3 && packet.length > 0; j++) packet[(at + j * 17) % packet.length] = value + j
      const result = translated(packet, 'outward', pair((packet[0] ?? 0) >>> 4 === 6 ? 6 : 4))
      if (typeof result !== 'string') passed++
    }
  }
  assert.ok(passed > 2_000, `only ${passed} packets were translated`)
})

test('packets that others have seen or made up come back as they were', t => {
  if (skipUnless(t, existsSync(VECTORS), 'the packets of others are not here')) return
  const { packets } = JSON.parse(readFileSync(VECTORS, 'utf8')) as { packets: { hex: string; name?: string }[] }
  const counts = new Map<string, number>()
  for (const { hex } of packets) {
    const bytes = Buffer.from(hex ?? '', 'hex')
    const family = (bytes[0] ?? 0) >>> 4 === 6 ? 6 : 4
    const at = SOURCE_AT[family]
    const source = Buffer.from(bytes.subarray(at, at + OUTSIDE[family].length))
    const result =
      source.length === OUTSIDE[family].length ? translated(bytes, 'outward', [source, OUTSIDE[family]]) : 'malformed'
    const outcome = typeof result === 'string' ? result : 'translated'
    counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
    if (typeof result === 'string') continue
    const back = good(translated(result, 'outward', [OUTSIDE[family], source]))
    for (const [i, byte] of back.entries()) {
      if (byte === bytes[i]) continue
      // In checksums that were 0 or 65,535 the two are the same.
      assert.ok([0, 0xff].includes(byte) && [0, 0xff].includes(bytes[i] ?? 1), `byte ${i} of ${hex}`)
    }
  }
  t.diagnostic(JSON.stringify(Object.fromEntries(counts)))
  assert.ok((counts.get('translated') ?? 0) > 10)
})
