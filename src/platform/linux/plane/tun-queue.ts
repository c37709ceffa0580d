// What was read from a TUN with offloads and is not cut yet. The kernel's own queue there is a plain one and says nothing of how
// long a packet waits in it, so it is emptied at once into this one, which is fair to flows and lets none stand.
//
//   TUN ──read──► a long slot ──superpacket──► stays there  ──┐
//                      └───────short packet──► a short slot ──┴──► FairQueue ──► take
//
// Bounds: 64 slots of 64 KiB and 1,024 of 2 KiB. When there is none left, the flow that has the most waiting loses its oldest.

import { copyInto } from '#bytes/copy.ts'
import type { Counters } from '#forward/counters.ts'
import { FairQueue } from '#packet/fair-queue.ts'
import { flowHash } from '#packet/flow-hash.ts'
import { IpPacket, parseIpPacket } from '#packet/ip-packet.ts'
import { VIRTIO_HEADER_BYTES } from '#packet/virtio-net-header.ts'
import { batchCalls, Memory, word } from '../socket-calls.ts'

const LONG_SLOTS = 64
const SHORT_SLOTS = 1_024
/** A superpacket of 64 KiB, and the virtio header before it. */
const LONG_BYTES = 65_536 + 16
const SHORT_BYTES = 2_048
/** So that the packet behind the virtio header lies on a word. */
const LEAD = 6
const LONG_STRIDE = LONG_BYTES + 16
const SHORT_STRIDE = SHORT_BYTES + 16
/** Packets read before other descriptors have their turn. */
const MAX_READS = 128

/** Where a packet with its virtio header lies. */
export interface Slot {
  readonly number: number
  readonly at: number
  length: number
  isShed: boolean
}

export class TunQueue {
  readonly #memory = new Memory(LONG_SLOTS * LONG_STRIDE + SHORT_SLOTS * SHORT_STRIDE)
  readonly #slots: readonly Slot[]
  readonly #pointers: readonly bigint[]
  /** The one that was used last is used next: it is still in the processor's cache. */
  readonly #long: Slot[]
  readonly #short: Slot[]
  readonly #queue = new FairQueue(LONG_SLOTS + SHORT_SLOTS)
  readonly #packet = new IpPacket()
  readonly #counters: Counters

  constructor(counters: Counters) {
    this.#counters = counters
    this.#slots = Array.from({ length: LONG_SLOTS + SHORT_SLOTS }, (_, number) => {
      const short = Math.max(number - LONG_SLOTS, 0)
      const at = Math.min(number, LONG_SLOTS) * LONG_STRIDE + short * SHORT_STRIDE + LEAD
      return { number, at, length: 0, isShed: false }
    })
    this.#long = this.#slots.slice(0, LONG_SLOTS)
    this.#short = this.#slots.slice(LONG_SLOTS)
    this.#pointers = this.#long.map(({ at }) => this.#memory.pointer + BigInt(at))
  }

  get length(): number {
    return this.#queue.length
  }

  /** The memory in which all slots lie. */
  get bytes(): Uint8Array {
    return this.#memory.bytes
  }

  /** Reads what the descriptor has. */
  fill(fd: number, now: number): void {
    for (let i = 0; i < MAX_READS; i++) {
      const slot = this.#long.pop() ?? this.#makeRoom()
      const pointer = this.#pointers[slot.number] ?? 0n
      slot.length = batchCalls().read(word(fd), pointer, BIG_LONG_BYTES)
      if (slot.length <= VIRTIO_HEADER_BYTES) {
        this.#long.push(slot)
        return
      }
      this.#add(this.#shortened(slot), now)
    }
  }

  /** The slot whose turn it is, which the caller gives back with `free`; undefined when there is none. */
  take(now: number): Slot | undefined {
    const number = this.#queue.take(now)
    const slot = this.#slots[number]
    if (slot !== undefined) slot.isShed = this.#queue.isShed
    return slot
  }

  free(slot: Slot): void {
    if (slot.number < LONG_SLOTS) this.#long.push(slot)
    else this.#short.push(slot)
  }

  #add(slot: Slot, now: number): void {
    const { bytes } = this.#memory
    const at = slot.at + VIRTIO_HEADER_BYTES
    const fault = parseIpPacket(this.#packet, bytes, at, slot.length - VIRTIO_HEADER_BYTES)
    const hash = fault === undefined ? flowHash(bytes, at, this.#packet) : 0
    this.#queue.add(slot.number, hash, slot.length, now)
  }

  /** Moves a short packet to a short slot, if there is one. */
  #shortened(slot: Slot): Slot {
    const short = slot.length <= SHORT_BYTES ? this.#short.pop() : undefined
    if (short === undefined) return slot
    const { bytes } = this.#memory
    copyInto(bytes, slot.at, slot.length, bytes, short.at)
    short.length = slot.length
    this.#long.push(slot)
    return short
  }

  #makeRoom(): Slot {
    for (;;) {
      const slot = this.#slots[this.#queue.takeFattest()]
      if (slot === undefined) throw new Error('make room in the queue of a TUN: nothing is in it')
      this.#counters.add('dropStandingQueue')
      if (slot.number < LONG_SLOTS) return slot
      this.#short.push(slot)
    }
  }
}

const BIG_LONG_BYTES = BigInt(LONG_BYTES)
