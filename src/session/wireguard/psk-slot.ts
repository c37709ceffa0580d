// What is in the slot of the pre-shared key: an agreed key for its lifetime, and without one random bytes that nobody else
// has, so that no handshake succeeds. Both sides of psk-exchange.ts have one; what is to be done leaves through it.

import { Secret } from '#bytes/secret.ts'
import type { Random } from '#crypto/random.ts'

export const PSK_LIFETIME_MS = 180_000

export type PskCommand =
  | { readonly kind: 'send'; readonly bytes: Uint8Array }
  /** The key to put into the slot, 32 bytes; with `handshake`, a handshake is to begin at once. */
  | { readonly kind: 'use'; readonly psk: Secret; readonly handshake: boolean }
  /** There is no agreed key: no handshake will succeed until `agreed`. Told once for each failure. */
  | { readonly kind: 'failed' }
  | { readonly kind: 'agreed' }

export class PskSlot {
  readonly #random: Random
  readonly #commands: PskCommand[] = []
  #expiresAt: number
  #isClosed = false

  constructor(random: Random, now: number) {
    this.#random = random
    this.#expiresAt = now + PSK_LIFETIME_MS
    this.#useRandom()
  }

  get expiresAt(): number {
    return this.#expiresAt
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  push(command: PskCommand): void {
    this.#commands.push(command)
  }

  take(): readonly PskCommand[] {
    return this.#commands.splice(0)
  }

  use(psk: Uint8Array, handshake: boolean, now: number): void {
    this.#expiresAt = now + PSK_LIFETIME_MS
    this.#commands.push({ kind: 'use', psk: new Secret(psk), handshake }, { kind: 'agreed' })
  }

  expire(now: number): void {
    if (now < this.#expiresAt) return
    this.#expiresAt = Number.POSITIVE_INFINITY
    this.#useRandom()
    this.#commands.push({ kind: 'failed' })
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#expiresAt = Number.POSITIVE_INFINITY
    this.#commands.splice(0)
    this.#useRandom()
  }

  #useRandom(): void {
    this.#commands.push({ kind: 'use', psk: new Secret(this.#random(32)), handshake: false })
  }
}
