// What the data plane counts. One array of doubles in shared memory: workers add, the control plane reads.

export const COUNTERS = [
  'datagramsIn',
  'datagramsOut',
  'bytesIn',
  'bytesOut',
  'framesOpened',
  'wireGuardBytesOut',
  'wireGuardBytesIn',
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
  'dropNoKeys',
  'dropCounterExhausted',
  'dropNotAllowed',
  'dropHandshakeQueue',
  'dropHandshakeLength',
  'dropSendQueue',
  'dropSendError',
  'dropTooDeep',
  'roamed',
] as const
export type Counter = (typeof COUNTERS)[number]

const POSITION = new Map<string, number>(COUNTERS.map((name, i) => [name, i]))

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
    const i = POSITION.get(name) ?? 0
    this.values[i] = (this.values[i] ?? 0) + by
  }

  get(name: Counter): number {
    return this.values[POSITION.get(name) ?? 0] ?? 0
  }

  /** Every counter by name. */
  snapshot(): Record<Counter, number> {
    return Object.fromEntries(COUNTERS.map((name, i) => [name, this.values[i] ?? 0])) as Record<Counter, number>
  }
}
