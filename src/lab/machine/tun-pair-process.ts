// Two TUN devices with offloads and between them nothing but what a tunnel does to packets, without its cryptography: what is
// read is cut into packets of at most one MTU, and these are joined again on the other side.
//
//   node src/lab/machine/tun-pair-process.ts '{ "namespace": "hoplite-x-b", "mtu": 1420 }'
//
// `hop0` is in the process's own network namespace, `hop1` in the other. It writes `ready` when both are there, and when its
// input ends a line of JSON with what it has seen.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { HEADROOM, Slab } from '#forward/slab.ts'
import { Coalescer } from '#packet/coalescer.ts'
import { IpPacket, parseIpPacket } from '#packet/ip-packet.ts'
import { clampSegmentSize } from '#packet/mss-clamp.ts'
import { Segmenter } from '#packet/segmenter.ts'
import { MAX_TOO_BIG_BYTES, TooBigAnswers } from '#packet/too-big.ts'
import { addressOf } from '#platform/linux/libc.ts'
import { EventLoop } from '#platform/linux/plane/event-loop.ts'
import { EIO, errno, IOVEC_BYTES, Memory, socketCalls } from '#platform/linux/socket-calls.ts'
import { openTun } from '#platform/linux/tun.ts'

const BATCH = 8
const READ_BYTES = 10 + 65_535
/** The packet behind the virtio header begins at a whole word. */
const READ_AT = 6
const MAX_VECTORS = 65

const { namespace, mtu } = JSON.parse(process.argv[2] ?? '') as { namespace: string; mtu: number }
const seen = {
  reads: 0,
  longestRead: 0,
  packets: 0,
  writes: 0,
  longestWrite: 0,
  cutSmaller: 0,
  tooBig: 0,
  faults: [] as string[],
}

/** Writes superpackets from where their pieces lie. */
class Writer {
  readonly #fd: number
  readonly #vectors = new Memory(MAX_VECTORS * IOVEC_BYTES)
  readonly #base: (buffer: Uint8Array) => number
  #count = 0
  #bytes = 0

  constructor(fd: number, base: (buffer: Uint8Array) => number) {
    this.#fd = fd
    this.#base = base
  }

  piece(buffer: Uint8Array, offset: number, length: number): void {
    this.#vectors.setPointer(this.#count * IOVEC_BYTES, this.#base(buffer) + offset)
    this.#vectors.setPointer(this.#count * IOVEC_BYTES + 8, length)
    this.#count++
    this.#bytes += length
  }

  end(): void {
    const written = socketCalls().writev(this.#fd, this.#vectors.pointer, this.#count)
    // A device that is down takes nothing.
    const isRefused = written !== this.#bytes && errno() !== EIO
    if (isRefused) seen.faults.push(`wrote ${written} of ${this.#bytes}`)
    seen.writes++
    seen.longestWrite = Math.max(seen.longestWrite, written)
    this.#count = 0
    this.#bytes = 0
  }
}

/** Carries packets from one device to the other. */
class Direction {
  readonly #from: number
  readonly #source = new Memory(65_556)
  readonly #slab = new Slab()
  readonly #base = Number(addressOf(this.#slab.buffer))
  readonly #segmenter = new Segmenter()
  readonly #packet = new IpPacket()
  readonly #tooBig = new TooBigAnswers()
  readonly #answer = new Memory(10 + MAX_TOO_BIG_BYTES + 2)
  readonly #coalescer: Coalescer

  constructor(from: number, to: number, joinsUdp: boolean) {
    this.#from = from
    this.#coalescer = new Coalescer({ joinsUdp, outlet: new Writer(to, () => this.#base) })
  }

  read(): void {
    const { bytes, address } = this.#source
    const at = BigInt(address + READ_AT)
    for (let i = 0; i < BATCH; i++) {
      const length = socketCalls().read(this.#from, at, READ_BYTES)
      if (length <= 0) break
      seen.reads++
      seen.longestRead = Math.max(seen.longestRead, length)
      this.#carry(bytes, length)
    }
    this.#coalescer.flush()
  }

  #carry(bytes: Uint8Array, length: number): void {
    const segmenter = this.#segmenter
    const fault = segmenter.begin(bytes, READ_AT, length, mtu)
    if (fault === 'tooBig') return this.#answerTooBig(bytes)
    if (fault !== undefined) seen.faults.push(fault)
    if (segmenter.isCutSmaller) seen.cutSmaller++
    while (segmenter.next > 0) {
      const at = this.#slab.take(segmenter.next) + HEADROOM
      const size = segmenter.write(this.#slab.buffer, at)
      parseIpPacket(this.#packet, this.#slab.buffer, at, size)
      clampSegmentSize(this.#slab.buffer, at, this.#packet, mtu)
      this.#coalescer.add(this.#slab.buffer, at, size)
      seen.packets++
    }
  }

  #answerTooBig(bytes: Uint8Array): void {
    seen.tooBig++
    const { packet, offset } = this.#segmenter
    const length = this.#tooBig.write(bytes, offset, packet, mtu, this.#answer.bytes, 10, performance.now())
    if (length > 0) socketCalls().write(this.#from, this.#answer.pointer, 10 + length)
  }
}

const [near, far] = [openTun({ name: 'hop0', offload: true }), openTun({ name: 'hop1', offload: true })]
execFileSync('ip', ['link', 'set', 'hop1', 'netns', namespace])
const loop = new EventLoop()
const [nearFd = -1, farFd = -1] = [near.fds[0], far.fds[0]]
const outward = new Direction(nearFd, farFd, far.offload === 'tcp and udp')
const inward = new Direction(farFd, nearFd, near.offload === 'tcp and udp')
loop.watch(nearFd, () => outward.read())
loop.watch(farFd, () => inward.read())
loop.watch(0, () => loop.stop())
fs.writeSync(1, 'ready\n')
loop.run({
  settle: () => {},
  deadline: () => Number.POSITIVE_INFINITY,
  handleDeadline: () => {},
  now: () => performance.now(),
})
near.close()
far.close()
fs.writeSync(1, `${JSON.stringify({ ...seen, offload: near.offload })}\n`)
