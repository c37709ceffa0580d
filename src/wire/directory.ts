// Messages of the directory protocol `/hoplite/directory/1.0.0` (docs/spec/directory.md), each behind a length prefix.
//
//   digest request   kind u8 = 1
//   digest answer    kind u8 = 2, count u16, then per relay: node id 32, sequence u64; ascending by id
//   piece request    kind u8 = 3, count u8 (1 to 16), then node ids 32
//   piece answer     kind u8 = 4, count u8 (0 to 16), then per relay: length u16, descriptor
//
// Length policy: exact; a digest names at most 20,000 relays. Little-endian.

import { copyBytes } from '#bytes/copy.ts'
import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { MAX_DESCRIPTOR_BYTES } from './descriptor.ts'

export const DIRECTORY_PROTOCOL = '/hoplite/directory/1.0.0'
export const MAX_DIRECTORY_RELAYS = 20_000
export const MAX_PIECE = 16
export const MAX_DIRECTORY_MESSAGE = Math.max(3 + MAX_DIRECTORY_RELAYS * 40, 2 + MAX_PIECE * (2 + MAX_DESCRIPTOR_BYTES))

export interface DigestEntry {
  readonly id: string
  readonly sequence: number
}

export type DirectoryMessage =
  | { readonly kind: 'digestRequest' }
  | { readonly kind: 'digest'; readonly entries: readonly DigestEntry[] }
  | { readonly kind: 'pieceRequest'; readonly ids: readonly string[] }
  | { readonly kind: 'piece'; readonly descriptors: readonly Uint8Array[] }

/** Encodes a message; throws for one that breaks the bounds. */
export function encodeDirectory(message: DirectoryMessage): Uint8Array {
  switch (message.kind) {
    case 'digestRequest':
      return Uint8Array.of(1)
    case 'digest': {
      const writer = new Writer(3 + message.entries.length * 40).u8(2).u16le(message.entries.length)
      for (const { id, sequence } of message.entries) writer.bytes(Buffer.from(id, 'hex')).u64le(sequence)
      return writer.done()
    }
    case 'pieceRequest': {
      const writer = new Writer(2 + MAX_PIECE * 32).u8(3).u8(message.ids.length)
      for (const id of message.ids) writer.bytes(Buffer.from(id, 'hex'))
      return writer.done()
    }
    case 'piece': {
      const writer = new Writer(MAX_DIRECTORY_MESSAGE).u8(4).u8(message.descriptors.length)
      for (const bytes of message.descriptors) writer.u16le(bytes.length).bytes(bytes)
      return copyBytes(writer.done())
    }
  }
}

/** Decodes a message; `undefined` when it is malformed. */
export function decodeDirectory(bytes: Uint8Array): DirectoryMessage | undefined {
  const reader = new Reader(bytes)
  const message = read(reader)
  return reader.done ? message : undefined
}

function read(reader: Reader): DirectoryMessage | undefined {
  switch (reader.u8()) {
    case 1:
      return { kind: 'digestRequest' }
    case 2: {
      const count = reader.u16le()
      if (count > MAX_DIRECTORY_RELAYS || reader.remaining !== count * 40) return refuse(reader)
      const entries: DigestEntry[] = []
      for (let i = 0; i < count; i++) {
        const entry = { id: Buffer.from(reader.bytes(32)).toString('hex'), sequence: reader.u64le() }
        if (entry.id <= (entries.at(-1)?.id ?? '')) return refuse(reader)
        entries.push(entry)
      }
      return { kind: 'digest', entries }
    }
    case 3: {
      const count = reader.u8()
      if (count < 1 || count > MAX_PIECE) return refuse(reader)
      const ids = Array.from({ length: count }, () => Buffer.from(reader.bytes(32)).toString('hex'))
      return { kind: 'pieceRequest', ids }
    }
    case 4: {
      const count = reader.u8()
      if (count > MAX_PIECE) return refuse(reader)
      return {
        kind: 'piece',
        descriptors: Array.from({ length: count }, () => copyBytes(reader.bytes(reader.u16le()))),
      }
    }
    default:
      return refuse(reader)
  }
}

function refuse(reader: Reader): undefined {
  reader.fail()
  return undefined
}
