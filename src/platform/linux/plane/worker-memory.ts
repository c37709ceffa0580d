// What the workers of one data plane share, beside their counters.
//
//   cells    for each worker: whether it runs, whether its bell has been rung, its thread's id; then what may be lent
//   owners   for each inside address of an exit: its worker and one, 0 without one
//   descriptors   for each worker: what it has open (thread-descriptors.ts)
//   rings    for each pair of workers: what the one has handed to the other (hand-over.ts)

import { SharedTokenBucket } from '#forward/token-bucket.ts'
import { MAX_WORKERS } from '#forward/workers.ts'
import { RING_BYTES, Ring } from './ring.ts'
import { THREAD_DESCRIPTORS_BYTES, ThreadDescriptors } from './thread-descriptors.ts'

const RUNS = 0
const RUNG = MAX_WORKERS
const THREAD = 2 * MAX_WORKERS
const LENT = 3 * MAX_WORKERS
/** IPv4 and IPv6 addresses by their last two bytes, in which all of one network differ. */
const OWNERS = 2 * 65_536

/** As it crosses to a thread. Pages that nobody wrote to take no memory. */
export interface WorkerMemoryData {
  readonly workers: number
  readonly cells: SharedArrayBuffer
  readonly owners: SharedArrayBuffer
  readonly rings: SharedArrayBuffer
  readonly descriptors: SharedArrayBuffer
}

export class WorkerMemory {
  readonly workers: number
  readonly lent: Int32Array
  readonly owners: Uint8Array
  readonly #cells: Int32Array
  readonly #rings: SharedArrayBuffer
  readonly #descriptors: SharedArrayBuffer

  constructor({ workers, cells, owners, rings, descriptors }: WorkerMemoryData) {
    this.workers = workers
    this.#cells = new Int32Array(cells)
    this.lent = this.#cells.subarray(LENT, LENT + SharedTokenBucket.cells)
    this.owners = new Uint8Array(owners)
    this.#rings = rings
    this.#descriptors = descriptors
  }

  static make(workers: number): WorkerMemoryData {
    return {
      workers,
      cells: new SharedArrayBuffer((LENT + SharedTokenBucket.cells) * 4),
      owners: new SharedArrayBuffer(OWNERS),
      rings: new SharedArrayBuffer(workers * workers * RING_BYTES),
      descriptors: new SharedArrayBuffer(workers * THREAD_DESCRIPTORS_BYTES),
    }
  }

  ring(from: number, to: number): Ring {
    return new Ring(this.#rings, (from * this.workers + to) * RING_BYTES)
  }

  descriptors(worker: number): ThreadDescriptors {
    return new ThreadDescriptors(this.#descriptors, worker * THREAD_DESCRIPTORS_BYTES)
  }

  runs(worker: number): boolean {
    return Atomics.load(this.#cells, RUNS + worker) === 1
  }

  setRuns(worker: number, runs: boolean): void {
    Atomics.store(this.#cells, RUNS + worker, runs ? 1 : 0)
  }

  /** Marks the worker's bell as rung; whether it was not. */
  markRung(worker: number): boolean {
    return Atomics.exchange(this.#cells, RUNG + worker, 1) === 0
  }

  quieten(worker: number): void {
    Atomics.store(this.#cells, RUNG + worker, 0)
  }

  /** The kernel's id of the worker's thread; 0 before it runs. */
  thread(worker: number): number {
    return Atomics.load(this.#cells, THREAD + worker)
  }

  setThread(worker: number, id: number): void {
    Atomics.store(this.#cells, THREAD + worker, id)
  }
}
