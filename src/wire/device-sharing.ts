// What a device tells a paired one that it calls itself and offers to it (docs/spec/ratchet.md): the body of a `data` payload.
//
//   offset size  field
//   0      1     kind = 3
//   1      8     version: when the writer last changed what follows, Unix ms
//   9      8     the version of the reader's that the writer has; 0 when it has none
//   17     1     flags: 1 internet by IPv4, 2 internet by IPv6, 128 the writer waits to hear that this version came
//   18     1+n   the writer's own name: length u8, 1 to 32 (device-card.ts)
//   …      1     number of networks, 0 to 16
//   …      n     networks: bits u8 (0 to 32, or 128 more for IPv6), address 4 or 16, zero behind its bits
//
// Little-endian. Length policy: exact. A network that stands there twice makes it malformed.

import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { parseIp } from './address.ts'
import { isDeviceName } from './device-card.ts'
import { formatIp, formatPrefix, type IpPrefix, maskPrefix } from './ip-prefix.ts'

export const SHARING_KIND = 3
export const MAX_SHARED_NETWORKS = 16
const FLAG = { internet4: 1, internet6: 2, asks: 128 } as const
const IPV6 = 128
const MAX_BYTES = 18 + 1 + 32 + 1 + MAX_SHARED_NETWORKS * 17

/** What is offered to one device. */
export interface Shared {
  readonly name: string
  /** Each masked. At most 16. */
  readonly networks: readonly IpPrefix[]
  readonly internet4: boolean
  readonly internet6: boolean
}

export interface SharingMessage extends Shared {
  readonly version: number
  readonly heard: number
  readonly asks: boolean
}

export function encodeSharing(message: SharingMessage): Uint8Array {
  const { version, heard, asks, name, networks, internet4, internet6 } = message
  if (networks.length > MAX_SHARED_NETWORKS) throw new RangeError(`tell of networks: ${networks.length} are too many`)
  const flags = (internet4 ? FLAG.internet4 : 0) | (internet6 ? FLAG.internet6 : 0) | (asks ? FLAG.asks : 0)
  const writer = new Writer(MAX_BYTES).u8(SHARING_KIND).u64le(version).u64le(heard).u8(flags)
  writer.u8(name.length).bytes(Buffer.from(name, 'latin1')).u8(networks.length)
  for (const network of networks) {
    const { address, prefix } = maskPrefix(network)
    const ip = parseIp(address) ?? new Uint8Array(4)
    writer.u8(ip.length === 4 ? prefix : IPV6 + prefix).bytes(ip)
  }
  return writer.done()
}

/** Decodes a message into memory of its own; `undefined` when it is malformed. */
export function decodeSharing(bytes: Uint8Array): SharingMessage | undefined {
  const reader = new Reader(bytes)
  const kind = reader.u8()
  const version = reader.u64le()
  const heard = reader.u64le()
  const flags = reader.u8()
  const name = reader.text(reader.u8())
  const count = reader.u8()
  if (kind !== SHARING_KIND || version === 0 || count > MAX_SHARED_NETWORKS || !isDeviceName(name)) return undefined
  if ((flags & ~(FLAG.internet4 | FLAG.internet6 | FLAG.asks)) !== 0) return undefined
  const networks = Array.from({ length: count }, () => readNetwork(reader))
  const isUnique = new Set(networks.map(formatPrefix)).size === networks.length
  if (!reader.done || !isUnique) return undefined
  const has = (flag: number) => (flags & flag) !== 0
  const internet = { internet4: has(FLAG.internet4), internet6: has(FLAG.internet6) }
  return { version, heard, asks: has(FLAG.asks), name, networks, ...internet }
}

function readNetwork(reader: Reader): IpPrefix {
  const bits = reader.u8()
  const isIPv6 = bits > 32
  const prefix = isIPv6 ? bits - IPV6 : bits
  const network = { address: formatIp(reader.bytes(isIPv6 ? 16 : 4)), prefix }
  if (reader.failed) return { address: '0.0.0.0', prefix: 0 }
  if (prefix < 0 || prefix > 128 || maskPrefix(network).address !== network.address) reader.fail()
  return network
}
