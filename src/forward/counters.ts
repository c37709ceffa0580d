// What the data plane counts: doubles in shared memory, a row for each worker, who alone adds to it. Whoever reads sums them up.

export const COUNTERS = [
  'datagramsIn',
  'datagramsOut',
  'bytesIn',
  'bytesOut',
  'framesOpened',
  'lentBytesOut',
  'lentBytesIn',
  'dropTooShort',
  'dropTooLong',
  'dropUnknownType',
  'dropUnknownSession',
  'dropReplayed',
  'dropForged',
  'dropUnknownFrame',
  'dropUnknownFlow',
  'dropUnproven',
  'dropFlowType',
  'dropRateLimit',
  'dropUnpaid',
  'dropNoLeg',
  'dropNotWireGuard',
  'dropTunnel',
  'dropNoFlow',
  'dropMalformed',
  'dropSpoofed',
  'dropTooBig',
  'dropNoKeys',
  'dropCounterExhausted',
  'dropNotAllowed',
  'dropHandshakeQueue',
  'dropHandshakeLength',
  'dropStandingQueue',
  'dropSendQueue',
  'dropSendError',
  'dropTooDeep',
  'dropHandOver',
  'handedOver',
  'noDescriptor',
  'markedCongestion',
  'roamed',
] as const
export type Counter = (typeof COUNTERS)[number]

const POSITION = Object.fromEntries(COUNTERS.map((name, i) => [name, i])) as Record<Counter, number>

/** Rows begin on cache lines of their own. */
const ROW_BYTES = Math.ceil((COUNTERS.length * 8) / 128) * 128

export class Counters {
  readonly shared: SharedArrayBuffer
  readonly #rows: readonly Float64Array[]
  readonly #own: Float64Array

  /**
   * @param shared memory made by `Counters.memory`, in another thread; new memory of one row without it
   * @param row the one that is added to
   */
  constructor(shared: SharedArrayBuffer = Counters.memory(1), row = 0) {
    this.shared = shared
    const rows = Math.floor(shared.byteLength / ROW_BYTES)
    this.#rows = Array.from({ length: rows }, (_, i) => new Float64Array(shared, i * ROW_BYTES, COUNTERS.length))
    this.#own = this.#rows[row] ?? new Float64Array(COUNTERS.length)
  }

  /** Memory for so many workers. */
  static memory(workers: number): SharedArrayBuffer {
    return new SharedArrayBuffer(workers * ROW_BYTES)
  }

  add(name: Counter, by = 1): void {
    const i = POSITION[name]
    this.#own[i] = (this.#own[i] ?? 0) + by
  }

  /** All workers together. */
  get(name: Counter): number {
    const i = POSITION[name]
    let sum = 0
    for (const row of this.#rows) sum += row[i] ?? 0
    return sum
  }

  /** Every counter by name, all workers together. */
  snapshot(): Record<Counter, number> {
    return Object.fromEntries(COUNTERS.map(name => [name, this.get(name)])) as Record<Counter, number>
  }
}
