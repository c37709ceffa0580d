// A device's card: its name and keys, as its own devices know them (docs/spec/pairing.md). It goes only through channels that
// are secret and authenticated already, so it carries no signature: whoever has a card could have made it up.
//
//   offset size  field
//   0      1     version = 1
//   1      16    device id
//   17     4     generation of the keys, from 1
//   21     1216  sealing key (X-Wing): letters
//   1237   32    identity key (X25519)
//   1269   32    prekey (X25519)
//   1301   1184  KEM key (ML-KEM-768)
//   2485   32    tunnel key (X25519): WireGuard
//   2517   1+n   name: length u8, 1 to 32; a DNS label: a-z 0-9 -, no - at its ends
//
// Little-endian. Length policy: exact.

import { copyBytes } from '#bytes/copy.ts'
import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { SEALING_KEY_BYTES } from './content.ts'

export const DEVICE_ID_BYTES = 16
export const MAX_CARD_BYTES = 2517 + 1 + 32
const KEM_KEY_BYTES = 1184
const NAME = /^(?!-)[a-z0-9-]{1,32}(?<!-)$/

export interface DeviceCard {
  /** 32 hex digits; stays when the keys change. */
  readonly id: string
  readonly generation: number
  readonly sealingKey: Uint8Array
  readonly identityKey: Uint8Array
  readonly prekey: Uint8Array
  readonly kemKey: Uint8Array
  readonly tunnelKey: Uint8Array
  readonly name: string
}

/** Whether a device may have this name. */
export function isDeviceName(name: string): boolean {
  return NAME.test(name)
}

export function encodeCard(card: DeviceCard): Uint8Array {
  return new Writer(MAX_CARD_BYTES)
    .u8(1)
    .bytes(Buffer.from(card.id, 'hex'))
    .u32le(card.generation)
    .bytes(card.sealingKey)
    .bytes(card.identityKey)
    .bytes(card.prekey)
    .bytes(card.kemKey)
    .bytes(card.tunnelKey)
    .u8(card.name.length)
    .bytes(Buffer.from(card.name, 'latin1'))
    .done()
}

/** Decodes a card into memory of its own; `undefined` when it is malformed. Whether the keys are usable is not looked at. */
export function decodeCard(bytes: Uint8Array): DeviceCard | undefined {
  const reader = new Reader(bytes)
  const version = reader.u8()
  const card = {
    id: Buffer.from(reader.bytes(DEVICE_ID_BYTES)).toString('hex'),
    generation: reader.u32le(),
    sealingKey: copyBytes(reader.bytes(SEALING_KEY_BYTES)),
    identityKey: copyBytes(reader.bytes(32)),
    prekey: copyBytes(reader.bytes(32)),
    kemKey: copyBytes(reader.bytes(KEM_KEY_BYTES)),
    tunnelKey: copyBytes(reader.bytes(32)),
    name: reader.text(reader.u8()),
  }
  return reader.done && version === 1 && card.generation > 0 && isDeviceName(card.name) ? card : undefined
}
