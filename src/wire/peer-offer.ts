// What a client and a peer without an address tell each other about how they are reached (docs/spec/letters.md): the offer inside
// a match request, and inside its answer.
//
//   offset size  field
//   0      1     kind: 1, or 2 with a meeting (of an answer alone)
//   1      32    kind 2 alone: id of the relay where the peer waits
//   33     32    kind 2 alone: token to show there
//   …      n     offer (path-offer.ts)
//
// Length policy: exact, the offer is the rest and is not looked into here.

import { copyBytes } from '#bytes/copy.ts'
import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { MEETING_TOKEN_BYTES } from './control.ts'
import type { MeetingPlace } from './device-signal.ts'

const KIND = { alone: 1, meeting: 2 } as const
const RELAY_ID_BYTES = 32
const MAX_OFFER_BYTES = 615

export interface PeerOffer {
  readonly meeting?: MeetingPlace | undefined
  /** A path offer, at most 615 bytes. */
  readonly offer: Uint8Array
}

export function encodePeerOffer({ meeting, offer }: PeerOffer): Uint8Array {
  const writer = new Writer(1 + RELAY_ID_BYTES + MEETING_TOKEN_BYTES + offer.length)
  writer.u8(meeting === undefined ? KIND.alone : KIND.meeting)
  if (meeting !== undefined) writer.bytes(Buffer.from(meeting.relay, 'hex')).bytes(meeting.token)
  return writer.bytes(offer).done()
}

/** Decodes an offer, with a copy of its bytes; `undefined` when it is malformed. What the path offer says is not looked into. */
export function decodePeerOffer(bytes: Uint8Array): PeerOffer | undefined {
  const reader = new Reader(bytes)
  const kind = reader.u8()
  if (kind !== KIND.alone && kind !== KIND.meeting) return undefined
  const meeting = kind === KIND.meeting ? readMeeting(reader) : undefined
  const offer = copyBytes(reader.rest())
  if (!reader.done || offer.length === 0 || offer.length > MAX_OFFER_BYTES) return undefined
  return { ...(meeting && { meeting }), offer }
}

function readMeeting(reader: Reader): MeetingPlace {
  const relay = Buffer.from(reader.bytes(RELAY_ID_BYTES)).toString('hex')
  return { relay, token: copyBytes(reader.bytes(MEETING_TOKEN_BYTES)) }
}
