// A TUN's descriptor in the data plane's loop: reads superpackets and cuts them, joins packets and writes superpackets.
//
//   TUN ──read──► queue, fair to flows ──segmenter──► slab, with room for every layer ──► onPacket
//   packets that lie where they were opened ──coalescer──► writev ──► TUN
//
// Without offloads each packet is read and written by itself.

import type { TunOffload } from '#forward/commands.ts'
import type { Counters } from '#forward/counters.ts'
import { HEADROOM, type Slab } from '#forward/slab.ts'
import { Coalescer, type CoalescerOutlet } from '#packet/coalescer.ts'
import { markCongestion } from '#packet/congestion-mark.ts'
import { Segmenter } from '#packet/segmenter.ts'
import { fileCalls } from '../libc.ts'
import { batchCalls, IOVEC_BYTES, Memory, word } from '../socket-calls.ts'
import type { EventLoop } from './event-loop.ts'
import type { KnownBuffers } from './send-queue.ts'
import { TunQueue } from './tun-queue.ts'

/** Packets given before other descriptors have their turn, more or less: a good millisecond. Smaller turns make smaller batches. */
const TURN_PACKETS = 768
/** What the slab holds many times over. */
const FLUSH_PACKETS = 256
const MAX_PIECES = 64
const MAX_PACKET_BYTES = 65_535

export interface TunPortOptions {
  readonly fd: number
  readonly offload: TunOffload
  /** The longest packet that is given to `onPacket`, in bytes, until `limit` says otherwise. */
  readonly mtu: number
  readonly slab: Slab
  readonly known: KnownBuffers
  readonly counters: Counters
  readonly loop: EventLoop
  /** A packet to be sealed where it lies, with `HEADROOM` before it. */
  readonly onPacket: (buffer: Uint8Array, offset: number, length: number) => void
  /** A packet that is longer than `mtu` and cannot be cut; it is as it was read. Without this it is dropped. */
  readonly onTooBig?: (buffer: Uint8Array, offset: number, length: number) => void
  /** Sends what waits. */
  readonly flush: () => void
  readonly now: () => number
}

export class TunPort implements CoalescerOutlet {
  readonly #options: TunPortOptions
  readonly #hasOffload: boolean
  readonly #queue: TunQueue | undefined
  readonly #pieces = new Memory(MAX_PIECES * IOVEC_BYTES)
  readonly #segmenter = new Segmenter()
  readonly #coalescer: Coalescer
  #mtu: number
  #count = 0
  #bytes = 0

  constructor(options: TunPortOptions) {
    this.#options = options
    const { fd, offload, loop } = options
    this.#hasOffload = offload !== 'none'
    this.#mtu = options.mtu
    this.#coalescer = new Coalescer({ outlet: this, joinsUdp: offload === 'tcp and udp' })
    if (this.#hasOffload) this.#queue = new TunQueue(options.counters)
    loop.watch(fd, () => this.#readAll())
  }

  /** Takes a packet that lies in known memory until `flush`, with 10 bytes before it that may be written over. */
  write(buffer: Uint8Array, offset: number, length: number): void {
    const { fd, known, counters } = this.#options
    if (this.#hasOffload) {
      if (this.#coalescer.add(buffer, offset, length) !== undefined) counters.add('dropTunnel')
      return
    }
    const address = known.find(buffer)
    const written = address === undefined ? -1 : batchCalls().write(word(fd), BigInt(address + offset), word(length))
    if (written !== length) counters.add('dropTunnel')
  }

  /** Hands every packet that was taken to the kernel. */
  flush(): void {
    if (this.#hasOffload) this.#coalescer.flush()
  }

  /** Gives packets of at most `mtu` bytes from now on. */
  limit(mtu: number): void {
    this.#mtu = mtu
  }

  close(): void {
    const { fd, loop } = this.#options
    loop.unwatch(fd)
    fileCalls().close(fd)
  }

  piece(buffer: Uint8Array, offset: number, length: number): void {
    const address = this.#options.known.find(buffer) ?? 0
    this.#pieces.setPointer(this.#count * IOVEC_BYTES, address + offset)
    this.#pieces.setPointer(this.#count * IOVEC_BYTES + 8, length)
    this.#count++
    this.#bytes += length
  }

  end(): void {
    const { fd, counters } = this.#options
    const written = batchCalls().writev(word(fd), this.#pieces.pointer, word(this.#count))
    if (written !== this.#bytes) counters.add('dropTunnel', this.#count)
    this.#count = 0
    this.#bytes = 0
  }

  /** True when packets wait that are read already. */
  #readAll(): boolean {
    const queue = this.#queue
    if (queue === undefined) this.#readWhole()
    else this.#readCut(queue)
    this.#options.flush()
    return queue !== undefined && queue.length > 0
  }

  #readCut(queue: TunQueue): void {
    const { fd, counters, onTooBig, flush, now } = this.#options
    const segmenter = this.#segmenter
    queue.fill(fd, now())
    let unsent = 0
    for (let packets = 0; packets < TURN_PACKETS; ) {
      const slot = queue.take(now())
      if (slot === undefined) return
      const fault = segmenter.begin(queue.bytes, slot.at, slot.length, this.#mtu)
      if (fault === 'tooBig' && onTooBig) onTooBig(queue.bytes, segmenter.offset, segmenter.packet.length)
      else if (fault !== undefined) counters.add('dropTunnel')
      const cut = this.#cut(slot.isShed)
      queue.free(slot)
      packets += cut
      unsent += cut
      if (unsent >= FLUSH_PACKETS) {
        flush()
        unsent = 0
      }
    }
  }

  /** Gives the segments of what was begun, the first marked or left out if it is to be shed; their number, at least 1. */
  #cut(isShed: boolean): number {
    const { slab, counters, onPacket } = this.#options
    const segmenter = this.#segmenter
    let packets = 0
    for (; segmenter.next > 0; packets++) {
      const at = slab.take(segmenter.next) + HEADROOM
      const length = segmenter.write(slab.buffer, at)
      if (isShed && packets === 0) {
        const isMarked = markCongestion(slab.buffer, at)
        counters.add(isMarked ? 'markedCongestion' : 'dropStandingQueue')
        if (!isMarked) continue
      }
      onPacket(slab.buffer, at, length)
    }
    return Math.max(packets, 1)
  }

  #readWhole(): void {
    const { fd, slab, known, onPacket, onTooBig } = this.#options
    const mtu = this.#mtu
    for (let i = 0; i < TURN_PACKETS; i++) {
      const at = slab.take(MAX_PACKET_BYTES) + HEADROOM
      const address = BigInt((known.find(slab.buffer) ?? 0) + at)
      const length = batchCalls().read(word(fd), address, word(MAX_PACKET_BYTES))
      slab.giveBack(MAX_PACKET_BYTES)
      if (length <= 0) return
      // Of a longer one no more is needed than fits.
      slab.take(Math.min(length, mtu))
      if (length > mtu && onTooBig) onTooBig(slab.buffer, at, length)
      else onPacket(slab.buffer, at, length)
    }
  }
}
