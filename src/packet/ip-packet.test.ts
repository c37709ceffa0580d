import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { makePacket } from '#lab/packets.ts'
import { skipUnless } from '#lab/skip.ts'
import { IpPacket, type Malformed, parseIpPacket } from './ip-packet.ts'

const VECTORS = new URL('../../../shared/vectors/packets/', import.meta.url)
const REASONS: readonly string[] = ['version', 'truncated', 'headerLength', 'extensions', 'fragment', 'transport']

function parse(bytes: Uint8Array): IpPacket | Malformed {
  const packet = new IpPacket()
  return parseIpPacket(packet, bytes, 0, bytes.length) ?? packet
}

/** Everything that was found lies within the packet. */
function assertInside(packet: IpPacket, available: number): void {
  assert.ok(packet.length <= available)
  assert.ok(packet.transport <= packet.length)
  assert.ok(packet.payload <= packet.length)
  assert.ok(packet.destination + packet.addressLength <= packet.length)
}

/** An IPv6 packet with these extension headers, each the type and the bytes, before `last`. */
function extended(headers: readonly (readonly [number, Uint8Array])[], last: number, rest: Uint8Array): Buffer {
  const base = Buffer.alloc(40)
  base[0] = 0x60
  base[6] = headers[0]?.[0] ?? last
  const chain = headers.map(([, bytes], i) => {
    const header = Buffer.from(bytes)
    header[0] = headers[i + 1]?.[0] ?? last
    return header
  })
  const packet = Buffer.concat([base, ...chain, rest])
  packet.writeUInt16BE(packet.length - 40, 4)
  return packet
}

test('the places of everything are found, at any offset and with padding behind', () => {
  for (const version of [4, 6] as const) {
    for (const protocol of ['tcp', 'udp'] as const) {
      const bytes = makePacket({ version, protocol, payload: Buffer.alloc(9), sourcePort: 7, destinationPort: 65_535 })
      const packet = new IpPacket()
      const padded = Buffer.concat([Buffer.alloc(3, 0xff), bytes, Buffer.alloc(5, 0xff)])
      assert.equal(parseIpPacket(packet, padded, 3, bytes.length + 5), undefined)
      const transport = version === 4 ? 20 : 40
      assert.deepEqual(
        { ...packet, payload: packet.payload },
        {
          version,
          length: bytes.length,
          transport,
          protocol: protocol === 'tcp' ? 6 : 17,
          transportLength: protocol === 'tcp' ? 20 : 8,
          source: version === 4 ? 12 : 8,
          destination: version === 4 ? 16 : 24,
          addressLength: version === 4 ? 4 : 16,
          isFragment: false,
          sourcePort: 7,
          destinationPort: 65_535,
          payload: bytes.length - 9,
        },
      )
    }
  }
})

test('every truncation of a packet is malformed', () => {
  for (const version of [4, 6] as const) {
    const bytes = makePacket({ version, protocol: 'tcp', payload: Buffer.alloc(9) })
    for (let length = 0; length < bytes.length; length++) assert.equal(parse(bytes.subarray(0, length)), 'truncated')
  }
})

test('extension headers are walked, and no more than eight of them', () => {
  const udp = Buffer.from([0, 1, 0, 2, 0, 8, 0, 0])
  const options = [60, new Uint8Array(8)] as const
  const found = parse(extended([[0, Uint8Array.of(0, 1, ...new Uint8Array(14))], options], 17, udp))
  assert.ok(typeof found === 'object')
  assert.deepEqual([found.transport, found.protocol, found.destinationPort], [64, 17, 2])
  assert.equal(typeof parse(extended(Array(8).fill(options), 17, udp)), 'object')
  assert.equal(parse(extended(Array(9).fill(options), 17, udp)), 'extensions')
  assert.equal(parse(extended([options, [0, new Uint8Array(8)]], 17, udp)), 'extensions', 'hop-by-hop options later on')
  assert.equal(parse(extended([[60, Uint8Array.of(0, 9, ...new Uint8Array(6))]], 17, udp)), 'extensions', 'too long')
  assert.equal(parse(extended([[44, new Uint8Array(7)]], 17, new Uint8Array(0))), 'extensions', 'too short')
})

test('only the first fragment has ports, it has all of its header, and none reaches too far', () => {
  const tcp = makePacket({ version: 4, protocol: 'tcp', payload: Buffer.alloc(8) })
  const fragment = (flags: number, length = tcp.length) => {
    const bytes = Buffer.from(tcp.subarray(0, length))
    bytes.writeUInt16BE(length, 2)
    bytes.writeUInt16BE(flags, 6)
    return parse(bytes)
  }
  const first = fragment(0x2000)
  const later = fragment(100)
  assert.ok(typeof first === 'object' && typeof later === 'object')
  assert.deepEqual([first.isFragment, first.destinationPort], [true, 443])
  assert.deepEqual([later.isFragment, later.destinationPort, later.transportLength], [true, 0, 0])
  assert.equal(fragment(0x2000, 36), 'transport', 'the flags would be in the second')
  assert.equal(fragment(1), 'fragment', 'it would overwrite the flags')
  assert.equal(fragment(0x1fff), 'fragment', 'it would reach behind 65,535')

  const six = (offset: number) =>
    parse(extended([[44, Uint8Array.of(0, 0, offset >>> 8, offset & 255, 0, 0, 0, 1)]], 6, tcp.subarray(20)))
  const [atomic, begin, end] = [six(0), six(1), six(800)]
  assert.ok(typeof atomic === 'object' && typeof begin === 'object' && typeof end === 'object')
  assert.deepEqual([atomic.isFragment, atomic.destinationPort], [false, 443])
  assert.deepEqual([begin.isFragment, begin.destinationPort], [true, 443])
  assert.deepEqual([end.isFragment, end.destinationPort], [true, 0])
})

test('transport headers that contradict their lengths are malformed', () => {
  const change = (protocol: 'tcp' | 'udp', at: number, ...bytes: number[]) => {
    const packet = Buffer.from(makePacket({ version: 6, protocol, payload: Buffer.alloc(4) }))
    packet.set(bytes, at)
    return parse(packet)
  }
  assert.equal(change('tcp', 52, 0x40), 'transport')
  assert.equal(change('tcp', 52, 0x70), 'transport')
  assert.equal(typeof change('tcp', 52, 0x60), 'object')
  assert.equal(change('udp', 44, 0, 7), 'transport')
  assert.equal(change('udp', 44, 0, 13), 'transport')
  assert.equal(typeof change('udp', 44, 0, 11), 'object')
})

test('whatever the bytes, what is found lies within them', () => {
  const random = fc.uint8Array({ maxLength: 120 })
  const mutated = fc
    .tuple(
      fc.constantFrom(4 as const, 6 as const),
      fc.constantFrom('tcp' as const, 'udp' as const),
      random,
      fc.nat(60),
      fc.nat(255),
    )
    .map(([version, protocol, payload, at, value]) => {
      const packet = makePacket({ version, protocol, payload })
      packet[at % packet.length] = value
      return packet
    })
  fc.assert(
    fc.property(fc.oneof(random, mutated), bytes => {
      const found = parse(bytes)
      if (typeof found === 'object') assertInside(found, bytes.length)
      else assert.ok(REASONS.includes(found))
    }),
    { numRuns: 3_000 },
  )
})

test('the packets of others that are malformed are refused, and the others are read', t => {
  const file = new URL('raw-ip.json', VECTORS)
  if (skipUnless(t, existsSync(file), 'needs ../shared/vectors')) return
  const { packets } = JSON.parse(readFileSync(file, 'utf8')) as { packets: Vector[] }
  const stricter = new Map<string, number>()
  for (const vector of packets) {
    const bytes = Buffer.from(vector.hex, 'hex')
    const found = parse(bytes)
    if (typeof found === 'object') {
      assert.ok(vector.wellformed, `${vector.source}: ${vector.why}`)
      assertInside(found, bytes.length)
      assert.equal(found.version, vector.version)
      if (vector.version === 4) assert.equal(found.protocol, vector.protocol)
      if (vector.version === 4) assert.equal(found.length, vector.total_length)
    } else if (vector.wellformed) {
      stricter.set(found, (stricter.get(found) ?? 0) + 1)
    }
  }
  t.diagnostic(`refused beyond the vectors' own strictness: ${JSON.stringify(Object.fromEntries(stricter))}`)
  for (const reason of stricter.keys()) assert.ok(['extensions', 'fragment', 'transport'].includes(reason), reason)
})

test('no bytes of captures and fuzzers make it look outside them', t => {
  if (skipUnless(t, existsSync(VECTORS), 'needs ../shared/vectors')) return
  let read = 0
  for (const folder of ['pcap-odd/', 'fuzz-seeds/', 'replay/']) {
    for (const file of readdirSync(new URL(folder, VECTORS))) {
      const bytes = readFileSync(new URL(folder + file, VECTORS))
      // Packets begin somewhere in it: every place is tried.
      const packet = new IpPacket()
      for (let at = 0; at < Math.min(bytes.length, 50_000); at++) {
        const available = Math.min(bytes.length - at, 1_500)
        if (parseIpPacket(packet, bytes, at, available) !== undefined) continue
        assertInside(packet, available)
        read++
      }
    }
  }
  assert.ok(read > 1_000, `${read} packets`)
})

interface Vector {
  readonly hex: string
  readonly source: string
  readonly wellformed: boolean
  readonly why?: string
  readonly version: number
  readonly protocol?: number
  readonly total_length?: number
}
