import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Counters } from '#forward/counters.ts'
import { makePacket } from '#lab/packets.ts'
import { VIRTIO_HEADER_BYTES } from '#packet/virtio-net-header.ts'
import {
  batchCalls,
  Memory,
  openPair,
  SO_SNDBUFFORCE,
  SOL_SOCKET,
  setOption,
  socketCalls,
  word,
} from '../socket-calls.ts'
import { TunQueue } from './tun-queue.ts'

/** A descriptor that gives packets whole, as a TUN does, and another to put them in. */
class Pipe {
  readonly near: number
  readonly #far: number
  readonly #memory = new Memory(70_000)

  constructor() {
    const [near, far] = openPair()
    this.near = near
    this.#far = far
    setOption(this.#far, SOL_SOCKET, SO_SNDBUFFORCE, 16_000_000)
  }

  /** Puts a packet in, whose port is that of a flow; false when there is no room. */
  put(port: number, payloadBytes: number): boolean {
    const packet = Buffer.from(makePacket({ version: 4, protocol: 'udp', payload: Buffer.alloc(payloadBytes, port) }))
    packet.writeUInt16BE(port, 20)
    this.#memory.bytes.fill(0, 0, VIRTIO_HEADER_BYTES)
    this.#memory.bytes.set(packet, VIRTIO_HEADER_BYTES)
    const length = VIRTIO_HEADER_BYTES + packet.length
    return batchCalls().write(word(this.#far), this.#memory.pointer, word(length)) === length
  }

  close(): void {
    socketCalls().close(this.near)
    socketCalls().close(this.#far)
  }
}

function world() {
  const counters = new Counters()
  const queue = new TunQueue(counters)
  const pipe = new Pipe()
  /** Ports and payload bytes of what leaves. */
  const drain = () => {
    const seen: [number, number][] = []
    for (let slot = queue.take(0); slot !== undefined; slot = queue.take(0)) {
      const at = slot.at + VIRTIO_HEADER_BYTES
      const bytes = Buffer.from(queue.bytes.subarray(at, at + slot.length - VIRTIO_HEADER_BYTES))
      const port = bytes.readUInt16BE(20)
      assert.ok(bytes.subarray(28).every(byte => byte === port % 256))
      seen.push([port, bytes.length - 28])
      queue.free(slot)
    }
    return seen
  }
  return { counters, queue, pipe, drain }
}

const isLinux = process.platform === 'linux' ? undefined : 'needs Linux'

test('packets long and short come out as they went in, again and again', { skip: isLinux }, () => {
  const { queue, pipe, drain, counters } = world()
  for (let round = 0; round < 300; round++) {
    assert.ok(pipe.put(1, 60_000 - round) && pipe.put(2, round) && pipe.put(1, 2_010 + round) && pipe.put(2, 5))
    queue.fill(pipe.near, 0)
    const seen = drain()
    assert.deepEqual(
      [1, 2].map(port => seen.filter(([of]) => of === port).map(([, bytes]) => bytes)),
      [
        [60_000 - round, 2_010 + round],
        [round, 5],
      ],
    )
  }
  assert.equal(counters.get('dropStandingQueue'), 0)
  pipe.close()
})

test('a burst of a thousand short packets is kept whole', { skip: isLinux }, () => {
  const { queue, pipe, drain, counters } = world()
  let sent = 0
  while (sent < 1_000) {
    while (sent < 1_000 && pipe.put(7, 1_200)) sent++
    queue.fill(pipe.near, 0)
  }
  for (let i = 0; i < 10; i++) queue.fill(pipe.near, 0)
  assert.equal(queue.length, 1_000)
  assert.equal(drain().length, 1_000)
  assert.equal(counters.get('dropStandingQueue'), 0)
  pipe.close()
})

test('who fills it with superpackets loses some, and a packet of somebody else finds room and goes first', {
  skip: isLinux,
}, () => {
  const { queue, pipe, drain, counters } = world()
  for (let i = 0; i < 100; i++) {
    assert.ok(pipe.put(3, 60_000 + i))
    queue.fill(pipe.near, 0)
  }
  const first = queue.take(0)
  if (first !== undefined) queue.free(first)
  assert.ok(pipe.put(4, 10))
  queue.fill(pipe.near, 0)
  const seen = drain()
  assert.deepEqual(seen[0], [4, 10])
  assert.deepEqual(seen.at(-1), [3, 60_099], 'the oldest are lost')
  assert.equal(counters.get('dropStandingQueue'), 100 - seen.length)
  pipe.close()
})
