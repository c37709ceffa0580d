// What one side tells the other about how to be reached: ICE credentials, candidates (RFC 8445 §5, trickled as RFC 8838 has
// it) and how its NAT assigns ports. Sent only inside sealed messages. Each offer is the whole state, so a lost, repeated
// or late one does no harm: the newest revision of the newest generation counts.
//
//   offset size  field
//   0      1     version = 1
//   1      1     mapping of the NAT: 0 unknown, 1 endpoint-independent, 2 endpoint-dependent
//   2      4     generation, little-endian: grows with every ICE restart
//   6      4     revision, little-endian: grows with every change
//   10     6     username fragment (base64 in STUN, 8 characters)
//   16     18    password (base64 in STUN, 24 characters)
//   34     2     last external port seen, little-endian; 0 when unknown
//   36     2     step between external ports, signed, little-endian; 0 when there is no rule
//   38     1     number of candidates, 0 to 24
//   39     …     candidates: kind (1), priority (4, little-endian), address (address.ts)
//
// Length policy: exact.

import { copyBytes } from '#bytes/copy.ts'
import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { type Address, MAX_ADDRESS_BYTES, readAddress, writeAddress } from './address.ts'

const VERSION = 1
const HEADER_BYTES = 39
const UFRAG_BYTES = 6
const PASSWORD_BYTES = 18
export const MAX_CANDIDATES = 24

const KINDS = ['host', 'serverReflexive', 'relayed', 'mapped'] as const
const MAPPINGS = ['unknown', 'independent', 'dependent'] as const

/** host: an own address; serverReflexive: seen by a server; relayed: on a relay; mapped: opened by UPnP, NAT-PMP or PCP. */
export type CandidateKind = (typeof KINDS)[number]

export interface Candidate {
  readonly kind: CandidateKind
  readonly priority: number
  readonly address: Address
}

/** How a NAT gives external ports to a socket that speaks to several addresses (RFC 4787 §4.1). */
export interface NatBehaviour {
  readonly mapping: (typeof MAPPINGS)[number]
  readonly lastPort: number
  /** Difference between the ports of mappings made one after the other; 0 when there is no rule. */
  readonly step: number
}

export interface PathOffer {
  readonly generation: number
  readonly revision: number
  readonly ufrag: Uint8Array
  readonly password: Uint8Array
  readonly nat: NatBehaviour
  readonly candidates: readonly Candidate[]
}

/** The offer in bytes, at most 615; candidates beyond the 24th are left out. */
export function encodePathOffer(offer: PathOffer): Uint8Array {
  const candidates = offer.candidates.slice(0, MAX_CANDIDATES)
  const writer = new Writer(HEADER_BYTES + candidates.length * (5 + MAX_ADDRESS_BYTES))
    .u8(VERSION)
    .u8(MAPPINGS.indexOf(offer.nat.mapping))
    .u32le(offer.generation)
    .u32le(offer.revision)
    .bytes(offer.ufrag.subarray(0, UFRAG_BYTES))
    .bytes(offer.password.subarray(0, PASSWORD_BYTES))
    .u16le(offer.nat.lastPort)
    .u16le(offer.nat.step & 0xffff)
    .u8(candidates.length)
  for (const { kind, priority, address } of candidates) {
    writer.u8(KINDS.indexOf(kind)).u32le(priority)
    writeAddress(writer, address)
  }
  return writer.done()
}

/** Reads an offer, with copies of its bytes; `undefined` when it is malformed. */
export function decodePathOffer(bytes: Uint8Array): PathOffer | undefined {
  const reader = new Reader(bytes)
  if (reader.u8() !== VERSION) return undefined
  const mapping = MAPPINGS[reader.u8()]
  const generation = reader.u32le()
  const revision = reader.u32le()
  const ufrag = copyBytes(reader.bytes(UFRAG_BYTES))
  const password = copyBytes(reader.bytes(PASSWORD_BYTES))
  const lastPort = reader.u16le()
  const step = (reader.u16le() << 16) >> 16
  const count = reader.u8()
  if (mapping === undefined || count > MAX_CANDIDATES) return undefined
  const candidates: Candidate[] = []
  for (let i = 0; i < count; i++) {
    const kind = KINDS[reader.u8()]
    const priority = reader.u32le()
    const address = readAddress(reader)
    if (kind === undefined || address === undefined) return undefined
    candidates.push({ kind, priority, address })
  }
  if (!reader.done) return undefined
  return { generation, revision, ufrag, password, nat: { mapping, lastPort, step }, candidates }
}
