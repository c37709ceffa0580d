// Which handshake messages are worth the Diffie-Hellman (WireGuard paper §5.3).
//
//   mac1 wrong ──► dropped            too many a second: under load, until a second passed without
//   otherwise  ──► admitted, or, under load:
//                    mac2 wrong ──► a cookie reply, and nothing is kept
//                    mac2 right ──► 20 a second from each address, 5 at once, admitted

import type { Random } from '#crypto/random.ts'
import { encodeWireGuardCookieReply } from '#wire/wireguard.ts'
import { CookieJar, checkMac1 } from '../cookie.ts'
import type { Identity } from './handshake.ts'

const LOAD_WINDOW_MS = 1_000
const PER_SOURCE_PER_SECOND = 20
const PER_SOURCE_BURST = 5
/** Sources remembered; the one that was quiet longest is forgotten first. */
const MAX_SOURCES = 8_192

export type Verdict =
  | { readonly kind: 'admitted' }
  | { readonly kind: 'refused'; readonly reason: 'badMac1' | 'rateLimited' }
  | { readonly kind: 'challenged'; readonly reply: Uint8Array }

export class Admission {
  readonly #identity: Identity
  readonly #jar: CookieJar
  readonly #maxPerSecond: number
  readonly #sources = new SourceRates()
  #windowStartMs = Number.NEGATIVE_INFINITY
  #inWindow = 0
  #loadUntilMs = Number.NEGATIVE_INFINITY

  /** @param maxPerSecond handshake messages with a right mac1 before cookies are demanded */
  constructor(identity: Identity, random: Random, maxPerSecond: number, now: number) {
    this.#identity = identity
    this.#jar = new CookieJar(identity.publicKey, random, now)
    this.#maxPerSecond = maxPerSecond
  }

  isUnderLoad(now: number): boolean {
    return now < this.#loadUntilMs
  }

  /**
   * What becomes of an initiation or response.
   *
   * @param source address and port of its sender, as `endpointBytes` gives them
   */
  admit(message: Uint8Array, source: Uint8Array, now: number): Verdict {
    if (!checkMac1(message, this.#identity.mac1Key)) return { kind: 'refused', reason: 'badMac1' }
    this.#count(now)
    if (!this.isUnderLoad(now)) return { kind: 'admitted' }
    if (!this.#jar.checkMac2(message, source, now)) {
      return { kind: 'challenged', reply: encodeWireGuardCookieReply(this.#jar.sealCookie(message, source, now)) }
    }
    return this.#sources.admit(source, now) ? { kind: 'admitted' } : { kind: 'refused', reason: 'rateLimited' }
  }

  #count(now: number): void {
    if (now - this.#windowStartMs >= LOAD_WINDOW_MS) {
      this.#windowStartMs = now
      this.#inWindow = 0
    }
    this.#inWindow++
    if (this.#inWindow > this.#maxPerSecond) this.#loadUntilMs = now + LOAD_WINDOW_MS
  }
}

/** A token bucket for every source: one IPv4 address, or a /64 of IPv6. */
class SourceRates {
  readonly #buckets = new Map<string, { tokens: number; sinceMs: number }>()

  admit(source: Uint8Array, now: number): boolean {
    const key = sourceKey(source)
    const bucket = this.#buckets.get(key) ?? { tokens: PER_SOURCE_BURST, sinceMs: now }
    this.#buckets.delete(key)
    if (this.#buckets.size >= MAX_SOURCES) {
      const quietest = this.#buckets.keys().next().value
      if (quietest !== undefined) this.#buckets.delete(quietest)
    }
    this.#buckets.set(key, bucket)
    const gained = ((now - bucket.sinceMs) / 1_000) * PER_SOURCE_PER_SECOND
    bucket.tokens = Math.min(PER_SOURCE_BURST, bucket.tokens + gained)
    bucket.sinceMs = now
    if (bucket.tokens < 1) return false
    bucket.tokens--
    return true
  }
}

/** 6 bytes are an IPv4 address and a port, 18 an IPv6 address and a port; anything else counts as it is. */
function sourceKey(source: Uint8Array): string {
  const length = source.length === 6 ? 4 : source.length === 18 ? 8 : source.length
  return Buffer.from(source.subarray(0, length)).toString('latin1')
}
