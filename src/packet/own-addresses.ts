// Which packets may pass the end of a tunnel: from the addresses that it was given on the way out, to them on the way in.
// Whoever is inside can then neither send in another's name nor be sent what is another's (RFC 2827).

import { type IpPacket, read16 } from './ip-packet.ts'

const MAX_ADDRESSES = 16

export class OwnAddresses {
  readonly #addresses: readonly Uint8Array[]

  /** @param addresses of 4 or 16 bytes, at most 16 of them */
  constructor(addresses: readonly Uint8Array[]) {
    if (addresses.length > MAX_ADDRESSES)
      throw new RangeError(`addresses of a tunnel: ${addresses.length} are too many`)
    for (const { length } of addresses) {
      if (length !== 4 && length !== 16) throw new RangeError(`address of a tunnel: ${length} bytes`)
    }
    this.#addresses = addresses.map(address => Uint8Array.from(address))
  }

  /** Whether the packet at `offset` comes from one of them. */
  isSource(buffer: Uint8Array, offset: number, packet: IpPacket): boolean {
    return this.#has(buffer, offset + packet.source, packet.addressLength)
  }

  /** Whether the packet at `offset` is for one of them. */
  isDestination(buffer: Uint8Array, offset: number, packet: IpPacket): boolean {
    return this.#has(buffer, offset + packet.destination, packet.addressLength)
  }

  #has(buffer: Uint8Array, at: number, length: number): boolean {
    for (const address of this.#addresses) {
      if (address.length === length && isEqual(address, buffer, at)) return true
    }
    return false
  }
}

/** Compared from the end, where addresses of one network differ. */
function isEqual(address: Uint8Array, buffer: Uint8Array, at: number): boolean {
  for (let i = address.length - 2; i >= 0; i -= 2) {
    if (read16(address, i) !== read16(buffer, at + i)) return false
  }
  return true
}
