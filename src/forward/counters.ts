// What the data plane counts. One array of doubles in shared memory: workers add, the control plane reads.

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
  'markedCongestion',
  'roamed',
] as const
export type Counter = (typeof COUNTERS)[number]

const POSITION = Object.fromEntries(COUNTERS.map((name, i) => [name, i])) as Record<Counter, number>

export class Counters {
  readonly values: Float64Array

  /** @param shared memory of `Counters.bytes` bytes made by another thread; new memory without it */
  constructor(shared: SharedArrayBuffer = new SharedArrayBuffer(Counters.bytes)) {
    this.values = new Float64Array(shared)
  }

  static readonly bytes = COUNTERS.length * 8

  get shared(): SharedArrayBuffer {
    return this.values.buffer as SharedArrayBuffer
  }

  add(name: Counter, by = 1): void {
    const i = POSITION[name]
    this.values[i] = (this.values[i] ?? 0) + by
  }

  get(name: Counter): number {
    return this.values[POSITION[name]] ?? 0
  }

  /** Every counter by name. */
  snapshot(): Record<Counter, number> {
    return Object.fromEntries(COUNTERS.map((name, i) => [name, this.values[i] ?? 0])) as Record<Counter, number>
  }
}
