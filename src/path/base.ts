// A base is where our datagrams leave from: a socket of the node, or a port that a relay holds for us. Every candidate of
// ours belongs to one; with sockets that listen on every address of the machine, host and reflexive candidates of one socket
// share it, so there is one pair for each base and address of the peer (RFC 8445 §6.1.2.4 prunes to the same).

import { type Address, parseIp } from '#wire/address.ts'
import type { CandidateKind } from '#wire/path-offer.ts'

export type Family = 4 | 6

export interface Base {
  /** The shell's number of the socket or relay; TURN allocations have negative ones. */
  readonly local: number
  readonly kind: 'socket' | 'relay' | 'turn'
  readonly family: Family
  /** A relay's address, where the peer sends to; that of a TURN allocation comes late, and may change. */
  address: Address | undefined
  /** Opened for one purpose of one peer; it takes no part in ordinary pairs. */
  readonly isExtra: boolean
  /** A flow that a relay joins to one peer's: it leads to this address, which stands for that peer's end, and nowhere else. */
  readonly meets?: { readonly peer: number; readonly to: Address }
  /** It is offered at a loopback address, for tests on one machine; only from such a one loopback is checked. */
  readonly isOnLoopback?: boolean
}

/** Candidates by kind (RFC 8445 §5.1.2.2); a port that a router opened is as good as an own one, but not as near. */
const TYPE_PREFERENCE: Readonly<Record<CandidateKind | 'peerReflexive', number>> = {
  host: 126,
  mapped: 120,
  peerReflexive: 110,
  serverReflexive: 100,
  relayed: 0,
}

/** The priority of a candidate (RFC 8445 §5.1.2): IPv6 before IPv4 (RFC 8421), then in the order of `index`. */
export function candidatePriority(kind: CandidateKind | 'peerReflexive', family: Family, index = 0): number {
  const localPreference = (family === 6 ? 65_535 : 32_767) - Math.min(index, 1_000)
  return TYPE_PREFERENCE[kind] * 0x100_0000 + localPreference * 0x100 + 255
}

export function familyOf(host: string): Family {
  return host.includes(':') ? 6 : 4
}

/** Whether no host can have this address: unspecified, loopback, link-local, multicast, broadcast, discard-only (RFC 6666). */
export function isUnreachable(host: string): boolean {
  const ip = parseIp(host)
  if (ip === undefined) return true
  const [a = 0, b = 0] = ip
  if (ip.length === 4) return a === 0 || a === 127 || a >= 224 || (a === 169 && b === 254)
  if (a === 1 && ip.subarray(1, 8).every(byte => byte === 0)) return true
  if (a === 0xff || (a === 0xfe && (b & 0xc0) === 0x80)) return true
  return ip.subarray(0, 15).every(byte => byte === 0) && (ip[15] ?? 0) < 2
}

export function isLoopback(host: string): boolean {
  return host.startsWith('127.') || host === '::1'
}

/** Whether the address means something only near its host: RFC 1918, RFC 6598 (carrier NAT), RFC 4193. */
export function isPrivate(host: string): boolean {
  const ip = parseIp(host)
  if (ip === undefined) return true
  const [a = 0, b = 0] = ip
  if (ip.length === 16) return (a & 0xfe) === 0xfc
  return a === 10 || (a === 172 && (b & 0xf0) === 16) || (a === 192 && b === 168) || (a === 100 && (b & 0xc0) === 64)
}

export function isSameAddress(a: Address, b: Address): boolean {
  return a.port === b.port && a.host === b.host
}
