import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makePacket, slowChecksum } from '#lab/packets.ts'
import { IpPacket, parseIpPacket } from './ip-packet.ts'
import { MAX_TOO_BIG_BYTES, TooBigAnswers } from './too-big.ts'

function answer(bytes: Uint8Array, { answers = new TooBigAnswers(), now = 0 } = {}): Buffer | undefined {
  const packet = new IpPacket()
  assert.equal(parseIpPacket(packet, bytes, 0, bytes.length), undefined)
  const into = Buffer.alloc(MAX_TOO_BIG_BYTES + 20, 0xee)
  const length = answers.write(bytes, 0, packet, 1_280, into, 10, now)
  assert.ok(length <= MAX_TOO_BIG_BYTES)
  assert.ok([...into.subarray(0, 10), ...into.subarray(10 + length)].every(byte => byte === 0xee))
  return length === 0 ? undefined : into.subarray(10, 10 + length)
}

function large(version: 4 | 6, changes: readonly (readonly [number, readonly number[]])[] = []): Buffer {
  const packet = Buffer.from(makePacket({ version, protocol: 'udp', payload: Buffer.alloc(1_400, 5) }))
  for (const [at, bytes] of changes) packet.set(bytes, at)
  return packet
}

test('IPv4 is told that fragmentation is needed, with the MTU and the beginning of the packet', () => {
  const packet = large(4)
  const told = answer(packet) ?? assert.fail()
  assert.equal(told.length, 576)
  assert.equal(told.readUInt16BE(2), 576)
  assert.equal(slowChecksum(told.subarray(0, 20)), 0)
  assert.equal(slowChecksum(told.subarray(20)), 0)
  assert.deepEqual([...told.subarray(12, 20)], [198, 51, 100, 2, 192, 0, 2, 1])
  assert.deepEqual([...told.subarray(20, 22), ...told.subarray(24, 28)], [3, 4, 0, 0, 5, 0])
  assert.deepEqual(told.subarray(28), packet.subarray(0, 548))
})

test('IPv6 is told that the packet is too big, with as much of it as fits 1,280 bytes', () => {
  const packet = large(6)
  const told = answer(packet) ?? assert.fail()
  assert.equal(told.length, 1_280)
  assert.deepEqual([told[6], ...told.subarray(40, 42), ...told.subarray(44, 48)], [58, 2, 0, 0, 0, 5, 0])
  assert.deepEqual(told.subarray(8, 40), Buffer.concat([packet.subarray(24, 40), packet.subarray(8, 24)]))
  assert.equal(
    slowChecksum(Buffer.concat([told.subarray(8, 40), Buffer.from([0, 0, 4, 0xd8, 0, 0, 0, 58]), told.subarray(40)])),
    0,
  )
  assert.deepEqual(told.subarray(48), packet.subarray(0, 1_232))
})

test('errors, later fragments and packets of many or of nobody are never answered', () => {
  const silent4: readonly (readonly [number, readonly number[]])[][] = [
    ...[3, 4, 5, 11, 12]
      .map(
        type =>
          [
            [9, [1]],
            [20, [type]],
          ] as const,
      )
      .map(changes => [...changes]),
    [[6, [0x20, 100]]],
    ...[
      [224, 0, 0, 1],
      [255, 255, 255, 255],
      [0, 0, 0, 0],
    ].map(to => [[16, to] as const]),
    ...[
      [239, 0, 0, 1],
      [0, 0, 0, 0],
      [127, 0, 0, 1],
    ].map(from => [[12, from] as const]),
  ]
  for (const changes of silent4) assert.equal(answer(large(4, changes)), undefined, JSON.stringify(changes))
  for (const type of [1, 2, 3, 4, 127, 137])
    assert.equal(
      answer(
        large(6, [
          [6, [58]],
          [40, [type]],
        ]),
      ),
      undefined,
      `${type}`,
    )
  assert.equal(answer(large(6, [[24, [0xff, 2]]])), undefined)
  assert.equal(answer(large(6, [[8, Array(16).fill(0)]])), undefined)
  assert.ok(
    answer(
      large(4, [
        [9, [1]],
        [20, [8]],
      ]),
    ),
    'an echo request',
  )
  assert.ok(
    answer(
      large(6, [
        [6, [58]],
        [40, [128]],
      ]),
    ),
    'an echo request',
  )
  assert.ok(answer(large(4, [[6, [0x20, 0]]])), 'the first fragment')
})

test('no more than a hundred answers a second', () => {
  const answers = new TooBigAnswers()
  const count = (now: number, packets: number) =>
    Array.from({ length: packets }, () => answer(large(4), { answers, now })).filter(told => told !== undefined).length
  assert.equal(count(5_000, 300), 100)
  assert.equal(count(5_500, 300), 50)
  assert.equal(count(60_000, 300), 100)
})
