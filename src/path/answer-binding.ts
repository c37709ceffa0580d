// The answer of a relay, or of any node, to a STUN binding request (RFC 8489 §12): the address that it came from. Nothing is
// kept. Whoever calls it limits how often.
//
// No amplification: an answer is at most 60 bytes, a plain request at least 20; a node that answers forged sources limits them
// by address. A request that wants a second answer later is at least as large as both.

import { copyBytes } from '#bytes/copy.ts'
import type { Address } from '#wire/address.ts'
import {
  decodeStun,
  encodeStun,
  readU32Value,
  STUN_ATTRIBUTE,
  STUN_METHOD,
  type StunAttribute,
  stunAttribute,
  u32Value,
  unknownRequired,
} from '#wire/stun.ts'
import { errorValue, unknownAttributesValue, xorAddressValue } from '#wire/stun-value.ts'

/** The longest wait for a second answer. */
export const MAX_ECHO_AFTER_SECONDS = 180
/** What a request for a second answer has at least, so that two answers are never more than was sent. */
export const MIN_ECHO_REQUEST_BYTES = 136

export interface BindingAnswer {
  readonly bytes: Uint8Array
  /** The same bytes are to be sent once more after this long; whoever keeps no timers may leave it. */
  readonly againAfterMs: number | undefined
}

/**
 * What to send to `from`; `undefined` when the datagram is no binding request, or one that must not be answered.
 *
 * @param mayEcho whether a second answer can be promised
 */
export function answerBinding(request: Uint8Array, from: Address, mayEcho = true): BindingAnswer | undefined {
  const message = decodeStun(request)
  if (message === undefined || message.class !== 'request' || message.method !== STUN_METHOD.binding) return undefined
  // Checks between peers are not for servers: who has no key for them stays silent.
  if (message.sha1At !== undefined || message.sha256At !== undefined) return undefined
  const transaction = copyBytes(message.transaction)
  const unknown = unknownRequired(message)
  if (unknown.length > 0) {
    const attributes = [
      { type: STUN_ATTRIBUTE.errorCode, value: errorValue(420, '') },
      { type: STUN_ATTRIBUTE.unknownAttributes, value: unknownAttributesValue(unknown.slice(0, 4)) },
    ]
    const refusal = encodeStun({ class: 'error', method: STUN_METHOD.binding, transaction, attributes })
    return { bytes: refusal, againAfterMs: undefined }
  }
  const seconds = readU32Value(stunAttribute(message, STUN_ATTRIBUTE.echoAfter)) ?? 0
  const isAgain =
    mayEcho && seconds > 0 && seconds <= MAX_ECHO_AFTER_SECONDS && request.length >= MIN_ECHO_REQUEST_BYTES
  const attributes: StunAttribute[] = [
    { type: STUN_ATTRIBUTE.xorMappedAddress, value: xorAddressValue(from, transaction) },
  ]
  if (isAgain) attributes.push({ type: STUN_ATTRIBUTE.echoAfter, value: u32Value(seconds) })
  const bytes = encodeStun({ class: 'success', method: STUN_METHOD.binding, transaction, attributes })
  return { bytes, againAfterMs: isAgain ? seconds * 1_000 : undefined }
}
