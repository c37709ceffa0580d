// What a worker got and another owns: it is copied into a ring between the two, and the owner's bell is rung once the batch is
// through. No other thread has a part in it.
//
// It is rare, for the kernel steers by owner: a datagram of another session may come joined to one of ours (GRO), a TUN's queue may
// have a packet for another worker's client, and two clients that meet at a relay may be with two workers.

import type { MeetingEnd } from '#forward/commands.ts'
import type { Counters } from '#forward/counters.ts'
import { HEADROOM, type Slab } from '#forward/slab.ts'
import { type OtherWorkers, workerOf } from '#forward/workers.ts'
import type { Address } from '#wire/address.ts'
import { isTransport, receiverIndex, TRANSPORT_TYPE } from '#wire/transport.ts'
import { AddressBook } from '../socket-address.ts'
import { Memory, socketCalls } from '../socket-calls.ts'
import type { EventLoop } from './event-loop.ts'
import { MAX_RING_PACKET_BYTES, type Ring, SLOT_NOTES } from './ring.ts'
import { encodeOnce } from './send-queue.ts'
import type { WorkerMemory } from './worker-memory.ts'

const KIND = { datagram: 1, meeting: 2, packet: 3 } as const
/** Packets from one worker before others have their turn. */
const MAX_BATCH = 128

export interface HandOverOptions {
  readonly memory: WorkerMemory
  /** This worker. */
  readonly worker: number
  /** Every worker's event descriptor. */
  readonly bells: readonly number[]
  readonly counters: Counters
  readonly loop: EventLoop
}

/** Who gets what others hand to this worker; it lies in the slab, with room around it for every layer. */
export interface HandOverOutlet {
  readonly slab: Slab
  receive(buffer: Uint8Array, offset: number, length: number, from: Address): void
  receiveFromMeeting(to: MeetingEnd, from: MeetingEnd, buffer: Uint8Array, offset: number, length: number): void
  receiveFromPort(buffer: Uint8Array, offset: number, length: number): void
  /** Sends what waits: the slab is used again. */
  flush(): void
}

export class HandOver implements OtherWorkers {
  readonly lent: Int32Array
  readonly #options: HandOverOptions
  readonly #outward: readonly Ring[]
  readonly #inward: readonly Ring[]
  readonly #waiting: boolean[]
  readonly #book = new AddressBook()
  readonly #bell = new Memory(8)
  #hasWaiting = false

  constructor(options: HandOverOptions) {
    this.#options = options
    const { memory, worker } = options
    const all = Array.from({ length: memory.workers }, (_, other) => other)
    this.#outward = all.map(other => memory.ring(worker, other))
    this.#inward = all.map(other => memory.ring(other, worker))
    this.#waiting = all.map(() => false)
    this.lent = memory.lent
  }

  /** Takes from now on what others hand over; what lies there was for a worker that is no more. */
  start(outlet: HandOverOutlet): void {
    const { memory, worker, bells, loop } = this.#options
    for (const ring of this.#inward) ring.clear()
    const bell = bells[worker] ?? -1
    const hear = () => {
      socketCalls().read(bell, this.#bell.pointer, 8)
      memory.quieten(worker)
      this.#receive(outlet)
    }
    loop.watch(bell, hear, false)
    memory.quieten(worker)
    memory.setRuns(worker, true)
  }

  takeDatagram(buffer: Uint8Array, offset: number, length: number, from: Address): boolean {
    const { memory, worker } = this.#options
    const isPacket = isTransport(buffer, offset, length)
    // What only looks like a packet is nobody's: each counts what it got.
    if (!isPacket && buffer[offset] === TRANSPORT_TYPE) return false
    const owner = isPacket ? workerOf(receiverIndex(buffer, offset), memory.workers) : 0
    // A worker that does not run has no session.
    if (owner === worker || (isPacket && !memory.runs(owner))) return false
    const ring = this.#outward[owner] as Ring
    const slot = this.#slot(owner, length)
    if (slot < 0) {
      this.#options.counters.add('datagramsIn')
      this.#options.counters.add('bytesIn', length)
      return true
    }
    const name = encodeOnce(from)
    ring.bytes.set(name, slot + SLOT_NOTES * 4)
    this.#put(owner, slot, KIND.datagram, buffer, offset, length)
    return true
  }

  takeMeeting(to: MeetingEnd, from: MeetingEnd, buffer: Uint8Array, offset: number, length: number): void {
    const owner = to.worker ?? 0
    const slot = this.#slot(owner, length)
    if (slot < 0) return
    const { words } = this.#outward[owner] as Ring
    const notes = (slot >>> 2) + SLOT_NOTES
    words[notes] = to.session
    words[notes + 1] = to.flow
    words[notes + 2] = from.session
    words[notes + 3] = from.flow
    this.#put(owner, slot, KIND.meeting, buffer, offset, length)
  }

  takePacket(key: number, buffer: Uint8Array, offset: number, length: number): boolean {
    const { memory, worker } = this.#options
    const owner = (memory.owners[key] ?? 0) - 1
    if (owner < 0 || owner === worker) return false
    const slot = this.#slot(owner, length)
    if (slot >= 0) this.#put(owner, slot, KIND.packet, buffer, offset, length)
    return true
  }

  claimAddress(key: number): void {
    this.#options.memory.owners[key] = this.#options.worker + 1
  }

  releaseAddress(key: number): void {
    const { memory, worker } = this.#options
    if (memory.owners[key] === worker + 1) memory.owners[key] = 0
  }

  /** Rings the bells of those who got something. */
  signal(): void {
    if (!this.#hasWaiting) return
    this.#hasWaiting = false
    for (let worker = 0; worker < this.#waiting.length; worker++) {
      if (this.#waiting[worker] !== true) continue
      this.#waiting[worker] = false
      this.#ringBell(worker)
    }
  }

  /** Where to put a packet for `owner`; -1, and counted, where there is no room. */
  #slot(owner: number, length: number): number {
    const { memory, counters } = this.#options
    const isTooLong = length > MAX_RING_PACKET_BYTES
    const slot = isTooLong || !memory.runs(owner) ? -1 : (this.#outward[owner]?.slot() ?? -1)
    if (slot < 0) counters.add(isTooLong ? 'dropTooLong' : 'dropHandOver')
    return slot
  }

  #put(owner: number, slot: number, kind: number, buffer: Uint8Array, offset: number, length: number): void {
    this.#outward[owner]?.put(slot, kind, buffer, offset, length)
    this.#waiting[owner] = true
    this.#hasWaiting = true
    this.#options.counters.add('handedOver')
  }

  #ringBell(worker: number): void {
    const { memory, bells } = this.#options
    if (!memory.markRung(worker)) return
    this.#bell.words[0] = 1
    this.#bell.words[1] = 0
    socketCalls().write(bells[worker] ?? -1, this.#bell.pointer, 8)
  }

  #receive(outlet: HandOverOutlet): void {
    let isMore = false
    for (const ring of this.#inward) {
      for (let i = 0; ; i++) {
        const slot = ring.oldest()
        if (slot < 0) break
        isMore = i === MAX_BATCH || isMore
        if (i === MAX_BATCH) break
        this.#deliver(ring, slot, outlet)
        ring.release()
      }
      outlet.flush()
    }
    if (isMore) this.#ringBell(this.#options.worker)
  }

  #deliver(ring: Ring, slot: number, outlet: HandOverOutlet): void {
    const { slab } = outlet
    const length = ring.length(slot)
    const at = slab.take(length) + HEADROOM
    ring.copy(slot, slab.buffer, at)
    const { words } = ring
    const notes = (slot >>> 2) + SLOT_NOTES
    switch (ring.kind(slot)) {
      case KIND.datagram:
        return outlet.receive(slab.buffer, at, length, this.#book.find(ring.bytes, words, notes * 4))
      case KIND.meeting: {
        const to = { session: words[notes] ?? 0, flow: words[notes + 1] ?? 0 }
        const from = { session: words[notes + 2] ?? 0, flow: words[notes + 3] ?? 0 }
        return outlet.receiveFromMeeting(to, from, slab.buffer, at, length)
      }
      default:
        return outlet.receiveFromPort(slab.buffer, at, length)
    }
  }
}
