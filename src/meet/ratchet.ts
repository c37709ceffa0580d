// The double ratchet (Signal's specification, revision 1): every message has a key of its own, which is gone once it was used;
// and whenever the speaker changes, fresh X25519 keys heal what an intruder may have learned.
//
//   root   ──DH──►  root, chain          each time the other's ratchet key is new
//   chain  ─0x02─►  chain                each message
//     └────0x01─►  message key, with a random salt ─► key, nonce
//
// The salt is ours: a device restored from a backup would use a message key again, for another message; with the salt that
// gives another key and nonce. Bounds: 256 messages are skipped in one chain, 512 keys kept in all, the oldest go first.

import { createHmac } from 'node:crypto'
import { chachaOpen, chachaSeal } from '#crypto/chacha20poly1305.ts'
import { hkdf, hkdfExpand, hkdfExtract } from '#crypto/hkdf.ts'
import type { Random } from '#crypto/random.ts'
import { type X25519KeyPair, x25519, x25519FromPrivate } from '#crypto/x25519.ts'
import { encodeRatchetHead, RATCHET_SALT_BYTES, type RatchetHead, type RatchetMessage } from '#wire/device-message.ts'

const MAX_SKIP = 256
const MAX_SKIPPED = 512
const ROOT_INFO = 'hoplite ratchet root'
const MESSAGE_INFO = 'hoplite ratchet message'

/** Everything a ratchet is, to be written down. Arrays are never changed in place. */
export interface RatchetState {
  readonly root: Uint8Array
  readonly own: X25519KeyPair
  readonly theirs: Uint8Array | undefined
  readonly sending: Chain | undefined
  readonly receiving: Chain | undefined
  readonly previousLength: number
  /** Message keys of messages that have not come, by ratchet key and number; in the order in which they were skipped. */
  readonly skipped: readonly SkippedKey[]
}

export interface Chain {
  readonly key: Uint8Array
  readonly next: number
}

export interface SkippedKey {
  readonly ratchetKey: Uint8Array
  readonly number: number
  readonly key: Uint8Array
}

/** The initiator's ratchet: it may speak at once. `undefined` when the other's key is unusable. */
export function initiatorRatchet(root: Uint8Array, theirs: Uint8Array, random: Random): RatchetState | undefined {
  const own = x25519FromPrivate(random(32))
  const step = rootStep(root, own, theirs)
  return (
    step && {
      ...step,
      own,
      theirs,
      sending: { key: step.chain, next: 0 },
      receiving: undefined,
      previousLength: 0,
      skipped: [],
    }
  )
}

/** The responder's ratchet: it may speak once it has heard. `own` is the key that the initiator knows. */
export function responderRatchet(root: Uint8Array, own: X25519KeyPair): RatchetState {
  return { root, own, theirs: undefined, sending: undefined, receiving: undefined, previousLength: 0, skipped: [] }
}

/** Seals one message; the new state must be kept before the message goes out. Throws before a responder has heard. */
export function ratchetSeal(
  state: RatchetState,
  plain: Uint8Array,
  binding: Uint8Array,
  random: Random,
): { readonly state: RatchetState; readonly message: RatchetMessage } {
  const { sending } = state
  if (sending === undefined) throw new Error('seal a message: the other side has not spoken yet')
  const { messageKey, chainKey } = chainStep(sending.key)
  const head = { ratchetKey: state.own.publicKey, previousLength: state.previousLength, number: sending.next }
  const salt = random(RATCHET_SALT_BYTES)
  const { key, nonce, ad } = messageSecrets(messageKey, salt, head, binding)
  const ciphertext = chachaSeal(key, nonce, plain, ad)
  return {
    state: { ...state, sending: { key: chainKey, next: sending.next + 1 } },
    message: { ...head, salt, ciphertext },
  }
}

export type RatchetOpened =
  | { readonly state: RatchetState; readonly plain: Uint8Array }
  | { readonly error: 'repeated' | 'tooFarAhead' | 'forged' }

/** Opens one message. Only one that opens changes the state: what is forged costs nothing. */
export function ratchetOpen(
  state: RatchetState,
  message: RatchetMessage,
  binding: Uint8Array,
  random: Random,
): RatchetOpened {
  const early = state.skipped.find(key => key.number === message.number && isEqual(key.ratchetKey, message.ratchetKey))
  if (early !== undefined) {
    const plain = open(early.key, message, binding)
    return plain === undefined
      ? { error: 'forged' }
      : { state: { ...state, skipped: state.skipped.filter(key => key !== early) }, plain }
  }
  const isKnownKey = state.theirs !== undefined && isEqual(message.ratchetKey, state.theirs)
  const turned = isKnownKey && state.receiving !== undefined ? state : turn(state, message, random)
  if ('error' in turned) return turned
  const { receiving } = turned
  if (receiving === undefined || message.number < receiving.next) return { error: 'repeated' }
  const caught = skipTo(turned, message.number)
  if (caught?.receiving === undefined) return { error: 'tooFarAhead' }
  const { messageKey, chainKey } = chainStep(caught.receiving.key)
  const plain = open(messageKey, message, binding)
  if (plain === undefined) return { error: 'forged' }
  return { state: { ...caught, receiving: { key: chainKey, next: message.number + 1 } }, plain }
}

/** What a chain key gives: the message key of this message, and the chain key of the next. */
export function chainStep(chainKey: Uint8Array): { readonly messageKey: Uint8Array; readonly chainKey: Uint8Array } {
  return {
    messageKey: createHmac('sha256', chainKey).update(Uint8Array.of(1)).digest(),
    chainKey: createHmac('sha256', chainKey).update(Uint8Array.of(2)).digest(),
  }
}

/** The other side has a new ratchet key: finish its old chain, begin its new one, and ours. */
function turn(state: RatchetState, { ratchetKey, previousLength }: RatchetHead, random: Random) {
  const finished = state.receiving === undefined ? state : skipTo(state, previousLength)
  if (finished === undefined) return { error: 'tooFarAhead' } as const
  const heard = rootStep(finished.root, finished.own, ratchetKey)
  const own = x25519FromPrivate(random(32))
  const spoken = heard && rootStep(heard.root, own, ratchetKey)
  if (heard === undefined || spoken === undefined) return { error: 'forged' } as const
  return {
    ...finished,
    root: spoken.root,
    own,
    theirs: Uint8Array.from(ratchetKey),
    receiving: { key: heard.chain, next: 0 },
    sending: { key: spoken.chain, next: 0 },
    previousLength: finished.sending?.next ?? 0,
  }
}

/** Keeps the keys of messages before `number`; `undefined` when those are too many. */
function skipTo(state: RatchetState, number: number): RatchetState | undefined {
  const { receiving, theirs } = state
  if (receiving === undefined || theirs === undefined || number <= receiving.next) return state
  if (number - receiving.next > MAX_SKIP) return undefined
  const skipped = [...state.skipped]
  let { key, next } = receiving
  for (; next < number; next++) {
    const step = chainStep(key)
    skipped.push({ ratchetKey: theirs, number: next, key: step.messageKey })
    key = step.chainKey
  }
  return { ...state, receiving: { key, next }, skipped: skipped.slice(-MAX_SKIPPED) }
}

function rootStep(
  root: Uint8Array,
  own: X25519KeyPair,
  theirs: Uint8Array,
): { readonly root: Uint8Array; readonly chain: Uint8Array } | undefined {
  const shared = x25519(own.privateKey, theirs)
  if (shared === undefined) return undefined
  const output = hkdf(root, shared, ROOT_INFO, 64)
  shared.fill(0)
  return { root: output.slice(0, 32), chain: output.slice(32) }
}

function open(messageKey: Uint8Array, message: RatchetMessage, binding: Uint8Array): Uint8Array | undefined {
  const { key, nonce, ad } = messageSecrets(messageKey, message.salt, message, binding)
  return chachaOpen(key, nonce, message.ciphertext, ad)
}

function messageSecrets(messageKey: Uint8Array, salt: Uint8Array, head: RatchetHead, binding: Uint8Array) {
  const output = hkdfExpand(hkdfExtract(salt, messageKey), Buffer.from(MESSAGE_INFO), 44)
  return {
    key: output.slice(0, 32),
    nonce: output.slice(32),
    ad: Buffer.concat([binding, encodeRatchetHead(head)]),
  }
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}
