// How a client of a laboratory relay says which flow a datagram belongs to, and who is at its other end.
//
//   offset size  field
//   0      2     port of the flow on the relay, little-endian
//   2      2     port of the other end, little-endian; 0: nothing to send, only to be heard of
//   4      4     IPv4 address of the other end
//   8      …     datagram
//
// In a stream each packet has its length before it (2 bytes, little-endian).

import { copyBytes } from '#bytes/copy.ts'
import { type Address, parseIp } from '#wire/address.ts'

const HEADER_BYTES = 8

export interface FlowPacket {
  readonly port: number
  readonly address: Address
  readonly bytes: Uint8Array
}

export function wrap(port: number, address: Address, bytes: Uint8Array): Uint8Array {
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt16LE(port, 0)
  header.writeUInt16LE(address.port, 2)
  header.set(parseIp(address.host) ?? [0, 0, 0, 0], 4)
  return Buffer.concat([header, bytes])
}

export function unwrap(packet: Uint8Array): FlowPacket | undefined {
  if (packet.length < HEADER_BYTES) return undefined
  const view = Buffer.from(packet.buffer, packet.byteOffset, packet.byteLength)
  const address = { host: view.subarray(4, 8).join('.'), port: view.readUInt16LE(2) }
  return { port: view.readUInt16LE(0), address, bytes: copyBytes(packet, HEADER_BYTES) }
}

export function frame(packet: Uint8Array): Uint8Array {
  const header = Buffer.alloc(2)
  header.writeUInt16LE(packet.length)
  return Buffer.concat([header, packet])
}

/** Takes a stream apart. */
export class FrameReader {
  #rest = Buffer.alloc(0)

  /** The packets that are complete with `data`. */
  read(data: Uint8Array): Uint8Array[] {
    const packets: Uint8Array[] = []
    this.#rest = Buffer.concat([this.#rest, data])
    while (this.#rest.length >= 2) {
      const end = 2 + this.#rest.readUInt16LE(0)
      if (this.#rest.length < end) break
      packets.push(copyBytes(this.#rest, 2, end))
      this.#rest = this.#rest.subarray(end)
    }
    return packets
  }
}
