// Messages by which two nodes agree on the pre-shared key of their WireGuard session (docs/spec/wireguard.md). They travel
// inside an authenticated control channel. Lengths are exact.
//
//   offer, 1204 bytes                answer, 1108 bytes               confirm and done, 52 bytes
//   offset size  field               offset size  field               offset size  field
//   0      1     type = 1            0      1     type = 2            0      1     type = 3, 4
//   1      3     zero                1      3     zero                1      3     zero
//   4      16    exchange            4      16    exchange            4      16    exchange
//   20     1184  ML-KEM-768 key      20     1088  ciphertext          20     32    tag

import { copyBytes } from '#bytes/copy.ts'
import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'

export const EXCHANGE_ID_BYTES = 16
const TYPES = ['offer', 'answer', 'confirm', 'done'] as const
const BODY_BYTES = { offer: 1184, answer: 1088, confirm: 32, done: 32 } as const

export interface PskMessage {
  readonly kind: (typeof TYPES)[number]
  /** 16 random bytes that name the exchange. */
  readonly exchange: Uint8Array
  /** Encapsulation key, ciphertext or tag. */
  readonly body: Uint8Array
}

export function encodePskMessage({ kind, exchange, body }: PskMessage): Uint8Array {
  const writer = new Writer(4 + EXCHANGE_ID_BYTES + BODY_BYTES[kind]).u8(TYPES.indexOf(kind) + 1).zeros(3)
  return writer.bytes(exchange).bytes(body).done()
}

/** The parts of a message, in memory of their own; `undefined` for another type or length. */
export function decodePskMessage(bytes: Uint8Array): PskMessage | undefined {
  const reader = new Reader(bytes)
  const kind = TYPES[reader.u8() - 1]
  reader.zeros(3)
  const exchange = copyBytes(reader.bytes(EXCHANGE_ID_BYTES))
  const body = copyBytes(reader.rest())
  if (reader.failed || kind === undefined || body.length !== BODY_BYTES[kind]) return undefined
  return { kind, exchange, body }
}
