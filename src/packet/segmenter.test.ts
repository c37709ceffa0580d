import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ACK, isIntact, makePacket, type PacketPlan, slowChecksum, TIMESTAMPS } from '#lab/packets.ts'
import { Segmenter } from './segmenter.ts'

const [FIN, SYN, PSH, URG, CWR] = [0x01, 0x02, 0x08, 0x20, 0x80]
const [TCP4, TCP6, UDP, ECN] = [1, 4, 5, 0x80]

/** The virtio header of a packet as the kernel writes it; fields may be set otherwise. */
function virtio(
  packet: Uint8Array,
  fields: Partial<Record<'flags' | 'kind' | 'size' | 'headers' | 'start' | 'field', number>>,
): Buffer {
  const isFour = (packet[0] ?? 0) >>> 4 === 4
  const start = isFour ? 20 : 40
  const isTcp = packet[isFour ? 9 : 6] === 6
  const whole = Buffer.alloc(10)
  whole.set([fields.flags ?? 1, fields.kind ?? (isTcp ? (isFour ? TCP4 : TCP6) : UDP)])
  whole.writeUInt16LE(fields.headers ?? start + (isTcp ? 20 : 8), 2)
  whole.writeUInt16LE(fields.size ?? 1_000, 4)
  whole.writeUInt16LE(fields.start ?? start, 6)
  whole.writeUInt16LE(fields.field ?? (isTcp ? 16 : 6), 8)
  return Buffer.concat([whole, packet])
}

function cut(whole: Uint8Array, mtu = 1_420): Buffer[] | string {
  const segmenter = new Segmenter()
  const memory = Buffer.concat([Buffer.alloc(5), whole])
  const fault = segmenter.begin(memory, 5, whole.length, mtu)
  if (fault !== undefined) {
    assert.equal(segmenter.next, 0)
    return fault
  }
  const packets: Buffer[] = []
  while (segmenter.next > 0) {
    assert.ok(segmenter.next <= mtu)
    const room = Buffer.alloc(segmenter.next + 32, 0xee)
    const length = segmenter.write(room, 16)
    assert.ok([...room.subarray(0, 16), ...room.subarray(16 + length)].every(byte => byte === 0xee))
    packets.push(room.subarray(16, 16 + length))
  }
  return packets
}

function cutOrFail(whole: Uint8Array, mtu?: number): Buffer[] {
  const packets = cut(whole, mtu)
  return typeof packets === 'string' ? assert.fail(packets) : packets
}

/** The twin: each segment made anew. */
function slowly(plan: PacketPlan, size: number): Buffer[] {
  const count = Math.ceil(plan.payload.length / size)
  return Array.from({ length: count }, (_, i) => {
    let flags = plan.flags ?? ACK
    if (i > 0) flags &= ~CWR
    if (i < count - 1) flags &= ~(FIN | PSH)
    const told = plan.urgent ?? 0
    const urgent = (flags & URG) === 0 ? told : Math.max(told - i * size, 0)
    if (i > 0 && urgent === 0) flags &= ~URG
    return Buffer.from(
      makePacket({
        ...plan,
        payload: plan.payload.subarray(i * size, (i + 1) * size),
        sequence: (plan.sequence ?? 1) + i * size,
        identification: ((plan.identification ?? 0) + i) & 0xffff,
        flags,
        urgent,
      }),
    )
  })
}

test('a superpacket is cut as if each segment had been made by itself', () => {
  fc.assert(
    fc.property(
      fc.record({
        version: fc.constantFrom(4 as const, 6 as const),
        protocol: fc.constantFrom('tcp' as const, 'udp' as const),
        payload: fc.uint8Array({ minLength: 1_301, maxLength: 9_000, size: 'max' }),
        options: fc.constantFrom(TIMESTAMPS, new Uint8Array(0)),
        flags: fc.constantFrom(ACK, ACK | PSH, ACK | FIN | PSH, ACK | CWR, ACK | URG | PSH),
        urgent: fc.constantFrom(0, 1, 1_500),
        sequence: fc.constantFrom(1, 0xffff_fe00),
        identification: fc.constantFrom(1, 0xfffe),
      }),
      fc.integer({ min: 20, max: 1_300 }),
      (plan, size) => {
        const packets = cutOrFail(virtio(makePacket(plan), { size }))
        assert.deepEqual(packets, slowly(plan, size))
        assert.ok(packets.every(isIntact))
      },
    ),
    { numRuns: 300 },
  )
})

test('a packet that is not to be cut is given as it is, its checksum completed', () => {
  const packet = Buffer.from(makePacket({ version: 4, protocol: 'udp', payload: Buffer.alloc(100, 7) }))
  assert.deepEqual(cut(virtio(packet, { flags: 0, kind: 0 })), [packet])
  const partial = Buffer.from(packet)
  const pseudo = Buffer.concat([packet.subarray(12, 20), Buffer.from([0, 17, 0, packet.length - 20])])
  partial.writeUInt16BE(0xffff - slowChecksum(pseudo), 26)
  assert.deepEqual(cut(virtio(partial, { kind: 0 })), [packet])
  assert.deepEqual(cut(virtio(partial, { size: 100 })), [packet], 'a superpacket of one')
})

test('ECN may be told of TCP, and of nothing else', () => {
  const plan = { version: 4, protocol: 'tcp', payload: Buffer.alloc(1_500, 1), flags: ACK | CWR } as const
  const packets = cutOrFail(virtio(makePacket(plan), { kind: TCP4 | ECN }))
  assert.deepEqual(
    packets.map(packet => packet.readUInt8(33)),
    [ACK | CWR, ACK],
  )
  assert.equal(cut(virtio(makePacket({ ...plan, protocol: 'udp' }), { kind: UDP | ECN })), 'cutting')
})

test('TCP that would not fit is cut smaller, and what cannot be cut is too big', () => {
  const payload = Buffer.alloc(5_000, 3)
  const tcp = { version: 6, protocol: 'tcp', payload } as const
  assert.deepEqual(cut(virtio(makePacket(tcp), { size: 1_400 }), 1_280), slowly(tcp, 1_220))
  assert.equal(cut(virtio(makePacket({ ...tcp, protocol: 'udp' }), { size: 1_400 }), 1_280), 'tooBig')
  const single = makePacket({ ...tcp, payload: payload.subarray(0, 1_400) })
  assert.equal(cut(virtio(single, { flags: 0, kind: 0 }), 1_280), 'tooBig')
  for (const mtu of [0, 59, 60, 61])
    assert.equal(cut(virtio(makePacket(tcp), { size: 1_400 }), mtu), 'tooBig', `${mtu}`)
})

test('a header that does not fit its packet is refused', () => {
  const tcp = makePacket({ version: 4, protocol: 'tcp', payload: Buffer.alloc(3_000) })
  const six = makePacket({ version: 6, protocol: 'udp', payload: Buffer.alloc(3_000) })
  assert.equal(typeof cut(virtio(tcp, {})), 'object')
  assert.equal(cut(virtio(tcp, { flags: 9 })), 'flags')
  assert.equal(cut(virtio(tcp, { kind: TCP6 })), 'cutting')
  assert.equal(cut(virtio(tcp, { kind: UDP })), 'cutting')
  assert.equal(cut(virtio(tcp, { kind: 3 })), 'cutting')
  assert.equal(cut(virtio(six, { kind: TCP6 })), 'cutting')
  assert.equal(cut(virtio(tcp, { headers: tcp.length + 1 })), 'headers')
  assert.equal(cut(virtio(tcp, { size: 0 })), 'segments')
  assert.equal(cut(virtio(tcp, { size: 1 })), 'segments')
  assert.equal(cut(virtio(tcp, { flags: 0 })), 'checksum')
  assert.equal(cut(virtio(tcp, { start: 21 })), 'checksum')
  assert.equal(cut(virtio(tcp, { field: 17 })), 'checksum')
  for (const fields of [{ start: 0xffff }, { field: 0xffff }, { start: 12 }, { start: tcp.length - 1, field: 0 }]) {
    assert.equal(cut(virtio(tcp, { kind: 0, ...fields }), 65_535), 'checksum')
  }
  const syn = makePacket({ version: 4, protocol: 'tcp', payload: Buffer.alloc(3_000), flags: SYN })
  assert.equal(cut(virtio(syn, {})), 'control')
  const fragment = Buffer.from(tcp)
  fragment.writeUInt16BE(0x2000, 6)
  assert.equal(cut(virtio(fragment, {})), 'cutting')
})

test('every truncation is refused', () => {
  const whole = virtio(makePacket({ version: 4, protocol: 'tcp', payload: Buffer.alloc(1_100) }), {})
  for (let length = 0; length < whole.length; length++) assert.equal(cut(whole.subarray(0, length)), 'truncated')
})

test('whatever the header and the packet, segments stay within the MTU and their room', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(4 as const, 6 as const),
      fc.constantFrom('tcp' as const, 'udp' as const),
      fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 4 }),
      (version, protocol, changes) => {
        const whole = virtio(makePacket({ version, protocol, payload: Buffer.alloc(2_500, 1) }), {})
        for (const [at, value] of changes) whole[at] = value
        cut(whole)
      },
    ),
    { numRuns: 2_000 },
  )
})
