// HKDF over SHA-256 (RFC 5869), in its two steps and whole.

import { createHmac } from 'node:crypto'

/** A 32-byte key from the parts of `input`, one after the other (RFC 5869 §2.2). */
export function hkdfExtract(salt: Uint8Array, ...input: readonly Uint8Array[]): Uint8Array {
  const hmac = createHmac('sha256', salt)
  for (const part of input) hmac.update(part)
  return hmac.digest()
}

/** `length` bytes, at most 8,160, from a key of `hkdfExtract` (RFC 5869 §2.3). */
export function hkdfExpand(key: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  if (length > 255 * 32) throw new RangeError('expand a key: at most 8,160 bytes')
  const output = new Uint8Array(length)
  let previous = new Uint8Array(0)
  for (let at = 0, i = 1; at < length; at += 32, i++) {
    previous = Uint8Array.from(
      createHmac('sha256', key).update(previous).update(info).update(Uint8Array.of(i)).digest(),
    )
    output.set(previous.subarray(0, Math.min(32, length - at)), at)
  }
  return output
}

/** Both steps; `info` is ASCII. */
export function hkdf(salt: Uint8Array, input: Uint8Array, info: string, length: number): Uint8Array {
  const key = hkdfExtract(salt, input)
  const output = hkdfExpand(key, Buffer.from(info, 'latin1'), length)
  key.fill(0)
  return output
}
