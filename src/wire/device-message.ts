// What one device writes to another after pairing (docs/spec/ratchet.md). Contents of letters.
//
//   begin    kind u8 = 8, sender 16, session 8, handshake 1132, ratchet message
//   message  kind u8 = 9, sender 16, session 8, ratchet message
//
//   handshake: reader's generation u32, begun u64 (Unix ms), ephemeral key 32 (X25519), KEM ciphertext 1088
//   ratchet message: ratchet key 32 (X25519), length of the chain before u32, number u32, salt 16, ciphertext (rest, a tag
//   of 16 at its end)
//
//   inside the ciphertext: kind u8, body (rest)
//     1 data   body of the program's own      2 card  device-card.ts, new keys      3 hello  empty      4 bye  empty
//
// Little-endian. Length policy: exact, the ciphertext and the body are the rest.

import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { CONTENT_KIND } from './content.ts'
import { DEVICE_ID_BYTES } from './device-card.ts'
import { MAX_CONTENT_BYTES } from './letter.ts'

export const SESSION_ID_BYTES = 8
export const RATCHET_SALT_BYTES = 16
const RATCHET_HEAD_BYTES = 32 + 4 + 4
const KEM_CIPHERTEXT_BYTES = 1088
const TAG_BYTES = 16
/** What `data` may carry beside a handshake: a first message must always fit. */
export const MAX_DATA_BYTES = 1500

export interface RatchetHead {
  readonly ratchetKey: Uint8Array
  readonly previousLength: number
  readonly number: number
}

export interface RatchetMessage extends RatchetHead {
  readonly salt: Uint8Array
  readonly ciphertext: Uint8Array
}

export interface BeginHandshake {
  /** Of the reader's keys. */
  readonly generation: number
  readonly begunMs: number
  readonly ephemeralKey: Uint8Array
  readonly kemCiphertext: Uint8Array
}

export interface DeviceMessage {
  /** A device id, 32 hex digits; a claim until the rest has opened. */
  readonly sender: string
  readonly session: Uint8Array
  readonly begin: BeginHandshake | undefined
  readonly ratchet: RatchetMessage
}

const PAYLOAD_KINDS = { data: 1, card: 2, hello: 3, bye: 4 } as const
export interface DevicePayload {
  readonly kind: keyof typeof PAYLOAD_KINDS
  readonly body: Uint8Array
}

export function encodeDeviceMessage({ sender, session, begin, ratchet }: DeviceMessage): Uint8Array {
  const writer = new Writer(MAX_CONTENT_BYTES)
  writer.u8(begin === undefined ? CONTENT_KIND.deviceMessage : CONTENT_KIND.deviceBegin)
  writer.bytes(Buffer.from(sender, 'hex')).bytes(session)
  if (begin !== undefined) {
    writer.u32le(begin.generation).u64le(begin.begunMs).bytes(begin.ephemeralKey).bytes(begin.kemCiphertext)
  }
  return writer.bytes(encodeRatchetHead(ratchet)).bytes(ratchet.salt).bytes(ratchet.ciphertext).done()
}

/** Decodes a message, with views into `content`; `undefined` when it is malformed. */
export function decodeDeviceMessage(content: Uint8Array): DeviceMessage | undefined {
  const reader = new Reader(content)
  const kind = reader.u8()
  if (kind !== CONTENT_KIND.deviceBegin && kind !== CONTENT_KIND.deviceMessage) return undefined
  const sender = Buffer.from(reader.bytes(DEVICE_ID_BYTES)).toString('hex')
  const session = reader.bytes(SESSION_ID_BYTES)
  const begin =
    kind === CONTENT_KIND.deviceMessage
      ? undefined
      : {
          generation: reader.u32le(),
          begunMs: reader.u64le(),
          ephemeralKey: reader.bytes(32),
          kemCiphertext: reader.bytes(KEM_CIPHERTEXT_BYTES),
        }
  const ratchet = {
    ratchetKey: reader.bytes(32),
    previousLength: reader.u32le(),
    number: reader.u32le(),
    salt: reader.bytes(RATCHET_SALT_BYTES),
    ciphertext: reader.rest(),
  }
  return reader.done && ratchet.ciphertext.length > TAG_BYTES ? { sender, session, begin, ratchet } : undefined
}

/** The part of a ratchet message that its ciphertext is bound to. */
export function encodeRatchetHead({ ratchetKey, previousLength, number }: RatchetHead): Uint8Array {
  return new Writer(RATCHET_HEAD_BYTES).bytes(ratchetKey).u32le(previousLength).u32le(number).done()
}

export function encodePayload({ kind, body }: DevicePayload): Uint8Array {
  return new Writer(1 + body.length).u8(PAYLOAD_KINDS[kind]).bytes(body).done()
}

/** Decodes what was inside a ciphertext; `undefined` when it is malformed. */
export function decodePayload(plain: Uint8Array): DevicePayload | undefined {
  const reader = new Reader(plain)
  const code = reader.u8()
  const kind = (Object.keys(PAYLOAD_KINDS) as DevicePayload['kind'][]).find(name => PAYLOAD_KINDS[name] === code)
  const body = reader.rest()
  const isSound = kind === 'data' || kind === 'card' || body.length === 0
  return kind !== undefined && reader.done && isSound ? { kind, body } : undefined
}
