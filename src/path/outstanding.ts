// Checks that were sent and not answered. A transaction id is a tag of the agent, by which answers find it, and 64 random bits.
//
// Bounds: 512 checks, 4,096 guesses; the oldest goes first.

import { copyBytes } from '#bytes/copy.ts'
import type { Random } from '#crypto/random.ts'
import type { Address } from '#wire/address.ts'
import type { Base } from './base.ts'

export interface Check {
  readonly base: Base
  readonly to: Address
  readonly sentMs: number
  readonly nomination: number | undefined
  readonly wasControlling: boolean
}

const TAG_BYTES = 4
const MAX_CHECKS = 512
const MAX_GUESSES = 4_096

export class Outstanding {
  readonly tag: string
  readonly #tag: Uint8Array
  readonly #random: Random
  readonly #checks = new Map<string, Check>()
  readonly #guesses = new Map<string, Check>()

  constructor(random: Random) {
    this.#random = random
    this.#tag = copyBytes(random(TAG_BYTES))
    this.tag = tagOf(this.#tag)
  }

  /** Gives the check its transaction id. */
  add(check: Check, isGuess: boolean): Uint8Array {
    const transaction = new Uint8Array(12)
    transaction.set(this.#tag)
    transaction.set(this.#random(12 - TAG_BYTES), TAG_BYTES)
    const checks = isGuess ? this.#guesses : this.#checks
    checks.set(nameOf(transaction), check)
    if (checks.size > (isGuess ? MAX_GUESSES : MAX_CHECKS)) {
      for (const oldest of checks.keys()) {
        checks.delete(oldest)
        break
      }
    }
    return transaction
  }

  /** The check of that transaction, if it is still waited for. */
  get(transaction: Uint8Array): Check | undefined {
    const name = nameOf(transaction)
    return this.#checks.get(name) ?? this.#guesses.get(name)
  }

  /** It was answered. */
  delete(transaction: Uint8Array): void {
    const name = nameOf(transaction)
    this.#checks.delete(name)
    this.#guesses.delete(name)
  }

  forgetGuesses(): void {
    this.#guesses.clear()
  }

  clear(): void {
    this.#checks.clear()
    this.#guesses.clear()
  }
}

/** The name by which an agent is found from a transaction id. */
export function tagOf(transaction: Uint8Array): string {
  return Buffer.from(transaction.subarray(0, TAG_BYTES)).toString('hex')
}

function nameOf(transaction: Uint8Array): string {
  return Buffer.from(transaction).toString('hex')
}
