// Which tokens a relay has seen: a Bloom filter in memory, of fixed size, in front of a table on the disk. What the filter has
// not seen is new, and that is nearly always the answer; only the rest is looked up. A full filter makes the table work
// more, and nothing wrong.

import { createHash } from 'node:crypto'

const HASHES = 4
/** 1 MiB a key: 100,000 tokens with one needless look into the table in 100,000. */
const FILTER_BITS = 2 ** 23
/** Keys of one issuer that are accepted at once; more would take the oldest one's filter. */
const MAX_KEYS = 16

/** The table behind the filter, which outlives the process. */
export interface SpentTable {
  has(keyId: Uint8Array, nonce: Uint8Array): boolean
  /** Every nonce of a key, to fill the filter from after a start. */
  nonces(keyId: Uint8Array): Iterable<Uint8Array>
}

export class SpentFilter {
  readonly #table: SpentTable
  readonly #secret: Uint8Array
  readonly #bits: number
  readonly #filters = new Map<string, Uint8Array>()

  /**
   * @param secret 16 random bytes: a payer chooses its nonces, and shall not choose where they fall
   * @param bits of one key's filter, a power of two
   */
  constructor(table: SpentTable, secret: Uint8Array, bits = FILTER_BITS) {
    this.#table = table
    this.#secret = secret
    this.#bits = bits
  }

  /** Whether the token was seen before. */
  has(keyId: Uint8Array, nonce: Uint8Array): boolean {
    const filter = this.#filterOf(keyId)
    for (const at of this.#places(nonce)) if (((filter[at >>> 3] ?? 0) & (1 << (at & 7))) === 0) return false
    return this.#table.has(keyId, nonce)
  }

  /** Remembers a token that was written to the table. */
  add(keyId: Uint8Array, nonce: Uint8Array): void {
    this.#mark(this.#filterOf(keyId), nonce)
  }

  /** Forgets the filters of keys that are accepted no more. */
  keep(keyIds: readonly Uint8Array[]): void {
    const kept = new Set(keyIds.map(nameOf))
    for (const name of this.#filters.keys()) if (!kept.has(name)) this.#filters.delete(name)
  }

  #filterOf(keyId: Uint8Array): Uint8Array {
    const name = nameOf(keyId)
    const known = this.#filters.get(name)
    if (known !== undefined) return known
    const oldest = this.#filters.keys().next().value
    if (this.#filters.size >= MAX_KEYS && oldest !== undefined) this.#filters.delete(oldest)
    const filter = new Uint8Array(this.#bits / 8)
    for (const nonce of this.#table.nonces(keyId)) this.#mark(filter, nonce)
    this.#filters.set(name, filter)
    return filter
  }

  #mark(filter: Uint8Array, nonce: Uint8Array): void {
    for (const at of this.#places(nonce)) filter[at >>> 3] = (filter[at >>> 3] ?? 0) | (1 << (at & 7))
  }

  #places(nonce: Uint8Array): number[] {
    const digest = createHash('sha256').update(this.#secret).update(nonce).digest()
    return Array.from({ length: HASHES }, (_, i) => digest.readUInt32LE(i * 4) & (this.#bits - 1))
  }
}

function nameOf(keyId: Uint8Array): string {
  return Buffer.from(keyId).toString('hex')
}
