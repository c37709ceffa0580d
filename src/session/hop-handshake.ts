// The hop handshake: Noise NK with ML-KEM-768 beside X25519 (docs/spec/handshake.md). Pure: no clock, no sockets.
//
//   <- s
//   ...
//   -> e, es, e1, payload          initiation
//   <- e, ee, ekem1, payload       response

import { blake2s } from '#crypto/blake2s.ts'
import type { Random } from '#crypto/random.ts'
import { importX25519, type X25519PrivateKey, x25519FromPrivate } from '#crypto/x25519.ts'
import {
  decodeInitiation,
  decodeInitiationPayload,
  decodeResponse,
  encodeInitiation,
  encodeInitiationPayload,
  encodeResponse,
  encodeResponsePayload,
  isResponsePayload,
  TICKET_BYTES,
} from '#wire/handshake.ts'
import { addMacs, checkMac1, mac1Key, openCookie } from './cookie.ts'
import { NoiseHandshake, type NoiseKeys, type NoisePattern } from './noise.ts'

/** `e1` stands after `es`, so that the KEM key is sealed: its bytes would tell a watcher what this datagram is. */
const PATTERN: NoisePattern = {
  name: 'Noise_NKhfs_25519+MLKEM768_ChaChaPoly_BLAKE2s',
  hash: 'blake2s256',
  pre: { initiator: [], responder: ['s'] },
  messages: [
    ['e', 'es', 'e1'],
    ['e', 'ee', 'ekem1'],
  ],
}
const PROLOGUE = Buffer.from('hoplite hop handshake v1')
const TICKET_LABEL = Buffer.from('hoplite session ticket')

/** A hop's static key pair, ready for use. */
export interface HopKeys {
  readonly publicKey: Uint8Array
  readonly privateKey: X25519PrivateKey
  readonly mac1Key: Uint8Array
}

/** What both ends have after a handshake. */
export interface HopSessionKeys {
  readonly send: Uint8Array
  readonly receive: Uint8Array
  /** Names the session when its keys are renewed; never on the wire except sealed in an initiation. */
  readonly ticket: Uint8Array
  readonly localIndex: number
  readonly remoteIndex: number
}

export interface InitiatorState {
  readonly noise: NoiseHandshake
  readonly message: Uint8Array
  readonly staticPublic: Uint8Array
  readonly localIndex: number
}

export interface InitiateOptions {
  /** The hop's X25519 public key. */
  readonly staticPublic: Uint8Array
  readonly localIndex: number
  readonly ticket?: Uint8Array
  readonly sequence?: number
  /** From a cookie reply of this hop. */
  readonly cookie?: Uint8Array
  readonly random: Random
}

export interface RespondOptions {
  readonly keys: HopKeys
  /** An initiation whose mac1 was checked. */
  readonly message: Uint8Array
  readonly localIndex: number
}

export type RespondResult =
  | {
      readonly response: Uint8Array
      readonly keys: HopSessionKeys
      readonly renews: Uint8Array | undefined
      readonly sequence: number
    }
  | { readonly error: 'malformed' | 'forged' }

/** A hop's keys from its 32 private bytes. */
export function hopKeys(privateKey: Uint8Array): HopKeys {
  const { publicKey } = x25519FromPrivate(privateKey)
  return { publicKey, privateKey: importX25519(privateKey), mac1Key: mac1Key(publicKey) }
}

/** Makes an initiation. Throws when `staticPublic` is no X25519 key that gives a secret. */
export function initiate(options: InitiateOptions): { readonly message: Uint8Array; readonly state: InitiatorState } {
  const { staticPublic, localIndex } = options
  const noise = new NoiseHandshake({ pattern: PATTERN, isInitiator: true, prologue: PROLOGUE, rs: staticPublic })
  const payload = encodeInitiationPayload({
    ticket: options.ticket ?? new Uint8Array(TICKET_BYTES),
    sequence: options.sequence ?? 0,
  })
  const written = noise.write(payload)
  if (written === undefined) throw new RangeError('begin a handshake: the hop has no usable key')
  const message = encodeInitiation({ senderIndex: localIndex, noise: written })
  addMacs(message, mac1Key(staticPublic), options.cookie)
  return { message, state: { noise, message, staticPublic, localIndex } }
}

/** Takes a hop's response; `undefined` when it is not the answer to this initiation, which may still come. */
export function finish(state: InitiatorState, message: Uint8Array): HopSessionKeys | undefined {
  const response = decodeResponse(message)
  const own = state.noise.ownEphemeral
  if (response === undefined || response.receiverIndex !== state.localIndex || own === undefined) return undefined
  if (!checkMac1(message, mac1Key(own))) return undefined
  const noise = state.noise.fork()
  const payload = noise.read(response.noise)
  if (payload === undefined || !isResponsePayload(payload)) return undefined
  const split = noise.split()
  return {
    send: split.initiator,
    receive: split.responder,
    ticket: ticketOf(split),
    localIndex: state.localIndex,
    remoteIndex: response.senderIndex,
  }
}

/** The cookie in a hop's reply to this initiation; `undefined` when it is forged. */
export function readCookieReply(state: InitiatorState, reply: Uint8Array): Uint8Array | undefined {
  return openCookie(reply, state.message, state.staticPublic)
}

/** Answers an initiation. */
export function respond(options: RespondOptions): RespondResult {
  const { keys, message, localIndex } = options
  const initiation = decodeInitiation(message)
  if (initiation === undefined) return { error: 'malformed' }
  const s = { publicKey: keys.publicKey, privateKey: keys.privateKey }
  const noise = new NoiseHandshake({ pattern: PATTERN, isInitiator: false, prologue: PROLOGUE, s })
  const sealed = noise.read(initiation.noise)
  const payload = sealed && decodeInitiationPayload(sealed)
  const e = noise.remoteEphemeral
  if (payload === undefined || e === undefined) return { error: 'forged' }
  const written = noise.write(encodeResponsePayload())
  if (written === undefined) return { error: 'forged' }
  const response = encodeResponse({ senderIndex: localIndex, receiverIndex: initiation.senderIndex, noise: written })
  addMacs(response, mac1Key(e))
  const split = noise.split()
  const isNew = payload.ticket.every(byte => byte === 0)
  return {
    response,
    keys: {
      send: split.responder,
      receive: split.initiator,
      ticket: ticketOf(split),
      localIndex,
      remoteIndex: initiation.senderIndex,
    },
    renews: isNew ? undefined : payload.ticket.slice(),
    sequence: payload.sequence,
  }
}

function ticketOf(split: NoiseKeys): Uint8Array {
  return blake2s(TICKET_LABEL, split.chainingKey, split.hash)
}
