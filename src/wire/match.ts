// A request to be served by somebody, and the answer (docs/spec/letters.md). Both are contents of letters.
//
//   request: kind u8 = 1, nonce 16, reply key 1216, offer (rest, 0 to 1,600)
//   answer:  kind u8 = 2, nonce 16 (the request's), accepted u8 (0 or 1), offer (rest, 0 to 1,600)
//
// An offer is whatever the two need to reach each other; it is not looked into here. Length policy: exact, the offer is the
// rest.

import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { CONTENT_KIND, SEALING_KEY_BYTES } from './content.ts'

export const MATCH_NONCE_BYTES = 16
export const MAX_OFFER_BYTES = 1600

export type MatchMessage =
  | {
      readonly kind: 'request'
      readonly nonce: Uint8Array
      /** The key that the answer is sealed for; made for this request alone. */
      readonly replyKey: Uint8Array
      readonly offer: Uint8Array
    }
  | { readonly kind: 'answer'; readonly nonce: Uint8Array; readonly isAccepted: boolean; readonly offer: Uint8Array }

/** Encodes a message. Throws for an offer that is too long. */
export function encodeMatch(message: MatchMessage): Uint8Array {
  if (message.offer.length > MAX_OFFER_BYTES) throw new RangeError(`ask for a match: ${message.offer.length} bytes`)
  const writer = new Writer(1 + MATCH_NONCE_BYTES + SEALING_KEY_BYTES + MAX_OFFER_BYTES)
  if (message.kind === 'request') {
    return writer.u8(CONTENT_KIND.matchRequest).bytes(message.nonce).bytes(message.replyKey).bytes(message.offer).done()
  }
  writer.u8(CONTENT_KIND.matchAnswer).bytes(message.nonce)
  return writer
    .u8(message.isAccepted ? 1 : 0)
    .bytes(message.offer)
    .done()
}

/** Decodes a message, with views into `content`; `undefined` when it is malformed. */
export function decodeMatch(content: Uint8Array): MatchMessage | undefined {
  const reader = new Reader(content)
  const kind = reader.u8()
  const nonce = reader.bytes(MATCH_NONCE_BYTES)
  const message = readBody(reader, kind, nonce)
  return message !== undefined && reader.done && message.offer.length <= MAX_OFFER_BYTES ? message : undefined
}

function readBody(reader: Reader, kind: number, nonce: Uint8Array): MatchMessage | undefined {
  if (kind === CONTENT_KIND.matchRequest)
    return { kind: 'request', nonce, replyKey: reader.bytes(SEALING_KEY_BYTES), offer: reader.rest() }
  if (kind !== CONTENT_KIND.matchAnswer) return undefined
  const accepted = reader.u8()
  return accepted > 1 ? undefined : { kind: 'answer', nonce, isAccepted: accepted === 1, offer: reader.rest() }
}
