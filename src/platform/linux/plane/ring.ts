// Packets on their way from one thread to another: a ring of slots in shared memory, with one writer and one reader.
//
//   offset size   field
//   0      4      slots read since the beginning, modulo 2^32: the reader's
//   64     4      slots written since the beginning: the writer's
//   128    2048 × SLOTS
//
//   slot   0      kind, u32       4  length, u32       8  40 bytes that belong to the kind       48  the packet
//
// The writer fills a slot and then counts it; the reader has done with a slot when it counts it. Who begins anew as the reader, after
// one that died, passes over what lies there.

const READ = 0
const WRITTEN = 16
const SLOTS_AT = 128
const SLOT_BYTES = 2_048
const HEADER_BYTES = 48
/** A power of two. */
const SLOTS = 256

export const RING_BYTES = SLOTS_AT + SLOTS * SLOT_BYTES
export const RING_SLOTS = SLOTS
/** The longest packet that a slot takes. */
export const MAX_RING_PACKET_BYTES = SLOT_BYTES - HEADER_BYTES
/** Words of a slot where what belongs to its kind begins. */
export const SLOT_NOTES = 2

export class Ring {
  readonly #counts: Int32Array
  /** All of the ring, as bytes and as words. */
  readonly bytes: Uint8Array
  readonly words: Uint32Array

  constructor(memory: SharedArrayBuffer, offset: number) {
    this.#counts = new Int32Array(memory, offset, SLOTS_AT / 4)
    this.bytes = new Uint8Array(memory, offset, RING_BYTES)
    this.words = new Uint32Array(memory, offset, RING_BYTES / 4)
  }

  /** Where the next slot begins, for its writer to note what its kind needs; -1 when the ring is full. */
  slot(): number {
    const written = Atomics.load(this.#counts, WRITTEN)
    if (((written - Atomics.load(this.#counts, READ)) | 0) >= SLOTS) return -1
    return slotAt(written)
  }

  /** Writes a packet into the slot that was given last, and hands it over. */
  put(slot: number, kind: number, buffer: Uint8Array, offset: number, length: number): void {
    this.words[slot >>> 2] = kind
    this.words[(slot >>> 2) + 1] = length
    this.bytes.set(buffer.subarray(offset, offset + length), slot + HEADER_BYTES)
    Atomics.add(this.#counts, WRITTEN, 1)
  }

  /** Where the oldest slot begins that has not been read; -1 when there is none. */
  oldest(): number {
    const read = Atomics.load(this.#counts, READ)
    return read === Atomics.load(this.#counts, WRITTEN) ? -1 : slotAt(read)
  }

  kind(slot: number): number {
    return this.words[slot >>> 2] ?? 0
  }

  length(slot: number): number {
    return Math.min(this.words[(slot >>> 2) + 1] ?? 0, MAX_RING_PACKET_BYTES)
  }

  /** Copies the packet of a slot. */
  copy(slot: number, to: Uint8Array, at: number): void {
    const start = slot + HEADER_BYTES
    to.set(this.bytes.subarray(start, start + this.length(slot)), at)
  }

  /** The oldest slot may be written again. */
  release(): void {
    Atomics.add(this.#counts, READ, 1)
  }

  /** Passes over everything that lies there. */
  clear(): void {
    Atomics.store(this.#counts, READ, Atomics.load(this.#counts, WRITTEN))
  }
}

function slotAt(count: number): number {
  return SLOTS_AT + (count & (SLOTS - 1)) * SLOT_BYTES
}
