// Two workers in one thread: what is handed over, in which order, and what happens when there is no room.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Counters } from '#forward/counters.ts'
import { Slab } from '#forward/slab.ts'
import { type EventDescriptor, openEvent } from './event-descriptor.ts'
import type { EventLoop } from './event-loop.ts'
import { HandOver } from './hand-over.ts'
import { MAX_RING_PACKET_BYTES, RING_SLOTS } from './ring.ts'
import { WorkerMemory, type WorkerMemoryData } from './worker-memory.ts'

const skip = process.platform === 'linux' ? false : 'event descriptors need Linux'
const FROM = { host: '192.0.2.7', port: 4_711 }

class Worker {
  readonly counters = new Counters()
  readonly got: string[] = []
  readonly handOver: HandOver
  wake = () => {}

  constructor(worker: number, data: WorkerMemoryData, bells: readonly EventDescriptor[]) {
    const loop = { watch: (_fd: number, read: () => void) => (this.wake = read) } as unknown as EventLoop
    const memory = new WorkerMemory(data)
    const { counters } = this
    this.handOver = new HandOver({ memory, worker, bells: bells.map(({ fd }) => fd), counters, loop })
  }

  start(): void {
    const note = (what: string) => (buffer: Uint8Array, offset: number, length: number) => {
      this.got.push(
        `${what} ${Buffer.from(buffer.subarray(offset, offset + length))
          .toString('latin1')
          .slice(8)}`,
      )
    }
    this.handOver.start({
      slab: new Slab(),
      receive: (buffer, offset, length, { host, port }) => note(`${host} ${port}`)(buffer, offset, length),
      receiveFromMeeting: (to, from, buffer, offset, length) =>
        note(`${from.session}/${from.flow} to ${to.session}/${to.flow}`)(buffer, offset, length),
      receiveFromPort: note('port'),
      flush: () => {},
    })
  }
}

function pair(): { readonly one: Worker; readonly two: Worker } & Disposable {
  const data = WorkerMemory.make(2)
  const bells = [openEvent(), openEvent()]
  const [one, two] = [new Worker(0, data, bells), new Worker(1, data, bells)]
  one.start()
  return { one, two, [Symbol.dispose]: () => bells.forEach(bell => void bell.close()) }
}

function packet(index: number, text: string): Uint8Array {
  const bytes = Buffer.alloc(Math.max(8 + text.length, 32), ' ')
  bytes.set([4, 0, 0, 0, index, 0, 0, 0])
  bytes.write(text, 8, 'latin1')
  return bytes
}

test('what another owns is handed over in order, with where it came from', { skip }, () => {
  using workers = pair()
  const { one, two } = workers
  two.start()
  const give = (bytes: Uint8Array, from = FROM) => one.handOver.takeDatagram(bytes, 0, bytes.length, from)
  assert.equal(give(packet(2, 'mine')), false)
  assert.equal(give(packet(1, 'a packet of the other'.padEnd(24))), true)
  assert.equal(give(packet(3, 'from far away'.padEnd(24)), { host: '2001:db8::7', port: 9 }), true)
  one.handOver.takeMeeting(
    { session: 5, flow: 6, worker: 1 },
    { session: 7, flow: 8 },
    Buffer.from('12345678met'),
    0,
    11,
  )
  assert.equal(one.handOver.takePacket(77, Buffer.from('12345678x'), 0, 9), false)
  two.handOver.claimAddress(77)
  assert.equal(one.handOver.takePacket(77, Buffer.from('12345678tun'), 0, 11), true)
  one.handOver.signal()
  two.wake()
  assert.deepEqual(two.got, [
    '192.0.2.7 4711 a packet of the other   ',
    '2001:db8::7 9 from far away           ',
    '7/8 to 5/6 met',
    'port tun',
  ])
  two.handOver.releaseAddress(77)
  assert.equal(one.handOver.takePacket(77, Buffer.from('12345678x'), 0, 9), false)
  assert.equal(one.counters.get('handedOver'), 4)
})

test('handshakes are for the first worker, and what only looks like a packet is for nobody', { skip }, () => {
  using workers = pair()
  const { one, two } = workers
  two.start()
  const handshake = Buffer.alloc(40, 5)
  assert.equal(two.handOver.takeDatagram(handshake, 0, 40, FROM), true)
  assert.equal(one.handOver.takeDatagram(handshake, 0, 40, FROM), false)
  assert.equal(two.handOver.takeDatagram(packet(0, 'x'), 0, 31, FROM), false)
  one.wake()
  assert.equal(one.got.length, 1)
})

test('a full ring drops the newest and counts them, and takes more when it was read', { skip }, () => {
  using workers = pair()
  const { one, two } = workers
  two.start()
  const fill = () => {
    for (let i = 0; i < RING_SLOTS + 10; i++) {
      const bytes = packet(1, String(i).padStart(24))
      assert.equal(one.handOver.takeDatagram(bytes, 0, bytes.length, FROM), true)
    }
    one.handOver.signal()
  }
  const read = () => {
    for (let turns = 0; turns < 4; turns++) two.wake()
    return two.got.splice(0).map(text => Number(text.slice(15)))
  }
  const all = Array.from({ length: RING_SLOTS }, (_, i) => i)
  for (const round of [1, 2, 3]) {
    fill()
    assert.deepEqual(read(), all)
    assert.equal(one.counters.get('dropHandOver'), 10 * round)
  }
  assert.equal(one.counters.get('datagramsIn'), 30)
})

test('nothing is left for a worker that does not run, nor by one that died for the next', { skip }, () => {
  using workers = pair()
  const { one, two } = workers
  const bytes = packet(1, 'nobody')
  assert.equal(one.handOver.takeDatagram(bytes, 0, bytes.length, FROM), false)
  one.handOver.takeMeeting({ session: 1, flow: 1, worker: 1 }, { session: 2, flow: 2 }, bytes, 0, bytes.length)
  assert.equal(one.counters.get('dropHandOver'), 1)
  two.start()
  assert.equal(one.handOver.takeDatagram(bytes, 0, bytes.length, FROM), true)
  two.start()
  two.wake()
  assert.deepEqual(two.got, [])
})

test('what is longer than a slot is dropped and counted', { skip }, () => {
  using workers = pair()
  const { one, two } = workers
  two.start()
  const long = new Uint8Array(65_507)
  long.set([4, 0, 0, 0, 1])
  for (const length of [MAX_RING_PACKET_BYTES, MAX_RING_PACKET_BYTES + 1, long.length])
    assert.equal(one.handOver.takeDatagram(long, 0, length, FROM), true)
  two.wake()
  assert.equal(two.got.length, 1)
  assert.equal(one.counters.get('dropTooLong'), 2)
})
