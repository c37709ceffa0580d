// The Noise protocol framework (revision 34) as a pure machine: a pattern of tokens drives a symmetric state.
//
// Cipher ChaChaPoly, DH 25519, hash BLAKE2s or SHA256, pre-shared keys (`psk`), and hybrid forward secrecy with
// ML-KEM-768 (`e1`: a fresh KEM key, sealed once there is a key; `ekem1`: a sealed ciphertext for it, its secret mixed
// in). Ephemeral keys may be given; otherwise they are fresh.
//
//   initiator: write ─► read ─► … ─► split         responder: read ─► write ─► … ─► split
//
// Hostile input is a value: `read` gives `undefined` and leaves the machine as it was, so the true message may still
// come. Calls out of turn are bugs, and throw.

import {
  decapsulateMlKem,
  encapsulateMlKem,
  generateMlKem,
  MLKEM_CIPHERTEXT_BYTES,
  MLKEM_PUBLIC_BYTES,
  type MlKemKeyPair,
} from '#crypto/mlkem768.ts'
import type { Random } from '#crypto/random.ts'
import { generateX25519, type X25519KeyPair, type X25519PrivateKey, x25519, x25519FromPrivate } from '#crypto/x25519.ts'
import { type NoiseHash, type NoiseKeys, SymmetricState } from './symmetric-state.ts'

export type NoiseToken = 'e' | 's' | 'ee' | 'es' | 'se' | 'ss' | 'psk' | 'e1' | 'ekem1'

export interface NoisePattern {
  /** The whole protocol name, as it is hashed. */
  readonly name: string
  readonly hash: NoiseHash
  /** Whose static key the other side knows beforehand. */
  readonly pre: { readonly initiator: readonly 's'[]; readonly responder: readonly 's'[] }
  /** Messages in turn, the initiator's first. */
  readonly messages: readonly (readonly NoiseToken[])[]
}

export interface NoiseOptions {
  readonly pattern: NoisePattern
  readonly isInitiator: boolean
  readonly prologue: Uint8Array
  readonly s?: { readonly publicKey: Uint8Array; readonly privateKey: X25519PrivateKey | Uint8Array }
  readonly rs?: Uint8Array
  /** In the order in which the pattern mixes them, 32 bytes each; looked at when the pattern comes to them, not before. */
  readonly psks?: readonly Uint8Array[]
  /** Where a fresh X25519 ephemeral comes from; the system when it is absent. */
  readonly random?: Random
  /** Ephemeral keys to use; the machine owns and wipes them. */
  readonly e?: X25519KeyPair
  readonly kem?: MlKemKeyPair
}

/** What the other side has told so far. */
interface Remote {
  readonly e?: Uint8Array
  readonly s?: Uint8Array
  readonly kem?: Uint8Array
}

export class NoiseHandshake {
  readonly #options: NoiseOptions
  readonly #isPsk: boolean
  #symmetric: SymmetricState
  #turn = 0
  #psksUsed = 0
  #remote: Remote
  #e: X25519KeyPair | undefined
  #kem: MlKemKeyPair | undefined

  constructor(options: NoiseOptions) {
    const { pattern, isInitiator, prologue, s, rs } = options
    this.#options = options
    this.#isPsk = pattern.messages.some(message => message.includes('psk'))
    this.#remote = rs === undefined ? {} : { s: Uint8Array.from(rs) }
    this.#e = options.e
    this.#kem = options.kem
    this.#symmetric = new SymmetricState(pattern.hash, pattern.name)
    this.#symmetric.mixHash(prologue)
    const [own, theirs] = [s?.publicKey, rs]
    for (const _ of pattern.pre.initiator) this.#symmetric.mixHash(given(isInitiator ? own : theirs))
    for (const _ of pattern.pre.responder) this.#symmetric.mixHash(given(isInitiator ? theirs : own))
  }

  /** The other side's static key, once it is known. */
  get remoteStatic(): Uint8Array | undefined {
    return this.#remote.s
  }

  get remoteEphemeral(): Uint8Array | undefined {
    return this.#remote.e
  }

  get ownEphemeral(): Uint8Array | undefined {
    return this.#e?.publicKey
  }

  get isFinished(): boolean {
    return this.#turn >= this.#options.pattern.messages.length
  }

  /** The next message, which is ours to send; `undefined`, for good, when the other side's keys are of no use. */
  write(payload: Uint8Array): Uint8Array | undefined {
    const parts: Uint8Array[] = []
    for (const token of this.#tokens('write')) {
      const part = this.#writeToken(token)
      if (part === undefined) return undefined
      parts.push(part)
    }
    parts.push(this.#symmetric.encryptAndHash(payload))
    this.#turn++
    return Buffer.concat(parts)
  }

  /**
   * Reads the next message, which is the other side's. Returns its payload in an array of its own; `undefined` when it is
   * forged, and then nothing has changed.
   */
  read(message: Uint8Array): Uint8Array | undefined {
    const tokens = this.#tokens('read')
    const before = { symmetric: this.#symmetric, remote: this.#remote, psksUsed: this.#psksUsed }
    this.#symmetric = before.symmetric.copy()
    let rest: Uint8Array | undefined = message
    for (const token of tokens) rest = rest && this.#readToken(token, rest)
    const payload = rest && this.#symmetric.decryptAndHash(rest)
    if (payload === undefined) {
      this.#symmetric.wipe()
      this.#symmetric = before.symmetric
      this.#remote = before.remote
      this.#psksUsed = before.psksUsed
      return undefined
    }
    before.symmetric.wipe()
    this.#turn++
    return payload
  }

  /** The transport keys; the handshake's own secrets are wiped. */
  split(): NoiseKeys {
    if (!this.isFinished) throw new Error('split a handshake: it is not finished')
    const keys = this.#symmetric.split()
    this.wipe()
    return keys
  }

  /** Overwrites the ephemeral secrets: the handshake is over, or given up. */
  wipe(): void {
    this.#symmetric.wipe()
    this.#e?.privateKey.fill(0)
    this.#kem = undefined
    this.#turn = this.#options.pattern.messages.length
  }

  #tokens(verb: 'write' | 'read'): readonly NoiseToken[] {
    const tokens = this.#options.pattern.messages[this.#turn]
    const isOwnTurn = (this.#turn % 2 === 0) === this.#options.isInitiator
    if (tokens === undefined || isOwnTurn !== (verb === 'write')) {
      throw new Error(`${verb} a handshake message: it is not the turn for that`)
    }
    return tokens
  }

  #writeToken(token: NoiseToken): Uint8Array | undefined {
    switch (token) {
      case 'e':
        this.#e ??= this.#freshEphemeral()
        this.#mixEphemeral(this.#e.publicKey)
        return this.#e.publicKey
      case 's':
        return this.#symmetric.encryptAndHash(given(this.#options.s?.publicKey))
      case 'e1':
        this.#kem ??= generateMlKem()
        return this.#symmetric.encryptAndHash(this.#kem.publicKey)
      case 'ekem1': {
        const made = encapsulateMlKem(given(this.#remote.kem))
        if (made === undefined) return undefined
        const sealed = this.#symmetric.encryptAndHash(made.ciphertext)
        this.#symmetric.mixKey(made.secret, true)
        return sealed
      }
      default:
        return this.#mixSecret(token) ? new Uint8Array(0) : undefined
    }
  }

  /** Reads one token at the start of `rest`; returns what follows it. */
  #readToken(token: NoiseToken, rest: Uint8Array): Uint8Array | undefined {
    switch (token) {
      case 'e': {
        if (rest.length < 32) return undefined
        const e = Uint8Array.from(rest.subarray(0, 32))
        this.#remote = { ...this.#remote, e }
        this.#mixEphemeral(e)
        return rest.subarray(32)
      }
      case 's': {
        const s = this.#open(rest, 32)
        if (s !== undefined) this.#remote = { ...this.#remote, s: s.plain }
        return s?.rest
      }
      case 'e1': {
        const kem = this.#open(rest, MLKEM_PUBLIC_BYTES)
        if (kem !== undefined) this.#remote = { ...this.#remote, kem: kem.plain }
        return kem?.rest
      }
      case 'ekem1': {
        const ciphertext = this.#open(rest, MLKEM_CIPHERTEXT_BYTES)
        const secret = ciphertext && this.#kem && decapsulateMlKem(this.#kem.privateKey, ciphertext.plain)
        if (secret === undefined) return undefined
        this.#symmetric.mixKey(secret, true)
        return ciphertext?.rest
      }
      default:
        return this.#mixSecret(token) ? rest : undefined
    }
  }

  #freshEphemeral(): X25519KeyPair {
    const { random } = this.#options
    return random === undefined ? generateX25519() : x25519FromPrivate(random(32))
  }

  #open(from: Uint8Array, length: number): { readonly plain: Uint8Array; readonly rest: Uint8Array } | undefined {
    const end = length + this.#symmetric.overhead
    const plain = from.length < end ? undefined : this.#symmetric.decryptAndHash(from.subarray(0, end))
    return plain && { plain, rest: from.subarray(end) }
  }

  #mixEphemeral(publicKey: Uint8Array): void {
    this.#symmetric.mixHash(publicKey)
    if (this.#isPsk) this.#symmetric.mixKey(publicKey)
  }

  #mixSecret(token: 'ee' | 'es' | 'se' | 'ss' | 'psk'): boolean {
    const { isInitiator, psks, s } = this.#options
    if (token === 'psk') {
      this.#symmetric.mixKeyAndHash(given(psks?.[this.#psksUsed++]))
      return true
    }
    const ownIsEphemeral = token === 'ee' || token === (isInitiator ? 'es' : 'se')
    const theirsIsEphemeral = token === 'ee' || token === (isInitiator ? 'se' : 'es')
    const own = given(ownIsEphemeral ? this.#e?.privateKey : s?.privateKey)
    const secret = x25519(own, given(theirsIsEphemeral ? this.#remote.e : this.#remote.s))
    if (secret === undefined) return false
    this.#symmetric.mixKey(secret, true)
    return true
  }
}

/** A key that the pattern needs: without it the machine was built wrong. */
function given<Key>(key: Key | undefined): Key {
  if (key === undefined) throw new Error('run a handshake: a key that its pattern needs is missing')
  return key
}
