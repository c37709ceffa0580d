// Packets that wait, fairly: each flow has a queue of its own, all take turns by bytes, and a flow that sends little has the
// first turn (FQ-CoDel, RFC 8290, whose numbers these are). A call does not wait behind a download.
//
//   add(slot, flow, …) ──► flow's queue, by hash ──► flows that are new ──┐
//                                                    flows of before ─────┴─► take() ──► slot, and whether it is to be shed
//
// It knows packets by the number of the slot that they lie in, and nothing of what is in them. All tables are of fixed size;
// nothing is made for a packet.

import { Codel } from './codel.ts'

const FLOWS = 256
/** 2^32 divided by the golden ratio: spreads what hashes differ in over the upper byte, which has as many values as there are flows. */
const MIX = 0x9e3779b1
/** What a flow may send in one turn, in bytes: a quarter of the longest superpacket. */
const QUANTUM_BYTES = 16_384
const NONE = -1

class Flow {
  head = NONE
  tail = NONE
  bytes = 0
  deficit = 0
  next: Flow | undefined
  isListed = false
  readonly codel = new Codel()
}

/** Flows that take turns, first in, first out. */
class Turns {
  first: Flow | undefined
  #last: Flow | undefined

  add(flow: Flow): void {
    flow.next = undefined
    if (this.#last === undefined) this.first = flow
    else this.#last.next = flow
    this.#last = flow
  }

  remove(): void {
    this.first = this.first?.next
    if (this.first === undefined) this.#last = undefined
  }
}

export class FairQueue {
  /** Whether the packet taken last is to be shed. */
  isShed = false
  #length = 0
  readonly #flows = Array.from({ length: FLOWS }, () => new Flow())
  readonly #new = new Turns()
  readonly #old = new Turns()
  /** Of each slot: the one behind it, its bytes, and when it came. */
  readonly #behind: Int32Array
  readonly #bytes: Int32Array
  readonly #sinceMs: Float64Array

  /** @param slots how many packets there can be at most */
  constructor(slots: number) {
    this.#behind = new Int32Array(slots)
    this.#bytes = new Int32Array(slots)
    this.#sinceMs = new Float64Array(slots)
  }

  get length(): number {
    return this.#length
  }

  /** Adds the packet in `slot`, which is not in the queue; `hash` is any number that packets of one flow have in common. */
  add(slot: number, hash: number, bytes: number, now: number): void {
    const flow = this.#flows[Math.imul(hash, MIX) >>> 24] as Flow
    this.#behind[slot] = NONE
    this.#bytes[slot] = bytes
    this.#sinceMs[slot] = now
    if (flow.tail === NONE) flow.head = slot
    else this.#behind[flow.tail] = slot
    flow.tail = slot
    flow.bytes += bytes
    this.#length++
    if (flow.isListed) return
    flow.isListed = true
    flow.deficit = QUANTUM_BYTES
    this.#new.add(flow)
  }

  /** Takes the slot whose turn it is, and says in `isShed` what is to become of it; -1 when there is none. */
  take(now: number): number {
    for (;;) {
      const turns = this.#new.first === undefined ? this.#old : this.#new
      const flow = turns.first
      if (flow === undefined) return NONE
      if (flow.deficit <= 0 && flow.head !== NONE) {
        flow.deficit += QUANTUM_BYTES
        turns.remove()
        this.#old.add(flow)
      } else if (flow.head === NONE) {
        turns.remove()
        // One that was new has a turn among the old: else it would be new with every packet.
        if (turns === this.#new && this.#old.first !== undefined) this.#old.add(flow)
        else flow.isListed = false
      } else {
        const slot = this.#remove(flow)
        flow.deficit -= this.#bytes[slot] ?? 0
        this.isShed = flow.codel.sheds(now - (this.#sinceMs[slot] ?? 0), flow.head === NONE, now)
        return slot
      }
    }
  }

  /** Takes the oldest packet of the flow with the most bytes, to be dropped: there is no room. -1 when there is none. */
  takeFattest(): number {
    let fattest = this.#flows[0] as Flow
    for (const flow of this.#flows) if (flow.bytes > fattest.bytes) fattest = flow
    return fattest.head === NONE ? NONE : this.#remove(fattest)
  }

  #remove(flow: Flow): number {
    const slot = flow.head
    flow.head = this.#behind[slot] ?? NONE
    if (flow.head === NONE) flow.tail = NONE
    flow.bytes -= this.#bytes[slot] ?? 0
    this.#length--
    return slot
  }
}
