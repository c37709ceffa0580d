// What devices tell each other about how they are reached (docs/spec/ratchet.md): the body of a `data` payload.
//
//   offset size  field
//   0      1     kind = 1
//   1      8     when the writer's program began, Unix ms: what it said before counts no more
//   9      8     the same of the reader's program, as the writer last heard it; 0 when it has not
//   17     n     offer (path-offer.ts)
//
// Little-endian. Length policy: exact, the offer is the rest and is not looked into here.

import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'

const KIND = 1
const HEAD_BYTES = 17
const MAX_OFFER_BYTES = 615

export interface DeviceSignal {
  readonly begunMs: number
  readonly heardMs: number
  readonly offer: Uint8Array
}

export function encodeDeviceSignal({ begunMs, heardMs, offer }: DeviceSignal): Uint8Array {
  return new Writer(HEAD_BYTES + offer.length).u8(KIND).u64le(begunMs).u64le(heardMs).bytes(offer).done()
}

/** Decodes a signal, with a view of the offer; `undefined` when it is malformed. */
export function decodeDeviceSignal(bytes: Uint8Array): DeviceSignal | undefined {
  const reader = new Reader(bytes)
  const kind = reader.u8()
  const signal = { begunMs: reader.u64le(), heardMs: reader.u64le(), offer: reader.rest() }
  const isSound = reader.done && kind === KIND && signal.begunMs > 0
  return isSound && signal.offer.length > 0 && signal.offer.length <= MAX_OFFER_BYTES ? signal : undefined
}
