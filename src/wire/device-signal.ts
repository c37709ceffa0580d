// What devices tell each other about how they are reached (docs/spec/ratchet.md): the body of a `data` payload.
//
//   offset size  field
//   0      1     kind: 1, or 2 with a meeting
//   1      8     when the writer's program began, Unix ms: what it said before counts no more
//   9      8     the same of the reader's program, as the writer last heard it; 0 when it has not
//   17     32    kind 2 alone: id of the relay to meet at
//   49     32    kind 2 alone: token to show there
//   …      n     offer (path-offer.ts)
//
// Little-endian. Length policy: exact, the offer is the rest and is not looked into here.

import { copyBytes } from '#bytes/copy.ts'
import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { MEETING_TOKEN_BYTES } from './control.ts'

const KIND = { alone: 1, meeting: 2 } as const
const HEAD_BYTES = 17
const RELAY_ID_BYTES = 32
const MAX_OFFER_BYTES = 615

/** Where a relay joins two flows for whoever shows it this token (control.ts, `meet`). */
export interface MeetingPlace {
  /** The relay's id, 64 hex digits. */
  readonly relay: string
  readonly token: Uint8Array
}

export interface DeviceSignal {
  readonly begunMs: number
  readonly heardMs: number
  readonly meeting?: MeetingPlace | undefined
  readonly offer: Uint8Array
}

export function encodeDeviceSignal({ begunMs, heardMs, meeting, offer }: DeviceSignal): Uint8Array {
  const writer = new Writer(HEAD_BYTES + RELAY_ID_BYTES + MEETING_TOKEN_BYTES + offer.length)
  writer
    .u8(meeting === undefined ? KIND.alone : KIND.meeting)
    .u64le(begunMs)
    .u64le(heardMs)
  if (meeting !== undefined) writer.bytes(Buffer.from(meeting.relay, 'hex')).bytes(meeting.token)
  return writer.bytes(offer).done()
}

/** Decodes a signal, with a view of the offer; `undefined` when it is malformed. */
export function decodeDeviceSignal(bytes: Uint8Array): DeviceSignal | undefined {
  const reader = new Reader(bytes)
  const kind = reader.u8()
  const begun = { begunMs: reader.u64le(), heardMs: reader.u64le() }
  const meeting = kind === KIND.meeting ? readMeeting(reader) : undefined
  const signal = { ...begun, ...(meeting && { meeting }), offer: reader.rest() }
  const isSound = reader.done && (kind === KIND.alone || kind === KIND.meeting) && signal.begunMs > 0
  return isSound && signal.offer.length > 0 && signal.offer.length <= MAX_OFFER_BYTES ? signal : undefined
}

function readMeeting(reader: Reader): MeetingPlace {
  const relay = Buffer.from(reader.bytes(RELAY_ID_BYTES)).toString('hex')
  return { relay, token: copyBytes(reader.bytes(MEETING_TOKEN_BYTES)) }
}
