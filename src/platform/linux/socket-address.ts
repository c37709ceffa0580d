// Socket addresses as the Linux kernel lays them out (ip(7), ipv6(7)), and as ours.
//
//   sockaddr_in   family u16 native, port u16 big-endian, address 4, zero 8
//   sockaddr_in6  family u16 native, port u16 big-endian, flow info u32, address 16, scope u32

import { type Address, formatIPv6, parseIp } from '#wire/address.ts'

export const AF_INET = 2
export const AF_INET6 = 10
/** Room for either kind. */
export const SOCKADDR_BYTES = 28

/** The bytes of an address; 16 or 28 of them. Throws when the host is no IP literal: that is a bug. */
export function encodeSocketAddress({ host, port }: Address): Uint8Array {
  const ip = parseIp(host)
  if (ip === undefined) throw new Error('encode a socket address: the host is not an IP address')
  const isV4 = ip.length === 4
  const bytes = new Uint8Array(isV4 ? 16 : SOCKADDR_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, isV4 ? AF_INET : AF_INET6, true)
  view.setUint16(2, port)
  bytes.set(ip, isV4 ? 4 : 8)
  return bytes
}

/** The address at `offset`; one made up of zeros when it is of neither family. */
export function decodeSocketAddress(bytes: Uint8Array, offset: number): Address {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, SOCKADDR_BYTES)
  const port = view.getUint16(2)
  switch (view.getUint16(0, true)) {
    case AF_INET:
      return { host: bytes.subarray(offset + 4, offset + 8).join('.'), port }
    case AF_INET6:
      return { host: formatIPv6(bytes.subarray(offset + 8, offset + 24)) ?? '::', port }
    default:
      return { host: '0.0.0.0', port: 0 }
  }
}

const MAX_KNOWN = 4_096
/** Of a sockaddr_in6: where the address begins, and how many words it has. */
const WORD_6 = 2
const WORDS_6 = 4

/** An IPv6 address with the words and the port that it was made of. */
interface Known6 {
  readonly words: Uint32Array
  readonly port: number
  readonly address: Address
}

/**
 * Gives the same object for the same address, so that packets of one sender make no garbage. Holds at most 4,096 of each family;
 * then it begins anew.
 */
export class AddressBook {
  readonly #known = new Map<number, Address>()
  /** By a hash: of two that have the same one, the last. */
  readonly #known6 = new Map<number, Known6>()
  #lastKey = -1
  #last: Address = { host: '0.0.0.0', port: 0 }

  /** The address at `offset` of `words`, which are the same bytes as `bytes`; the offset is a multiple of four. */
  find(bytes: Uint8Array, words: Uint32Array, offset: number): Address {
    const at = offset >>> 2
    const head = words[at] ?? 0
    if ((head & 0xffff) !== AF_INET) return this.#find6(bytes, words, offset)
    const key = (words[at + 1] ?? 0) * 0x1_0000 + (head >>> 16)
    if (key === this.#lastKey) return this.#last
    let found = this.#known.get(key)
    if (found === undefined) {
      if (this.#known.size >= MAX_KNOWN) this.#known.clear()
      found = decodeSocketAddress(bytes, offset)
      this.#known.set(key, found)
    }
    this.#lastKey = key
    this.#last = found
    return found
  }

  #find6(bytes: Uint8Array, words: Uint32Array, offset: number): Address {
    const at = (offset >>> 2) + WORD_6
    const port = (words[offset >>> 2] ?? 0) >>> 16
    let hash = port
    for (let i = 0; i < WORDS_6; i++) hash = (Math.imul(hash, 31) + (words[at + i] ?? 0)) | 0
    const known = this.#known6.get(hash)
    if (known !== undefined && known.port === port && isSame(known.words, words, at)) return known.address
    const address = decodeSocketAddress(bytes, offset)
    if (this.#known6.size >= MAX_KNOWN) this.#known6.clear()
    this.#known6.set(hash, { words: words.slice(at, at + WORDS_6), port, address })
    return address
  }
}

function isSame(known: Uint32Array, words: Uint32Array, at: number): boolean {
  for (let i = 0; i < WORDS_6; i++) if (known[i] !== words[at + i]) return false
  return true
}
