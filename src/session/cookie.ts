// mac1, mac2 and cookies, as WireGuard has them (WireGuard paper §5.3, §5.4.4 and §5.4.7).
//
// mac1 shows that the sender knows whom it speaks to. A cookie is a MAC of the sender's address under a secret that
// changes every two minutes; a busy hop asks for it, sealed so that only who saw the message can read it.

import { blake2s, keyedBlake2s } from '#crypto/blake2s.ts'
import { xchachaOpen, xchachaSeal } from '#crypto/chacha20poly1305.ts'
import type { Random } from '#crypto/random.ts'
import { type CookieReply, encodeCookieReply, MAC_BYTES } from '#wire/handshake.ts'
import { readU32 } from '#wire/transport.ts'

const SECRET_LIFETIME_MS = 120_000
const MAC1_LABEL = Buffer.from('mac1----')
const COOKIE_LABEL = Buffer.from('cookie--')

/** The key of mac1 for messages to whoever holds `publicKey`. */
export function mac1Key(publicKey: Uint8Array): Uint8Array {
  return blake2s(MAC1_LABEL, publicKey)
}

/** Fills in mac1, and mac2 when there is a cookie, at the end of `message`. */
export function addMacs(message: Uint8Array, key: Uint8Array, cookie?: Uint8Array): void {
  const at = message.length - 2 * MAC_BYTES
  message.set(keyedBlake2s(key, message.subarray(0, at)), at)
  if (cookie !== undefined) message.set(keyedBlake2s(cookie, message.subarray(0, at + MAC_BYTES)), at + MAC_BYTES)
}

/** Whether mac1 of `message` is right under the key of `mac1Key`. */
export function checkMac1(message: Uint8Array, key: Uint8Array): boolean {
  const at = message.length - 2 * MAC_BYTES
  return at > 0 && isEqual(keyedBlake2s(key, message.subarray(0, at)), message.subarray(at, at + MAC_BYTES))
}

/** The 16-byte cookie in a reply to `message`, which we sent to `publicKey`; `undefined` when the reply is forged. */
export function openCookie(reply: CookieReply, message: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined {
  return xchachaOpen(blake2s(COOKIE_LABEL, publicKey), reply.nonce, reply.sealed, mac1Of(message))
}

/** The responder's side: its changing secret, and what is made from it. */
export class CookieJar {
  readonly #key: Uint8Array
  readonly #random: Random
  #secret: Uint8Array
  #sinceMs: number

  constructor(publicKey: Uint8Array, random: Random, now: number) {
    this.#key = blake2s(COOKIE_LABEL, publicKey)
    this.#random = random
    this.#secret = random(32)
    this.#sinceMs = now
  }

  /** Whether mac2 of `message` shows that its sender received a cookie at `address`. */
  checkMac2(message: Uint8Array, address: Uint8Array, now: number): boolean {
    const at = message.length - MAC_BYTES
    if (now - this.#sinceMs >= SECRET_LIFETIME_MS) return false
    return isEqual(keyedBlake2s(this.#cookie(address), message.subarray(0, at)), message.subarray(at))
  }

  /** The hop's reply that gives the sender of `message` its cookie. */
  cookieReply(message: Uint8Array, address: Uint8Array, now: number): Uint8Array {
    return encodeCookieReply(this.sealCookie(message, address, now))
  }

  /** What a reply says that gives the sender of `message` its cookie. */
  sealCookie(message: Uint8Array, address: Uint8Array, now: number): CookieReply {
    if (now - this.#sinceMs >= SECRET_LIFETIME_MS) {
      this.#secret = this.#random(32)
      this.#sinceMs = now
    }
    const nonce = this.#random(24)
    const sealed = xchachaSeal(this.#key, nonce, this.#cookie(address), mac1Of(message))
    return { receiverIndex: readU32(message, 4), nonce, sealed }
  }

  #cookie(address: Uint8Array): Uint8Array {
    return keyedBlake2s(this.#secret, address)
  }
}

/** The 16 bytes of mac1 of a message that ends in its macs. */
export function mac1Of(message: Uint8Array): Uint8Array {
  return message.subarray(message.length - 2 * MAC_BYTES, message.length - MAC_BYTES)
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length
  for (let i = 0; i < a.length; i++) difference |= (a[i] ?? 0) ^ (b[i] ?? 0)
  return difference === 0
}
