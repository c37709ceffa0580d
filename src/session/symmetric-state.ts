// The symmetric state of a Noise handshake (Noise §5.1 and §5.2): a running hash of everything said, a chaining key fed
// with every shared secret, and the key that seals what comes next. Cipher ChaChaPoly.
//
// Secrets are overwritten as soon as the next one replaces them.

import { createHash } from 'node:crypto'
import { noiseHkdf } from '#crypto/blake2s.ts'
import { chachaOpen, chachaSeal, counterNonce } from '#crypto/chacha20poly1305.ts'

export type NoiseHash = 'blake2s256' | 'sha256'

/** What a finished handshake gives. */
export interface NoiseKeys {
  /** What the initiator seals with; 32 bytes. */
  readonly initiator: Uint8Array
  /** What the responder seals with; 32 bytes. */
  readonly responder: Uint8Array
  /** Names this handshake; 32 bytes, no secret. */
  readonly hash: Uint8Array
  /** The last chaining key, from which other secrets of this handshake may be derived; 32 bytes. */
  readonly chainingKey: Uint8Array
}

const TAG = 16

export class SymmetricState {
  readonly #hashName: NoiseHash
  #hash: Uint8Array
  #chainingKey: Uint8Array
  #key: Uint8Array | undefined
  #nonce = 0

  /** @param protocolName the whole name, as it is hashed */
  constructor(hashName: NoiseHash, protocolName: string) {
    const name = Buffer.from(protocolName, 'latin1')
    this.#hashName = hashName
    this.#hash = new Uint8Array(32)
    if (name.length <= 32) this.#hash.set(name)
    else this.#hash = createHash(hashName).update(name).digest()
    this.#chainingKey = Uint8Array.from(this.#hash)
  }

  /** How many bytes sealing adds now: none before the first shared secret. */
  get overhead(): number {
    return this.#key === undefined ? 0 : TAG
  }

  /** A state of its own with the same contents. */
  copy(): SymmetricState {
    const copy = new SymmetricState(this.#hashName, '')
    copy.#hash = Uint8Array.from(this.#hash)
    copy.#chainingKey = Uint8Array.from(this.#chainingKey)
    copy.#key = this.#key && Uint8Array.from(this.#key)
    copy.#nonce = this.#nonce
    return copy
  }

  mixHash(data: Uint8Array): void {
    this.#hash = createHash(this.#hashName).update(this.#hash).update(data).digest()
  }

  /** Feeds in a shared secret, which is overwritten when it is `owned`. */
  mixKey(input: Uint8Array, owned = false): void {
    const [chainingKey, key] = this.#hkdf(input, 2) as [Uint8Array, Uint8Array]
    this.#setKeys(chainingKey, key)
    if (owned) input.fill(0)
  }

  /** Feeds in a pre-shared key. */
  mixKeyAndHash(psk: Uint8Array): void {
    const [chainingKey, hashed, key] = this.#hkdf(psk, 3) as [Uint8Array, Uint8Array, Uint8Array]
    this.#setKeys(chainingKey, key)
    this.mixHash(hashed)
    hashed.fill(0)
  }

  encryptAndHash(plain: Uint8Array): Uint8Array {
    const key = this.#key
    const sealed = key === undefined ? plain : chachaSeal(key, counterNonce(this.#nonce++), plain, this.#hash)
    this.mixHash(sealed)
    return sealed
  }

  /** The plaintext in an array of its own; `undefined` when it is forged. */
  decryptAndHash(sealed: Uint8Array): Uint8Array | undefined {
    const key = this.#key
    const plain =
      key === undefined ? Uint8Array.from(sealed) : chachaOpen(key, counterNonce(this.#nonce++), sealed, this.#hash)
    this.mixHash(sealed)
    return plain
  }

  /** The transport keys. The state is of no use afterwards. */
  split(): NoiseKeys {
    const [initiator, responder] = this.#hkdf(new Uint8Array(0), 2) as [Uint8Array, Uint8Array]
    const keys = { initiator, responder, hash: this.#hash, chainingKey: Uint8Array.from(this.#chainingKey) }
    this.wipe()
    return keys
  }

  /** Overwrites the secrets. */
  wipe(): void {
    this.#chainingKey.fill(0)
    this.#key?.fill(0)
  }

  #setKeys(chainingKey: Uint8Array, key: Uint8Array): void {
    this.wipe()
    this.#chainingKey = chainingKey
    this.#key = key
    this.#nonce = 0
  }

  #hkdf(input: Uint8Array, count: 2 | 3): Uint8Array[] {
    return noiseHkdf(this.#hashName, this.#chainingKey, input, count)
  }
}
