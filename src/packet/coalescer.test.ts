import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ACK, isIntact, makePacket, type PacketPlan, TIMESTAMPS } from '#lab/packets.ts'
import { Coalescer } from './coalescer.ts'
import { Segmenter } from './segmenter.ts'

const PSH = 0x08
const FIN = 0x01

/** Puts the packets into one memory, one behind the other with room before each, and gives what is written to the TUN. */
function coalesce(packets: readonly Uint8Array[], joinsUdp = true): Buffer[] {
  const written: Buffer[] = []
  let pieces: Buffer[] = []
  const coalescer = new Coalescer({
    joinsUdp,
    outlet: {
      piece: (buffer, offset, length) => pieces.push(Buffer.from(buffer.subarray(offset, offset + length))),
      end: () => {
        written.push(Buffer.concat(pieces))
        pieces = []
      },
    },
  })
  const memory = Buffer.alloc(packets.reduce((sum, packet) => sum + packet.length + 40, 0))
  let at = 0
  for (const packet of packets) {
    memory.set(packet, at + 24)
    assert.equal(coalescer.add(memory, at + 24, packet.length + 7), undefined)
    at += packet.length + 40
  }
  coalescer.flush()
  return written
}

/** Cuts what was written again. */
function segment(written: readonly Buffer[], mtu = 65_535): Buffer[] {
  const segmenter = new Segmenter()
  const packets: Buffer[] = []
  for (const whole of written) {
    assert.equal(segmenter.begin(whole, 0, whole.length, mtu), undefined)
    while (segmenter.next > 0) {
      const packet = Buffer.alloc(segmenter.next)
      assert.equal(segmenter.write(packet, 0), packet.length)
      packets.push(packet)
    }
  }
  return packets
}

function flowOf(packet: Uint8Array): string {
  const isFour = (packet[0] ?? 0) >>> 4 === 4
  const from = isFour ? 12 : 8
  const protocol = packet[isFour ? 9 : 6]
  return `${protocol} ${Buffer.from(packet).toString('hex', from, isFour ? 24 : 44)}`
}

function byFlow(packets: readonly Uint8Array[]): Map<string, string[]> {
  const flows = new Map<string, string[]>()
  for (const packet of packets) {
    const flow = flowOf(packet)
    flows.set(flow, [...(flows.get(flow) ?? []), Buffer.from(packet).toString('hex')])
  }
  return flows
}

/** A flow of `count` full segments of 1,000 bytes that follow each other, and a shorter one. */
function stream(plan: Partial<PacketPlan>, count: number): Uint8Array[] {
  return Array.from({ length: count + 1 }, (_, i) =>
    makePacket({
      version: 4,
      protocol: 'tcp',
      options: TIMESTAMPS,
      payload: Buffer.alloc(i === count ? 300 : 1_000, i + 1),
      sequence: 0xffff_f000 + i * 1_000,
      identification: (0xfff8 + i) & 0xffff,
      flags: i === count ? ACK | PSH : ACK,
      ...plan,
    }),
  )
}

test('what follows each other in a flow becomes one superpacket, which can be cut into the very same packets', () => {
  for (const version of [4, 6] as const) {
    const packets = stream({ version }, 20)
    const written = coalesce(packets)
    assert.equal(written.length, 1)
    assert.deepEqual(
      segment(written).map(packet => packet.toString('hex')),
      packets.map(packet => Buffer.from(packet).toString('hex')),
    )
  }
})

test('datagrams of one length are joined where the TUN takes them, and a shorter one ends it', () => {
  const packets = [500, 500, 500, 100, 500].map((length, i) =>
    makePacket({ version: 6, protocol: 'udp', payload: Buffer.alloc(length, i) }),
  )
  assert.equal(coalesce(packets).length, 2)
  assert.equal(coalesce(packets, false).length, 5)
  assert.deepEqual(byFlow(segment(coalesce(packets))), byFlow(packets))
})

test('an identification that stays the same has no meaning with DF, and keeps packets apart without it', () => {
  const packets = (dontFragment: boolean) => stream({ identification: 0, dontFragment }, 5)
  assert.equal(coalesce(packets(true)).length, 1)
  assert.equal(coalesce(packets(false)).length, 6)
})

test('any mixture of flows comes out of joining and cutting as the same packets, each flow in its order', () => {
  const flow = fc.record({
    version: fc.constantFrom(4 as const, 6 as const),
    protocol: fc.constantFrom('tcp' as const, 'tcp' as const, 'udp' as const),
    sourcePort: fc.integer({ min: 1, max: 5 }),
    options: fc.constantFrom(TIMESTAMPS, new Uint8Array(0)),
    start: fc.constantFrom(0, 0x7fff_f000, 0xffff_fc00),
  })
  const step = fc.record({
    flow: fc.nat(5),
    length: fc.constantFrom(0, 1, 7, 700, 1_400, 1_400, 1_400, 1_400),
    twist: fc.constantFrom(
      ...Array<string>(12).fill(''),
      'flags',
      'window',
      'gap',
      'ttl',
      'ack',
      'checksum',
      'class',
      'id',
    ),
    flags: fc.constantFrom(ACK | PSH, ACK | FIN, ACK | 0x80, ACK | 0x40, 0x02, 0x04, ACK | 0x20),
  })
  fc.assert(
    fc.property(
      fc.array(flow, { minLength: 6, maxLength: 6 }),
      fc.array(step, { maxLength: 150, size: 'max' }),
      (flows, steps) => {
        const sent = new Map<number, { bytes: number; packets: number }>()
        const packets = steps.map(({ flow, length, twist, flags }, i) => {
          const plan = flows[flow] ?? assert.fail()
          const before = sent.get(flow) ?? { bytes: 0, packets: 0 }
          if (twist === 'gap') before.bytes += 5
          if (twist === 'id') before.packets += 2
          const packet = makePacket({
            ...plan,
            from: flow + 1,
            payload: Buffer.alloc(length, i + 1),
            sequence: plan.start + before.bytes,
            identification: (0xfff0 + before.packets) & 0xffff,
            flags: twist === 'flags' ? flags : ACK,
            window: twist === 'window' ? 77 : 500,
            ttl: twist === 'ttl' ? 3 : 64,
            acknowledgment: twist === 'ack' ? 9 : 1,
            trafficClass: twist === 'class' ? 1 : 0,
          })
          if (twist === 'checksum') packet[packet.length - 1] = (packet[packet.length - 1] ?? 0) ^ 0x55
          sent.set(flow, { bytes: before.bytes + length, packets: before.packets + 1 })
          return packet
        })
        const written = coalesce(packets)
        assert.ok(written.length <= packets.length)
        assert.deepEqual(byFlow(segment(written)), byFlow(packets))
      },
    ),
    { numRuns: 100 },
  )
})

test('a packet whose checksum is wrong is joined to nothing', () => {
  const packets = stream({}, 4)
  for (const broken of [0, 2, 4]) {
    const copies = packets.map(packet => Buffer.from(packet))
    const packet = copies[broken] ?? assert.fail()
    packet[60] = (packet[60] ?? 0) ^ 1
    assert.deepEqual(byFlow(segment(coalesce(copies))), byFlow(copies))
  }
  const headers = packets.map(packet => Buffer.from(packet))
  for (const packet of headers) packet[10] = (packet[10] ?? 0) ^ 1
  assert.equal(coalesce(headers).length, 5)
})

test('a superpacket has at most 65,535 bytes and 64 packets', () => {
  const large = stream({ payload: Buffer.alloc(1_448), flags: ACK }, 100).map((_, i) =>
    makePacket({
      version: 4,
      protocol: 'tcp',
      payload: Buffer.alloc(1_448, i),
      sequence: i * 1_448,
      identification: i,
    }),
  )
  const written = coalesce(large)
  assert.deepEqual(
    written.map(({ length }) => length - 10),
    [45, 45, 11].map(count => 40 + count * 1_448),
  )
  const small = Array.from({ length: 130 }, (_, i) =>
    makePacket({ version: 6, protocol: 'tcp', payload: Buffer.alloc(10, i), sequence: i * 10 }),
  )
  assert.deepEqual(
    coalesce(small).map(({ length }) => (length - 70) / 10),
    [64, 64, 2],
  )
})

test('with more flows than places the oldest leaves first and nothing is lost', () => {
  const packets = [0, 1].flatMap(round =>
    Array.from({ length: 40 }, (_, i) =>
      makePacket({ version: 4, protocol: 'udp', from: i + 1, payload: Buffer.alloc(50, i), identification: round }),
    ),
  )
  const written = coalesce(packets)
  assert.deepEqual(byFlow(segment(written)), byFlow(packets))
})

test('a fragment keeps its place behind what came before it', () => {
  const [first, second, third] = stream({}, 2).map(packet => Buffer.from(packet))
  const fragment = Buffer.from(second ?? assert.fail())
  fragment.writeUInt16BE(0x2000, 6)
  const written = coalesce([first ?? assert.fail(), second ?? assert.fail(), fragment, third ?? assert.fail()])
  assert.deepEqual(
    written.map(({ length }) => length - 10),
    [2_052, 1_052, 352],
  )
})

test('a superpacket is told to the kernel with the sum of its pseudo-header', () => {
  const [whole] = coalesce(stream({}, 3))
  assert.ok(whole)
  assert.deepEqual([...whole.subarray(0, 10)], [1, 1, 52, 0, 1000 & 255, 1000 >>> 8, 20, 0, 16, 0])
  assert.ok(!isIntact(whole.subarray(10)))
  const packet = Buffer.from(whole.subarray(10))
  const segmenter = new Segmenter()
  whole.set([0, 0, 0, 0], 1)
  assert.equal(segmenter.begin(whole, 0, whole.length, 65_535), undefined)
  segmenter.write(packet, 0)
  assert.ok(isIntact(packet))
})

test('what is not a packet is not taken', () => {
  const coalescer = new Coalescer({ joinsUdp: true, outlet: { piece: () => assert.fail(), end: () => assert.fail() } })
  assert.equal(coalescer.add(Buffer.alloc(40), 10, 20), 'version')
  coalescer.flush()
})
