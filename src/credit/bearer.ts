// What a client shows after it has logged in. Both sides derive it from the key that OPAQUE gave them; it is never sent by
// the issuer, so that a repeated login message gives nothing to whoever recorded it.

import { hkdfSync } from 'node:crypto'

/** The bearer of a session: 43 characters of base64url. `sessionKey` is what the OPAQUE library calls so. */
export function bearerOf(sessionKey: string): string {
  const key = hkdfSync('sha256', Buffer.from(sessionKey, 'base64url'), new Uint8Array(), 'hoplite issuer bearer', 32)
  return Buffer.from(key).toString('base64url')
}

/** How an account's name goes to the issuer: hashed with the issuer's, 64 hex digits. */
export function accountName(issuer: string, name: string): string {
  return Buffer.from(hkdfSync('sha256', name.normalize('NFKC'), issuer, 'hoplite account name', 32)).toString('hex')
}
