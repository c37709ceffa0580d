/** What the tag of a sealed packet adds to it. */
export const TAG_BYTES = 16
export const KEY_BYTES = 32

/** ChaCha20-Poly1305 over packets where they lie (RFC 8439), without associated data. */
export interface PacketCipher {
  /**
   * Seals `length` bytes at `offset`; the tag takes the 16 bytes behind them, which must be inside `buffer`.
   *
   * @param counter 0 to 2^53 - 1, never twice with one key: the nonce is four zero bytes and the counter, 64 bits little-endian
   */
  seal(key: Uint8Array, counter: number, buffer: Uint8Array, offset: number, length: number): void
  /** Opens `length` bytes (tag included) at `offset`; false, and the bytes are garbage, when they are forged. */
  open(key: Uint8Array, counter: number, buffer: Uint8Array, offset: number, length: number): boolean
}
