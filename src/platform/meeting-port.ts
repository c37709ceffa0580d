// A meeting at a relay: between the mesh plane and the data plane, which has the session with the relay.
//
// Nobody has an address in a flow that a relay joins to another. Two addresses of the discard-only prefix 100::/64 (RFC 6666),
// which both sides make of the token, stand for the two ends.

import { createHash } from 'node:crypto'
import { type Address, formatIPv6 } from '#wire/address.ts'

/** Stands before every datagram: a SOCKS UDP header of no target (RFC 1928 §7), as associations have it. */
export const MEETING_HEADER = Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 0, 0, 1)

export interface MeetingPort {
  /** Where the data plane hears, on loopback. */
  readonly address: Address
  readonly token: Uint8Array
  readonly isControlling: boolean
  /** The relay, to tell people. */
  readonly relay: Address
}

/** The address that stands for the other end. */
export function otherEnd({ token, isControlling }: MeetingPort): Address {
  const ip = new Uint8Array(16)
  ip[0] = 1
  const side = isControlling ? 1 : 0
  ip.set(createHash('sha256').update('hoplite meeting').update(token).digest().subarray(0, 8), 8)
  ip[15] = ((ip[15] ?? 0) & 0xfe) | side
  return { host: formatIPv6(ip) as string, port: 1 }
}
