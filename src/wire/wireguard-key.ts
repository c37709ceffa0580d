// WireGuard keys as text: 32 bytes in base64, 44 characters with one `=`. Exactly one text for each key: unused bits of the
// last character are zero (RFC 4648 §3.5).

const KEY_BYTES = 32
const KEY_TEXT = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/

/** The 32 bytes of a key in base64; `undefined` when it is anything else. */
export function parseKey(text: string): Uint8Array | undefined {
  return KEY_TEXT.test(text) ? new Uint8Array(Buffer.from(text, 'base64')) : undefined
}

/** Base64 of a key of 32 bytes. */
export function formatKey(key: Uint8Array): string {
  if (key.length !== KEY_BYTES) throw new TypeError(`print a key: it has ${key.length} bytes, not ${KEY_BYTES}`)
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString('base64')
}

/** Whether all bytes are zero, which WireGuard's tools use for "no key". */
export function isZeroKey(key: Uint8Array): boolean {
  let any = 0
  for (const byte of key) any |= byte
  return any === 0
}
