// Bounded reader over bytes that may come from an attacker.
//
// Reading past the end never throws and never reads outside the view: it yields zero (or an empty view) and sets
// `failed`, which stays set. A decoder reads every field in order and asks `done` once, at the end.

const EMPTY = new Uint8Array(0)

export class Reader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #offset = 0
  #failed = false

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** Whether a read went past the end, or `fail` was called. */
  get failed(): boolean {
    return this.#failed
  }

  /** Whether every byte was read and no read failed. */
  get done(): boolean {
    return !this.#failed && this.#offset === this.#bytes.length
  }

  get offset(): number {
    return this.#offset
  }

  get remaining(): number {
    return this.#bytes.length - this.#offset
  }

  /** Marks the input as refused, for a value that is out of its range. */
  fail(): void {
    this.#failed = true
  }

  u8(): number {
    const at = this.#take(1)
    return at < 0 ? 0 : this.#view.getUint8(at)
  }

  u16le(): number {
    const at = this.#take(2)
    return at < 0 ? 0 : this.#view.getUint16(at, true)
  }

  u24le(): number {
    const at = this.#take(3)
    return at < 0 ? 0 : this.#view.getUint16(at, true) | (this.#view.getUint8(at + 2) << 16)
  }

  u32le(): number {
    const at = this.#take(4)
    return at < 0 ? 0 : this.#view.getUint32(at, true)
  }

  /** An unsigned 64-bit integer of at most 2^53 - 1; a larger one fails. */
  u64le(): number {
    const at = this.#take(8)
    if (at < 0) return 0
    const value = this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * 0x1_0000_0000
    if (value > Number.MAX_SAFE_INTEGER) {
      this.#failed = true
      return 0
    }
    return value
  }

  /** A view (not a copy) of the next `length` bytes. */
  bytes(length: number): Uint8Array {
    const at = this.#take(length)
    return at < 0 ? EMPTY : this.#bytes.subarray(at, at + length)
  }

  /** A view of everything that is left. */
  rest(): Uint8Array {
    return this.bytes(this.remaining)
  }

  /** Fails unless the next `length` bytes are all zero. */
  zeros(length: number): void {
    for (const byte of this.bytes(length)) if (byte !== 0) this.#failed = true
  }

  /** UTF-8 text of `length` bytes; invalid UTF-8 fails. */
  text(length: number): string {
    const bytes = this.bytes(length)
    try {
      return STRICT_UTF8.decode(bytes)
    } catch {
      this.#failed = true
      return ''
    }
  }

  #take(length: number): number {
    if (this.#failed || length < 0 || length > this.#bytes.length - this.#offset) {
      this.#failed = true
      return -1
    }
    const at = this.#offset
    this.#offset += length
    return at
  }
}

const STRICT_UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
