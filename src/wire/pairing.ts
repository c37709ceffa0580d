// The messages by which two devices pair (docs/spec/pairing.md). All are contents of letters.
//
//   hello    kind u8 = 3, session 16, share 32, reply key 1216      guest → host, sealed for the code's place
//   answer   kind u8 = 4, session 16, share 32, tag 32, reply key 1216   host → guest
//   confirm  kind u8 = 5, session 16, tag 32, sealed card (rest)    guest → host
//   done     kind u8 = 6, session 16, sealed card (rest)            host → guest
//   refused  kind u8 = 7, session 16, reason u8: 1 the code was used, 2 the code is wrong, 3 it was taken back
//
// A sealed card: ChaCha20-Poly1305 over device-card.ts. Length policy: exact, the sealed card is the rest.

import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { CONTENT_KIND, SEALING_KEY_BYTES } from './content.ts'
import { MAX_CARD_BYTES } from './device-card.ts'

const SESSION_BYTES = 16
const SHARE_BYTES = 32
const TAG_BYTES = 32
const MAX_SEALED_CARD = MAX_CARD_BYTES + 16
const REASONS = { used: 1, wrongCode: 2, withdrawn: 3 } as const
export type PairRefusal = keyof typeof REASONS

export type PairMessage = { readonly session: Uint8Array } & (
  | { readonly kind: 'hello'; readonly share: Uint8Array; readonly replyKey: Uint8Array }
  | {
      readonly kind: 'answer'
      readonly share: Uint8Array
      readonly tag: Uint8Array
      readonly replyKey: Uint8Array
    }
  | { readonly kind: 'confirm'; readonly tag: Uint8Array; readonly sealedCard: Uint8Array }
  | { readonly kind: 'done'; readonly sealedCard: Uint8Array }
  | { readonly kind: 'refused'; readonly reason: PairRefusal }
)

export function encodePair(message: PairMessage): Uint8Array {
  const writer = new Writer(1 + SESSION_BYTES + TAG_BYTES + MAX_SEALED_CARD)
  switch (message.kind) {
    case 'hello':
      writer.u8(CONTENT_KIND.pairHello).bytes(message.session).bytes(message.share).bytes(message.replyKey)
      break
    case 'answer':
      writer.u8(CONTENT_KIND.pairAnswer).bytes(message.session).bytes(message.share)
      writer.bytes(message.tag).bytes(message.replyKey)
      break
    case 'confirm':
      writer.u8(CONTENT_KIND.pairConfirm).bytes(message.session).bytes(message.tag).bytes(message.sealedCard)
      break
    case 'done':
      writer.u8(CONTENT_KIND.pairDone).bytes(message.session).bytes(message.sealedCard)
      break
    case 'refused':
      writer.u8(CONTENT_KIND.pairRefused).bytes(message.session).u8(REASONS[message.reason])
      break
  }
  return writer.done()
}

/** Decodes a message, with views into `content`; `undefined` when it is malformed. */
export function decodePair(content: Uint8Array): PairMessage | undefined {
  const reader = new Reader(content)
  const kind = reader.u8()
  const session = reader.bytes(SESSION_BYTES)
  const message = readBody(reader, kind, session)
  return message !== undefined && reader.done ? message : undefined
}

function readBody(reader: Reader, kind: number, session: Uint8Array): PairMessage | undefined {
  switch (kind) {
    case CONTENT_KIND.pairHello: {
      return { kind: 'hello', session, share: reader.bytes(SHARE_BYTES), replyKey: reader.bytes(SEALING_KEY_BYTES) }
    }
    case CONTENT_KIND.pairAnswer: {
      const [share, tag] = [reader.bytes(SHARE_BYTES), reader.bytes(TAG_BYTES)]
      return { kind: 'answer', session, share, tag, replyKey: reader.bytes(SEALING_KEY_BYTES) }
    }
    case CONTENT_KIND.pairConfirm: {
      const tag = reader.bytes(TAG_BYTES)
      const sealedCard = readSealedCard(reader)
      return sealedCard && { kind: 'confirm', session, tag, sealedCard }
    }
    case CONTENT_KIND.pairDone: {
      const sealedCard = readSealedCard(reader)
      return sealedCard && { kind: 'done', session, sealedCard }
    }
    case CONTENT_KIND.pairRefused: {
      const code = reader.u8()
      const reason = (Object.keys(REASONS) as PairRefusal[]).find(name => REASONS[name] === code)
      return reason && { kind: 'refused', session, reason }
    }
    default:
      return undefined
  }
}

function readSealedCard(reader: Reader): Uint8Array | undefined {
  return reader.remaining > MAX_SEALED_CARD ? undefined : reader.rest()
}
