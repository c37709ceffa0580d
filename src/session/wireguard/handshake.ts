// The WireGuard handshake: Noise_IKpsk2, one round trip (WireGuard paper §5.4). Pure: no clock, no sockets.
//
//   <- s
//   ...
//   -> e, es, s, ss, timestamp      initiation
//   <- e, ee, se, psk, nothing      response

import type { Random } from '#crypto/random.ts'
import { importX25519, type X25519PrivateKey, x25519FromPrivate } from '#crypto/x25519.ts'
import {
  decodeWireGuardInitiation,
  decodeWireGuardResponse,
  encodeWireGuardInitiation,
  encodeWireGuardResponse,
} from '#wire/wireguard.ts'
import { mac1Key } from '../cookie.ts'
import { NoiseHandshake, type NoisePattern } from '../noise.ts'
import type { NoiseKeys } from '../symmetric-state.ts'

const PATTERN: NoisePattern = {
  name: 'Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s',
  hash: 'blake2s256',
  pre: { initiator: [], responder: ['s'] },
  messages: [
    ['e', 'es', 's', 'ss'],
    ['e', 'ee', 'se', 'psk'],
  ],
}
const PROLOGUE = Buffer.from('WireGuard v1 zx2c4 Jason@zx2c4.com')
const NOTHING = new Uint8Array(0)

/** A device's static key pair, ready for use. */
export interface Identity {
  readonly publicKey: Uint8Array
  readonly privateKey: X25519PrivateKey
  readonly mac1Key: Uint8Array
}

/** The identity of 32 private bytes, which are not kept. */
export function makeIdentity(privateKey: Uint8Array): Identity {
  const { publicKey } = x25519FromPrivate(privateKey)
  return { publicKey, privateKey: importX25519(privateKey), mac1Key: mac1Key(publicKey) }
}

export interface SentInitiation {
  readonly noise: NoiseHandshake
  /** 148 bytes, macs still zero. */
  readonly message: Uint8Array
  readonly localIndex: number
}

export interface InitiationOptions {
  readonly identity: Identity
  readonly remoteStatic: Uint8Array
  /** The pre-shared key, or 32 zero bytes; read when the response comes, so that it may be changed in place until then. */
  readonly psk: Uint8Array
  readonly localIndex: number
  /** 12 bytes. */
  readonly timestamp: Uint8Array
  readonly random: Random
}

/** Makes an initiation; `undefined` when the peer's key gives no secret. */
export function writeInitiation(options: InitiationOptions): SentInitiation | undefined {
  const { identity, remoteStatic, psk, localIndex, timestamp, random } = options
  const noise = new NoiseHandshake({
    pattern: PATTERN,
    isInitiator: true,
    prologue: PROLOGUE,
    s: identity,
    rs: remoteStatic,
    psks: [psk],
    random,
  })
  const written = noise.write(timestamp)
  if (written === undefined) return undefined
  return { noise, message: encodeWireGuardInitiation({ senderIndex: localIndex, noise: written }), localIndex }
}

export interface ReceivedInitiation {
  readonly remoteStatic: Uint8Array
  /** 12 bytes. */
  readonly timestamp: Uint8Array
  /** Answers it: the response's 92 bytes, macs still zero, and the keys; `undefined` when the keys give no secret. */
  respond(
    psk: Uint8Array,
    localIndex: number,
  ): { readonly message: Uint8Array; readonly keys: TransportKeys } | undefined
  /** Overwrites its secrets: it will not be answered. */
  discard(): void
}

/** What one end has after a handshake. */
export interface TransportKeys {
  readonly sendKey: Uint8Array
  readonly receiveKey: Uint8Array
  readonly remoteIndex: number
}

/** Opens an initiation whose macs were checked; `undefined` when it is malformed or forged. */
export function readInitiation(
  identity: Identity,
  message: Uint8Array,
  random: Random,
): ReceivedInitiation | undefined {
  const decoded = decodeWireGuardInitiation(message)
  if (decoded === undefined) return undefined
  const psks: Uint8Array[] = []
  const noise = new NoiseHandshake({
    pattern: PATTERN,
    isInitiator: false,
    prologue: PROLOGUE,
    s: identity,
    psks,
    random,
  })
  const timestamp = noise.read(decoded.noise)
  const remoteStatic = noise.remoteStatic
  if (timestamp === undefined || remoteStatic === undefined) {
    noise.wipe()
    return undefined
  }
  return {
    remoteStatic,
    timestamp,
    respond(psk, localIndex) {
      psks.push(psk)
      const written = noise.write(NOTHING)
      if (written === undefined) return undefined
      const { senderIndex: receiverIndex } = decoded
      const response = encodeWireGuardResponse({ senderIndex: localIndex, receiverIndex, noise: written })
      return { message: response, keys: transportKeys(noise.split(), false, receiverIndex) }
    },
    discard: () => noise.wipe(),
  }
}

/** Takes the response to an initiation; `undefined` when it is none, and the true one may still come. */
export function readResponse(sent: SentInitiation, message: Uint8Array): TransportKeys | undefined {
  const decoded = decodeWireGuardResponse(message)
  if (decoded?.receiverIndex !== sent.localIndex || sent.noise.isFinished) return undefined
  if (sent.noise.read(decoded.noise) === undefined) return undefined
  return transportKeys(sent.noise.split(), true, decoded.senderIndex)
}

function transportKeys(split: NoiseKeys, isInitiator: boolean, remoteIndex: number): TransportKeys {
  split.chainingKey.fill(0)
  const [sendKey, receiveKey] = isInitiator ? [split.initiator, split.responder] : [split.responder, split.initiator]
  return { sendKey, receiveKey, remoteIndex }
}
