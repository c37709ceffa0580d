// The addresses that an exit gives to its clients: one number for each, at that place in both of its tunnel networks.
//
// They are given in random order, and one that came back is the last to be given again: what the internet still sends to
// its former owner finds nobody for as long as possible. Pure.
//
// Bound: as many clients as the smaller network has room for, less its first two addresses (the network and the exit's TUN)
// and, of IPv4, the last (broadcast); never more than 65,534.

import type { Random } from '#crypto/random.ts'
import type { InsideAddresses } from '#forward/commands.ts'

/** A network that addresses are given from; what is behind the prefix in `address` is ignored. */
export interface TunnelNetwork {
  /** 4 or 16 bytes. */
  readonly address: Uint8Array
  /** 16 to 29 for IPv4, 64 to 125 for IPv6. */
  readonly bits: number
}

export interface TunnelNetworks {
  readonly network4?: TunnelNetwork
  readonly network6?: TunnelNetwork
}

/** Addresses in use. */
export interface Lease {
  readonly number: number
  readonly addresses: InsideAddresses
}

/** Addresses of the network and of the exit itself. */
const FIRST = 2
const MAX_HOST_BITS = 16

export class TunnelPool {
  readonly #network4: Uint8Array | undefined
  readonly #network6: Uint8Array | undefined
  /** A ring: those that are free, the next to be given at `#next`. */
  readonly #free: Uint16Array
  #next = 0
  #count: number
  readonly #inUse = new Set<number>()

  /** Throws RangeError for networks that are none, or too small or too large. */
  constructor({ network4, network6 }: TunnelNetworks, random: Random) {
    this.#network4 = network4 && prefixOf(network4, 4)
    this.#network6 = network6 && prefixOf(network6, 16)
    const sizes = [
      ...(network4 ? [2 ** (32 - network4.bits) - 1] : []),
      ...(network6 ? [2 ** Math.min(128 - network6.bits, MAX_HOST_BITS)] : []),
    ]
    if (sizes.length === 0) throw new RangeError('tunnel networks: there is none')
    this.#free = shuffled(Math.min(...sizes) - FIRST, random)
    this.#count = this.#free.length
  }

  get hasIpv4(): boolean {
    return this.#network4 !== undefined
  }

  get hasIpv6(): boolean {
    return this.#network6 !== undefined
  }

  /** How many may be taken now. */
  get available(): number {
    return this.#count
  }

  /** Addresses that nobody else has; `undefined` when all are in use. */
  take(): Lease | undefined {
    const number = this.#free[this.#next]
    if (this.#count === 0 || number === undefined) return undefined
    this.#next = (this.#next + 1) % this.#free.length
    this.#count--
    this.#inUse.add(number)
    const address4 = this.#network4 && numbered(this.#network4, number)
    const address6 = this.#network6 && numbered(this.#network6, number)
    return { number, addresses: { ...(address4 && { address4 }), ...(address6 && { address6 }) } }
  }

  /** Gives addresses back; those that are not in use are left alone. */
  release({ number }: Lease): void {
    if (!this.#inUse.delete(number)) return
    this.#free[(this.#next + this.#count) % this.#free.length] = number
    this.#count++
  }
}

/** The network's own address: the bits behind the prefix are zero. */
function prefixOf({ address, bits }: TunnelNetwork, length: 4 | 16): Uint8Array {
  const least = length === 4 ? 16 : 64
  if (address.length !== length || !Number.isInteger(bits) || bits < least || bits > length * 8 - 3) {
    throw new RangeError(`tunnel network: ${address.length} bytes, /${bits}`)
  }
  return address.map((byte, i) => byte & (0xff00 >> Math.min(Math.max(bits - i * 8, 0), 8)))
}

function numbered(network: Uint8Array, number: number): Uint8Array {
  const address = Uint8Array.from(network)
  const last = address.length - 1
  address[last - 1] = (address[last - 1] ?? 0) | (number >>> 8)
  address[last] = (address[last] ?? 0) | (number & 0xff)
  return address
}

/** The numbers from `FIRST` on, in random order (Fisher-Yates). */
function shuffled(count: number, random: Random): Uint16Array {
  const numbers = Uint16Array.from({ length: count }, (_, i) => FIRST + i)
  const draws = Buffer.from(random(count * 4))
  for (let i = count - 1; i > 0; i--) {
    const other = draws.readUInt32LE(i * 4) % (i + 1)
    const number = numbers[i] ?? 0
    numbers[i] = numbers[other] ?? 0
    numbers[other] = number
  }
  return numbers
}
