// The hop handshake: Noise NK with ML-KEM-768 beside X25519 (docs/spec/handshake.md). Pure: no clock, no sockets.
//
//   <- s
//   ...
//   -> e, es, e1, payload          initiation
//   <- e, ee, ekem1, payload       response

import { blake2s } from '#crypto/blake2s.ts'
import { mlKemFromSeed } from '#crypto/mlkem768.ts'
import type { Random } from '#crypto/random.ts'
import { importX25519, type X25519PrivateKey, x25519FromPrivate } from '#crypto/x25519.ts'
import {
  decodeCookieReply,
  decodeInitiation,
  decodeInitiationPayload,
  decodeResponse,
  decodeResponsePayload,
  encodeInitiation,
  encodeInitiationPayload,
  encodeResponse,
  encodeResponsePayload,
} from '#wire/handshake.ts'
import { addMacs, checkMac1, mac1Key, openCookie } from './cookie.ts'
import { NoiseHandshake, type NoisePattern } from './noise.ts'
import type { NoiseKeys } from './symmetric-state.ts'

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

/** What both ends have after a handshake; keys and ticket are 32 bytes. */
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
  /** To renew a session's keys: its ticket, and a number that grows with every renewal. */
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
  /** May be chosen by the ticket of the session that is renewed, if any. */
  readonly localIndex: number | ((renews: Uint8Array | undefined) => number)
}

export type RespondResult =
  | {
      readonly response: Uint8Array
      readonly keys: HopSessionKeys
      /** The ticket of the session whose keys these are; `undefined` for a new one. */
      readonly renews: Uint8Array | undefined
      /** Must have grown since the last renewal; 0 for a new session. */
      readonly sequence: number
    }
  | { readonly error: 'malformed' | 'forged' }

/** A hop's keys from its 32 private bytes. */
export function hopKeys(privateKey: Uint8Array): HopKeys {
  const { publicKey } = x25519FromPrivate(privateKey)
  return { publicKey, privateKey: importX25519(privateKey), mac1Key: mac1Key(publicKey) }
}

/**
 * Makes an initiation. Throws when `staticPublic` is no usable X25519 key (`isUsableX25519`), or a ticket comes without
 * its sequence of 1 to 2^53 - 1.
 */
export function initiate(options: InitiateOptions): { readonly message: Uint8Array; readonly state: InitiatorState } {
  const { staticPublic, localIndex, ticket, sequence = 0, random } = options
  if ((ticket === undefined) !== (sequence === 0)) throw new RangeError('begin a handshake: a ticket needs a sequence')
  const noise = new NoiseHandshake({
    pattern: PATTERN,
    isInitiator: true,
    prologue: PROLOGUE,
    rs: staticPublic,
    e: x25519FromPrivate(random(32)),
    kem: mlKemFromSeed(random(64)),
  })
  const renewal = ticket && { ticket, sequence }
  const written = noise.write(encodeInitiationPayload({ renewal, senderIndex: localIndex }))
  if (written === undefined) throw new RangeError('begin a handshake: the hop has no usable key')
  const message = encodeInitiation({ senderIndex: localIndex, noise: written })
  addMacs(message, mac1Key(staticPublic), options.cookie)
  return { message, state: { noise, message, staticPublic, localIndex } }
}

/** Takes a hop's response; `undefined` when it is not the answer to this initiation, which may still come. */
export function finish(state: InitiatorState, message: Uint8Array): HopSessionKeys | undefined {
  const { noise, localIndex } = state
  const response = decodeResponse(message)
  const own = noise.ownEphemeral
  if (response === undefined || response.receiverIndex !== localIndex || own === undefined) return undefined
  if (noise.isFinished || !checkMac1(message, mac1Key(own))) return undefined
  const payload = noise.read(response.noise)
  if (payload === undefined) return undefined
  // The header's copy of the index is open to change on the way, the sealed one is not.
  const remoteIndex = decodeResponsePayload(payload)
  const split = noise.split()
  if (remoteIndex === undefined) return undefined
  return {
    send: split.initiator,
    receive: split.responder,
    ticket: ticketOf(split),
    localIndex,
    remoteIndex,
  }
}

/** Gives an initiation up: its secrets are wiped, and no response finishes it any more. */
export function discard(state: InitiatorState): void {
  state.noise.wipe()
}

/** The cookie in a hop's reply to this initiation; `undefined` when it is forged. */
export function readCookieReply(state: InitiatorState, reply: Uint8Array): Uint8Array | undefined {
  const decoded = decodeCookieReply(reply)
  if (decoded?.receiverIndex !== state.localIndex) return undefined
  return openCookie(decoded, state.message, state.staticPublic)
}

/** Answers an initiation. */
export function respond(options: RespondOptions): RespondResult {
  const { keys, message } = options
  const initiation = decodeInitiation(message)
  if (initiation === undefined) return { error: 'malformed' }
  const s = { publicKey: keys.publicKey, privateKey: keys.privateKey }
  const noise = new NoiseHandshake({ pattern: PATTERN, isInitiator: false, prologue: PROLOGUE, s })
  const plain = noise.read(initiation.noise)
  const e = noise.remoteEphemeral
  if (plain === undefined || e === undefined) return refuse(noise, 'forged')
  const payload = decodeInitiationPayload(plain)
  plain.fill(0)
  if (payload === undefined) return refuse(noise, 'malformed')
  if (payload.senderIndex !== initiation.senderIndex) return refuse(noise, 'forged')
  const { localIndex: index } = options
  const localIndex = typeof index === 'number' ? index : index(payload.renewal?.ticket)
  const written = noise.write(encodeResponsePayload(localIndex))
  if (written === undefined) return refuse(noise, 'malformed')
  const response = encodeResponse({ senderIndex: localIndex, receiverIndex: initiation.senderIndex, noise: written })
  addMacs(response, mac1Key(e))
  const split = noise.split()
  return {
    response,
    keys: {
      send: split.responder,
      receive: split.initiator,
      ticket: ticketOf(split),
      localIndex,
      remoteIndex: initiation.senderIndex,
    },
    renews: payload.renewal?.ticket,
    sequence: payload.renewal?.sequence ?? 0,
  }
}

function refuse(noise: NoiseHandshake, error: 'malformed' | 'forged'): { readonly error: 'malformed' | 'forged' } {
  noise.wipe()
  return { error }
}

function ticketOf(split: NoiseKeys): Uint8Array {
  const ticket = blake2s(TICKET_LABEL, split.chainingKey, split.hash)
  split.chainingKey.fill(0)
  return ticket
}
