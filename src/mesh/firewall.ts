// What other devices may begin on this one: nothing but echoes, unless a rule says so. What we began may be answered.
//
//   TCP     a first segment (SYN without ACK) needs a rule; the others find no connection where there was none
//   UDP     needs a rule, or that we sent the other way within three minutes
//   ICMP    echoes, and what tells of errors
//   rest    fragments after the first go with it; nothing else comes in
//
// Bounds: 16,384 UDP flows, of which the one silent for longest goes first. Reads in place and makes nothing per packet.

import { ipFamily, ipSourceOffset } from '#wire/ip-header.ts'

export interface PortRule {
  readonly protocol: 'tcp' | 'udp'
  readonly fromPort: number
  readonly toPort: number
}

const MAX_FLOWS = 16_384
const UDP_MS = 180_000
/** A flow in use is moved to the end of the line no more often than this. */
const REFRESH_MS = 1_000
const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, fragment: 44, icmp6: 58 } as const
const ICMP_ALLOWED = new Set([0, 3, 8, 11, 12])
const ICMP6_ALLOWED = new Set([1, 2, 3, 4, 128, 129])
const SYN = 0x02
const ACK = 0x10

/** Where the header behind the IP header is; `at` is undefined for a fragment after the first. */
interface Upper {
  protocol: number
  at: number | undefined
}

export class Firewall {
  readonly #flows = new Map<number, number>()
  readonly #upper: Upper = { protocol: 0, at: 0 }

  get size(): number {
    return this.#flows.size
  }

  /** Remembers what goes out, so that it may be answered. */
  outward(buffer: Uint8Array, offset: number, length: number, now: number): void {
    const upper = this.#read(buffer, offset, length)
    if (upper?.protocol !== PROTOCOL.udp || upper.at === undefined) return
    const destination = offset + ipSourceOffset(ipFamily(buffer, offset, length) ?? 4) + addressBytes(buffer, offset)
    const key = flowKey(buffer, upper.at, upper.at + 2, destination + addressBytes(buffer, offset) - 4)
    const since = this.#flows.get(key)
    if (since !== undefined && now - since < REFRESH_MS) return
    this.#flows.delete(key)
    this.#flows.set(key, now)
    if (this.#flows.size > MAX_FLOWS) this.#flows.delete(this.#flows.keys().next().value as number)
  }

  /** Whether a packet of a device with these rules may come in. */
  admits(rules: readonly PortRule[], buffer: Uint8Array, offset: number, length: number, now: number): boolean {
    const upper = this.#read(buffer, offset, length)
    if (upper === undefined) return false
    const { protocol, at } = upper
    if (at === undefined) return true
    switch (protocol) {
      case PROTOCOL.icmp:
        return ICMP_ALLOWED.has(buffer[at] ?? 0)
      case PROTOCOL.icmp6:
        return ICMP6_ALLOWED.has(buffer[at] ?? 0)
      case PROTOCOL.tcp: {
        const isFirst = ((buffer[at + 13] ?? 0) & (SYN | ACK)) === SYN
        return !isFirst || isAllowed(rules, 'tcp', port(buffer, at + 2))
      }
      case PROTOCOL.udp: {
        if (isAllowed(rules, 'udp', port(buffer, at + 2))) return true
        const source = offset + ipSourceOffset(ipFamily(buffer, offset, length) ?? 4)
        const since = this.#flows.get(flowKey(buffer, at + 2, at, source + addressBytes(buffer, offset) - 4))
        return since !== undefined && now - since < UDP_MS
      }
      default:
        return false
    }
  }

  /** `undefined` when the packet is malformed, or has what is never let in. */
  #read(buffer: Uint8Array, offset: number, length: number): Upper | undefined {
    const upper = this.#upper
    const family = ipFamily(buffer, offset, length)
    const end = offset + length
    if (family === undefined) return undefined
    if (family === 4) {
      const header = 4 * ((buffer[offset] ?? 0) & 15)
      upper.protocol = buffer[offset + 9] ?? 0
      const isLater = (port(buffer, offset + 6) & 0x1fff) !== 0
      upper.at = isLater ? undefined : offset + header
      if (header < 20) return undefined
    } else {
      upper.protocol = buffer[offset + 6] ?? 0
      upper.at = offset + 40
      if (upper.protocol === PROTOCOL.fragment) {
        if (end < offset + 48) return undefined
        upper.protocol = buffer[offset + 40] ?? 0
        upper.at = (port(buffer, offset + 42) & 0xfff8) === 0 ? offset + 48 : undefined
      }
    }
    if (upper.at === undefined) return upper
    return end >= upper.at + (upper.protocol === PROTOCOL.tcp ? 20 : 8) ? upper : undefined
  }
}

function isAllowed(rules: readonly PortRule[], protocol: PortRule['protocol'], to: number): boolean {
  for (const rule of rules) if (rule.protocol === protocol && rule.fromPort <= to && to <= rule.toPort) return true
  return false
}

/** Our port, theirs, and 20 bits of their address: below 2^53. */
function flowKey(buffer: Uint8Array, ours: number, theirs: number, addressEnd: number): number {
  const address = ((port(buffer, addressEnd) & 15) << 16) | port(buffer, addressEnd + 2)
  return (port(buffer, ours) * 65_536 + port(buffer, theirs)) * 2 ** 20 + address
}

function addressBytes(buffer: Uint8Array, offset: number): number {
  return (buffer[offset] ?? 0) >>> 4 === 4 ? 4 : 16
}

function port(buffer: Uint8Array, at: number): number {
  return ((buffer[at] ?? 0) << 8) | (buffer[at + 1] ?? 0)
}
