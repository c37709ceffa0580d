// The directory: every relay whose descriptor was checked, by node id. Who offers a descriptor does not matter.
//
// Bounds: 20,000 relays, and 8 at one IP address, so that one machine cannot fill it; 5,000 without an address. The highest sequence seen of a node is
// remembered after its descriptor has expired, so that an old one cannot come back. For the same reason the descriptor of a relay that
// has left is kept and passed on until it expires, though nobody is to use it.

import type { DigestEntry } from '#wire/directory.ts'
import { MAX_DIRECTORY_RELAYS } from '#wire/directory.ts'
import { type Descriptor, type DescriptorProblem, hasLeft, verifyDescriptor } from './descriptor.ts'

const MAX_PER_ADDRESS = 8
const MAX_WITHOUT_ADDRESS = 5_000
const MAX_REMEMBERED = 2 * MAX_DIRECTORY_RELAYS
const CACHE_MAGIC = Buffer.from('hoplite directory 1\n')

export type OfferResult = 'accepted' | 'known' | 'older' | 'full' | DescriptorProblem

export class Directory {
  readonly #relays = new Map<string, Descriptor>()
  readonly #highest = new Map<string, number>()
  readonly #perAddress = new Map<string, number>()
  readonly #maxPerAddress: number
  #withoutAddress = 0
  #left = 0
  /** Counts by what became of offers. */
  readonly offers = new Map<OfferResult, number>()
  #version = 0

  constructor(maxPerAddress = MAX_PER_ADDRESS) {
    this.#maxPerAddress = maxPerAddress
  }

  /** How many relays there are, without those that have left. */
  get size(): number {
    return this.#relays.size - this.#left
  }

  /** Grows with every change. */
  get version(): number {
    return this.#version
  }

  /** Takes a descriptor from anywhere, if it is sound and newer than the one known. */
  offer(bytes: Uint8Array, now: number): OfferResult {
    const result = this.#offer(bytes, now)
    this.offers.set(result, (this.offers.get(result) ?? 0) + 1)
    return result
  }

  /** A relay that is there, by its id. */
  find(id: string): Descriptor | undefined {
    const relay = this.#relays.get(id)
    return relay !== undefined && hasLeft(relay) ? undefined : relay
  }

  /** The relays that are there, in the order of their ids. */
  list(now: number): Descriptor[] {
    return this.#all(now).filter(relay => !hasLeft(relay))
  }

  /** What to tell others of: relays that are there, and that have left. */
  digest(now: number): DigestEntry[] {
    return this.#all(now).map(({ id, sequence }) => ({ id, sequence }))
  }

  /** A descriptor of the digest as it was signed. */
  bytesOf(id: string): Uint8Array | undefined {
    return this.#relays.get(id)?.bytes
  }

  /** Whether a digest names a descriptor that is newer than ours. */
  lacks(entry: DigestEntry): boolean {
    return entry.sequence > (this.#highest.get(entry.id) ?? -1)
  }

  /** Removes what has expired. */
  expire(now: number): void {
    for (const relay of this.#relays.values()) if (relay.expiresMs <= now) this.#remove(relay)
  }

  /** The directory as the bytes of one file. */
  encodeCache(now: number): Uint8Array {
    const parts: Uint8Array[] = [CACHE_MAGIC]
    for (const { bytes } of this.#all(now)) {
      const length = Buffer.alloc(2)
      length.writeUInt16LE(bytes.length)
      parts.push(length, bytes)
    }
    return Buffer.concat(parts)
  }

  /** Reads such a file, checking every descriptor anew; false when the file is damaged. What is sound is kept. */
  loadCache(file: Uint8Array, now: number): boolean {
    const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength)
    if (!bytes.subarray(0, CACHE_MAGIC.length).equals(CACHE_MAGIC)) return false
    let at = CACHE_MAGIC.length
    let isSound = true
    while (at + 2 <= bytes.length) {
      const end = at + 2 + bytes.readUInt16LE(at)
      if (end > bytes.length) return false
      const result = this.offer(bytes.subarray(at + 2, end), now)
      if (result === 'malformed' || result === 'forged') isSound = false
      at = end
    }
    return isSound && at === bytes.length
  }

  #all(now: number): Descriptor[] {
    this.expire(now)
    return [...this.#relays.values()].sort((a, b) => (a.id < b.id ? -1 : 1))
  }

  #offer(bytes: Uint8Array, now: number): OfferResult {
    const relay = verifyDescriptor(bytes, now)
    if ('problem' in relay) return relay.problem
    const highest = this.#highest.get(relay.id)
    if (highest !== undefined && relay.sequence < highest) return 'older'
    if (highest === relay.sequence && this.#relays.has(relay.id)) return 'known'
    const old = this.#relays.get(relay.id)
    if (old === undefined) {
      if (this.#relays.size >= MAX_DIRECTORY_RELAYS) this.expire(now)
      if (this.#relays.size >= MAX_DIRECTORY_RELAYS) return 'full'
    }
    if (old !== undefined) this.#remove(old)
    const isCrowded =
      relay.addresses.length === 0
        ? this.#withoutAddress >= MAX_WITHOUT_ADDRESS
        : relay.addresses.some(({ host }) => (this.#perAddress.get(host) ?? 0) >= this.#maxPerAddress)
    if (isCrowded) {
      if (old !== undefined) this.#add(old)
      return 'full'
    }
    this.#add(relay)
    return 'accepted'
  }

  #add(relay: Descriptor): void {
    this.#relays.set(relay.id, relay)
    this.#version++
    this.#highest.delete(relay.id)
    this.#highest.set(relay.id, relay.sequence)
    if (this.#highest.size > MAX_REMEMBERED) {
      const oldest = this.#highest.keys().next().value
      if (oldest !== undefined) this.#highest.delete(oldest)
    }
    if (hasLeft(relay)) this.#left++
    if (relay.addresses.length === 0) this.#withoutAddress++
    for (const { host } of relay.addresses) this.#perAddress.set(host, (this.#perAddress.get(host) ?? 0) + 1)
  }

  #remove(relay: Descriptor): void {
    this.#relays.delete(relay.id)
    this.#version++
    if (hasLeft(relay)) this.#left--
    if (relay.addresses.length === 0) this.#withoutAddress--
    for (const { host } of relay.addresses) {
      const count = (this.#perAddress.get(host) ?? 1) - 1
      if (count > 0) this.#perAddress.set(host, count)
      else this.#perAddress.delete(host)
    }
  }
}
