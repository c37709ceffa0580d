// The descriptors that a thread has open: noted in shared memory, so that another can close what a thread leaves that ended with no
// time to do so. One bit each; descriptors above the number of bits are not noted.

const BITS = 1 << 20

export const THREAD_DESCRIPTORS_BYTES = BITS / 8

export class ThreadDescriptors {
  readonly #bits: Uint8Array

  /** @param memory zeroed, of `THREAD_DESCRIPTORS_BYTES` at `offset` */
  constructor(memory: SharedArrayBuffer, offset: number) {
    this.#bits = new Uint8Array(memory, offset, THREAD_DESCRIPTORS_BYTES)
  }

  add(fd: number): void {
    if (fd >= 0 && fd < BITS) this.#bits[fd >>> 3] = (this.#bits[fd >>> 3] ?? 0) | (1 << (fd & 7))
  }

  delete(fd: number): void {
    if (fd >= 0 && fd < BITS) this.#bits[fd >>> 3] = (this.#bits[fd >>> 3] ?? 0) & ~(1 << (fd & 7))
  }

  /** Gives all and forgets them. */
  take(): number[] {
    const found: number[] = []
    for (const [i, byte] of this.#bits.entries()) {
      if (byte === 0) continue
      for (let bit = 0; bit < 8; bit++) if ((byte & (1 << bit)) !== 0) found.push(i * 8 + bit)
    }
    this.#bits.fill(0)
    return found
  }
}
