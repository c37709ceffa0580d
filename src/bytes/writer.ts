// Writer into a buffer of fixed capacity. Running over it is a bug of ours, so it throws.

export class Writer {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #offset = 0

  /** @param capacity bytes, or the buffer to write into */
  constructor(capacity: number | Uint8Array) {
    this.#bytes = typeof capacity === 'number' ? new Uint8Array(capacity) : capacity
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.byteLength)
  }

  get offset(): number {
    return this.#offset
  }

  u8(value: number): this {
    this.#view.setUint8(this.#take(1), value)
    return this
  }

  u16le(value: number): this {
    this.#view.setUint16(this.#take(2), value, true)
    return this
  }

  u24le(value: number): this {
    const at = this.#take(3)
    this.#view.setUint16(at, value & 0xffff, true)
    this.#view.setUint8(at + 2, value >>> 16)
    return this
  }

  u32le(value: number): this {
    this.#view.setUint32(this.#take(4), value, true)
    return this
  }

  /** @param value an integer from 0 to 2^53 - 1 */
  u64le(value: number): this {
    const at = this.#take(8)
    this.#view.setUint32(at, value % 0x1_0000_0000, true)
    this.#view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true)
    return this
  }

  bytes(value: Uint8Array): this {
    this.#bytes.set(value, this.#take(value.length))
    return this
  }

  zeros(length: number): this {
    const at = this.#take(length)
    this.#bytes.fill(0, at, at + length)
    return this
  }

  /** A view of what was written. */
  done(): Uint8Array {
    return this.#bytes.subarray(0, this.#offset)
  }

  #take(length: number): number {
    const at = this.#offset
    if (at + length > this.#bytes.length) {
      throw new RangeError(`write ${length} bytes: only ${this.#bytes.length - at} of ${this.#bytes.length} left`)
    }
    this.#offset += length
    return at
  }
}
