// Where random bytes come from. Core rooms take a `Random` as an argument; tests give them a seeded one.

import { createHash, randomBytes } from 'node:crypto'

/** Gives `length` random bytes. */
export type Random = (length: number) => Uint8Array

export const systemRandom: Random = length => randomBytes(length)

/** The same bytes for the same seed, every time. For tests only. */
export function seededRandom(seed: string): Random {
  let block = Buffer.alloc(0)
  let counter = 0
  return length => {
    while (block.length < length) {
      const next = createHash('sha512').update(`${seed}:${counter++}`).digest()
      block = Buffer.concat([block, next])
    }
    const bytes = block.subarray(0, length)
    block = block.subarray(length)
    return new Uint8Array(bytes)
  }
}
