// Bytes that must never be printed. Every way to turn the object into text gives "[secret]".

import type { InspectOptions } from 'node:util'

const INSPECT = Symbol.for('nodejs.util.inspect.custom')

export class Secret {
  readonly #bytes: Uint8Array

  /** Takes ownership of `bytes`: the caller must not keep or reuse them. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  /** The bytes themselves, for the one call that needs them. */
  get bytes(): Uint8Array {
    return this.#bytes
  }

  /** Overwrites the bytes with zeros. */
  wipe(): void {
    this.#bytes.fill(0)
  }

  [Symbol.dispose](): void {
    this.wipe()
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  [INSPECT](_depth: number, _options: InspectOptions): string {
    return '[secret]'
  }
}
