// Laboratory only: what one process really saw. The demo asks every process for this and prints who saw what.

import type { Observation } from '#forward/commands.ts'
import { type Address, formatAddress } from '#wire/address.ts'

const MAX_ADDRESSES = 256

export class Observer {
  readonly #marker: Buffer
  readonly #addresses = new Set<string>()
  #markerOnWire = false
  #markerInside = false

  constructor(marker: Uint8Array) {
    this.#marker = Buffer.from(marker)
  }

  sawAddress(address: Address): void {
    this.sawText(formatAddress(address))
  }

  /** An address in its text form. */
  sawText(address: string): void {
    if (this.#addresses.size < MAX_ADDRESSES) this.#addresses.add(address)
  }

  readonly watch = (buffer: Uint8Array, offset: number, length: number, isInside: boolean): void => {
    if (!Buffer.from(buffer.buffer, buffer.byteOffset + offset, length).includes(this.#marker)) return
    if (isInside) this.#markerInside = true
    else this.#markerOnWire = true
  }

  observation(): Observation {
    return {
      addresses: [...this.#addresses],
      markerOnWire: this.#markerOnWire,
      markerInside: this.#markerInside,
    }
  }
}
