import { fold, sum } from './checksum.ts'
import type { IpPacket } from './ip-packet.ts'

/** A number that all packets of one flow, told by addresses and ports, have in common. */
export function flowHash(buffer: Uint8Array, offset: number, packet: IpPacket): number {
  const addresses = sum(buffer, offset + packet.source, packet.addressLength * 2)
  return (fold(addresses + packet.sourcePort) << 16) | packet.destinationPort
}
