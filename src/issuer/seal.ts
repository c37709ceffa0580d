// Sealing what the database keeps and must not read, and what a client carries for us: with keys from the issuer's master
// secret, which is in a file and never in the database.

import { hkdfSync } from 'node:crypto'
import { xchachaOpen, xchachaSeal } from '#crypto/chacha20poly1305.ts'
import type { Random } from '#crypto/random.ts'

const NONCE_BYTES = 24

export interface Seal {
  /** Seals for one purpose. */
  seal(purpose: string, plain: Uint8Array): Uint8Array
  /** Opens what was sealed for this purpose; `undefined` when it was not. */
  open(purpose: string, sealed: Uint8Array): Uint8Array | undefined
}

/** A seal under a master secret of 32 bytes. */
export function makeSeal(master: Uint8Array, random: Random): Seal {
  const key = new Uint8Array(hkdfSync('sha256', master, new Uint8Array(), 'hoplite issuer seal', 32))
  return {
    seal(purpose, plain) {
      const nonce = random(NONCE_BYTES)
      return Buffer.concat([nonce, xchachaSeal(key, nonce, plain, Buffer.from(purpose))])
    },
    open(purpose, sealed) {
      if (sealed.length < NONCE_BYTES) return undefined
      return xchachaOpen(key, sealed.subarray(0, NONCE_BYTES), sealed.subarray(NONCE_BYTES), Buffer.from(purpose))
    },
  }
}
