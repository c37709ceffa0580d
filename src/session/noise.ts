// The Noise protocol framework (revision 34) as a pure machine: a pattern of tokens drives a symmetric state.
//
// Cipher ChaChaPoly, DH 25519, hash BLAKE2s or SHA256, pre-shared keys (`psk`), and hybrid forward secrecy with
// ML-KEM-768 (`e1`: a fresh KEM key, encrypted once there is a key; `ekem1`: a ciphertext for it, its secret mixed in).
// Ephemeral keys may be given for tests; otherwise they are fresh.

import { createHash } from 'node:crypto'
import { noiseHkdf } from '#crypto/blake2s.ts'
import { chachaOpen, chachaSeal, counterNonce } from '#crypto/chacha20poly1305.ts'
import {
  decapsulateMlKem,
  encapsulateMlKem,
  generateMlKem,
  MLKEM_CIPHERTEXT_BYTES,
  MLKEM_PUBLIC_BYTES,
  type MlKemKeyPair,
} from '#crypto/mlkem768.ts'
import { generateX25519, type X25519KeyPair, type X25519PrivateKey, x25519 } from '#crypto/x25519.ts'

export type NoiseToken = 'e' | 's' | 'ee' | 'es' | 'se' | 'ss' | 'psk' | 'e1' | 'ekem1'

export interface NoisePattern {
  /** The whole protocol name, as it is hashed. */
  readonly name: string
  readonly hash: 'blake2s256' | 'sha256'
  /** What each side knows beforehand: 's' of the initiator, 's' of the responder. */
  readonly pre: { readonly initiator: readonly ('s' | 'e')[]; readonly responder: readonly ('s' | 'e')[] }
  /** Messages in turn, the initiator's first. */
  readonly messages: readonly (readonly NoiseToken[])[]
}

export interface NoiseOptions {
  readonly pattern: NoisePattern
  readonly isInitiator: boolean
  readonly prologue: Uint8Array
  readonly s?: { readonly publicKey: Uint8Array; readonly privateKey: X25519PrivateKey | Uint8Array }
  readonly rs?: Uint8Array
  /** In the order in which the pattern mixes them. */
  readonly psks?: readonly Uint8Array[]
  /** For tests. */
  readonly e?: X25519KeyPair
  readonly kem?: MlKemKeyPair
}

/** One direction's key after the handshake. */
export interface NoiseKeys {
  /** What the initiator seals with. */
  readonly initiator: Uint8Array
  /** What the responder seals with. */
  readonly responder: Uint8Array
  /** Names this handshake; 32 bytes. */
  readonly hash: Uint8Array
  /** The last chaining key, from which other secrets of this handshake may be derived; 32 bytes. */
  readonly chainingKey: Uint8Array
}

const TAG = 16

export class NoiseHandshake {
  readonly #options: NoiseOptions
  readonly #isPsk: boolean
  #psks: Uint8Array[]
  #turn = 0
  #hash: Uint8Array
  #chainingKey: Uint8Array
  #key: Uint8Array | undefined
  #nonce = 0
  #e: X25519KeyPair | undefined
  #re: Uint8Array | undefined
  #rs: Uint8Array | undefined
  #kem: MlKemKeyPair | undefined
  #remoteKem: Uint8Array | undefined

  constructor(options: NoiseOptions) {
    const { pattern, isInitiator, prologue } = options
    this.#options = options
    this.#psks = [...(options.psks ?? [])]
    this.#isPsk = pattern.messages.some(message => message.includes('psk'))
    this.#rs = options.rs
    const name = Buffer.from(pattern.name, 'latin1')
    this.#hash = name.length <= 32 ? Buffer.concat([name], 32) : digest(pattern.hash, name)
    this.#chainingKey = this.#hash
    this.#mixHash(prologue)
    for (const token of pattern.pre.initiator) this.#mixKnown(token, isInitiator)
    for (const token of pattern.pre.responder) this.#mixKnown(token, !isInitiator)
  }

  /** The other side's static key, once it is known. */
  get remoteStatic(): Uint8Array | undefined {
    return this.#rs
  }

  get remoteEphemeral(): Uint8Array | undefined {
    return this.#re
  }

  get ownEphemeral(): Uint8Array | undefined {
    return this.#e?.publicKey
  }

  get isFinished(): boolean {
    return this.#turn >= this.#options.pattern.messages.length
  }

  /** The next message, which is ours to send; `undefined` when the other side's keys are of no use. */
  write(payload: Uint8Array): Uint8Array | undefined {
    const parts: Uint8Array[] = []
    for (const token of this.#options.pattern.messages[this.#turn] ?? []) {
      switch (token) {
        case 'e': {
          this.#e = this.#options.e ?? generateX25519()
          parts.push(this.#e.publicKey)
          this.#mixHash(this.#e.publicKey)
          if (this.#isPsk) this.#mixKey(this.#e.publicKey)
          break
        }
        case 's':
          parts.push(this.#encrypt(this.#options.s?.publicKey ?? new Uint8Array(32)))
          break
        case 'e1':
          this.#kem = this.#options.kem ?? generateMlKem()
          parts.push(this.#encrypt(this.#kem.publicKey))
          break
        case 'ekem1': {
          const made = encapsulateMlKem(this.#remoteKem ?? new Uint8Array(0))
          if (made === undefined) return undefined
          parts.push(this.#encrypt(made.ciphertext))
          this.#mixKey(made.secret)
          break
        }
        default:
          if (!this.#mixSecret(token)) return undefined
      }
    }
    parts.push(this.#encrypt(payload))
    this.#turn++
    return Buffer.concat(parts)
  }

  /** Reads the next message, which is the other side's; returns its payload, `undefined` when it is forged. */
  read(message: Uint8Array): Uint8Array | undefined {
    let offset = 0
    const take = (length: number) => {
      const part = message.subarray(offset, offset + length)
      offset += length
      return part.length === length ? part : undefined
    }
    for (const token of this.#options.pattern.messages[this.#turn] ?? []) {
      switch (token) {
        case 'e': {
          const e = take(32)
          if (e === undefined) return undefined
          this.#re = e.slice()
          this.#mixHash(this.#re)
          if (this.#isPsk) this.#mixKey(this.#re)
          break
        }
        case 's': {
          const s = this.#decrypt(take(32 + this.#tag))
          if (s === undefined) return undefined
          this.#rs = s
          break
        }
        case 'e1': {
          const kem = this.#decrypt(take(MLKEM_PUBLIC_BYTES + this.#tag))
          if (kem === undefined) return undefined
          this.#remoteKem = kem
          break
        }
        case 'ekem1': {
          const ciphertext = this.#decrypt(take(MLKEM_CIPHERTEXT_BYTES + this.#tag))
          const secret = ciphertext && this.#kem && decapsulateMlKem(this.#kem.privateKey, ciphertext)
          if (secret === undefined) return undefined
          this.#mixKey(secret)
          break
        }
        default:
          if (!this.#mixSecret(token)) return undefined
      }
    }
    const payload = this.#decrypt(message.subarray(offset))
    if (payload !== undefined) this.#turn++
    return payload
  }

  /** The transport keys; the handshake's own secrets are wiped. */
  split(): NoiseKeys {
    const [initiator, responder] = this.#hkdf(new Uint8Array(0), 2) as [Uint8Array, Uint8Array]
    const keys = { initiator, responder, hash: this.#hash, chainingKey: this.#chainingKey }
    this.wipe()
    return keys
  }

  /** A copy that may read a message which turns out to be forged, and leave this one as it is. */
  fork(): NoiseHandshake {
    const copy = new NoiseHandshake(this.#options)
    copy.#psks = [...this.#psks]
    copy.#turn = this.#turn
    copy.#hash = this.#hash
    copy.#chainingKey = this.#chainingKey
    copy.#key = this.#key?.slice()
    copy.#nonce = this.#nonce
    copy.#e = this.#e
    copy.#re = this.#re
    copy.#rs = this.#rs
    copy.#kem = this.#kem
    copy.#remoteKem = this.#remoteKem
    return copy
  }

  /** Forgets the ephemeral secrets. */
  wipe(): void {
    if (this.#options.e === undefined) this.#e?.privateKey.fill(0)
    this.#key?.fill(0)
    this.#kem = undefined
  }

  #mixKnown(token: 's' | 'e', isOwn: boolean): void {
    const { s, rs, e } = this.#options
    if (token === 'e') {
      if (isOwn) this.#e = e
      this.#mixHash((isOwn ? e?.publicKey : this.#re) ?? new Uint8Array(0))
    } else {
      this.#mixHash((isOwn ? s?.publicKey : rs) ?? new Uint8Array(0))
    }
  }

  #mixSecret(token: 'ee' | 'es' | 'se' | 'ss' | 'psk'): boolean {
    if (token === 'psk') {
      const psk = this.#psks.shift()
      if (psk === undefined) return false
      const [chainingKey, hashed, key] = this.#hkdf(psk, 3) as [Uint8Array, Uint8Array, Uint8Array]
      this.#chainingKey = chainingKey
      this.#mixHash(hashed)
      this.#key = key
      this.#nonce = 0
      return true
    }
    const { isInitiator, s } = this.#options
    const ownIsEphemeral = token === 'ee' || (isInitiator ? token === 'es' : token === 'se')
    const theirsIsEphemeral = token === 'ee' || (isInitiator ? token === 'se' : token === 'es')
    const own = ownIsEphemeral ? this.#e?.privateKey : s?.privateKey
    const theirs = theirsIsEphemeral ? this.#re : this.#rs
    const secret = own && theirs && x25519(own, theirs)
    if (secret === undefined) return false
    this.#mixKey(secret)
    secret.fill(0)
    return true
  }

  #mixHash(data: Uint8Array): void {
    this.#hash = digest(this.#options.pattern.hash, this.#hash, data)
  }

  #mixKey(input: Uint8Array): void {
    const [chainingKey, key] = this.#hkdf(input, 2) as [Uint8Array, Uint8Array]
    this.#chainingKey = chainingKey
    this.#key = key
    this.#nonce = 0
  }

  #hkdf(input: Uint8Array, count: 2 | 3): Uint8Array[] {
    return noiseHkdf(this.#options.pattern.hash, this.#chainingKey, input, count)
  }

  get #tag(): number {
    return this.#key === undefined ? 0 : TAG
  }

  #encrypt(plain: Uint8Array): Uint8Array {
    const sealed =
      this.#key === undefined ? plain : chachaSeal(this.#key, counterNonce(this.#nonce++), plain, this.#hash)
    this.#mixHash(sealed)
    return sealed
  }

  #decrypt(sealed: Uint8Array | undefined): Uint8Array | undefined {
    if (sealed === undefined) return undefined
    const plain =
      this.#key === undefined ? sealed.slice() : chachaOpen(this.#key, counterNonce(this.#nonce++), sealed, this.#hash)
    this.#mixHash(sealed)
    return plain
  }
}

function digest(hash: 'blake2s256' | 'sha256', ...parts: readonly Uint8Array[]): Uint8Array {
  const state = createHash(hash)
  for (const part of parts) state.update(part)
  return state.digest()
}
