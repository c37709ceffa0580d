// One end of a WireGuard tunnel for tests: a device that knows one other, and says and hears IP packets.

import { systemRandom } from '#crypto/random.ts'
import { monotonicMs } from '#platform/clock.ts'
import { WireGuardDevice } from '#session/wireguard/device.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import { inside4, ipPacket } from './wireguard-net.ts'

const ROOM = 32
const IP_AND_UDP_BYTES = 28

export interface WireGuardEnd {
  readonly device: WireGuardDevice<Address>
  /** The packets that came out of the tunnel. */
  readonly received: Uint8Array[]
  /** What nobody but this end may have, and the public key that only the two ends know. */
  readonly secrets: readonly Buffer[]
  /** Makes the other end known, whose address inside ends in `host`. */
  know(other: WireGuardEnd, host: number, endpoint?: Address): void
  /** Sends an IP packet of `length` bytes to `host`, filled with `text`. */
  say(text: Uint8Array, host: number, length: number, now?: number): void
}

/** An end whose address inside ends in `host`; `send` is how its datagrams leave. */
export function makeEnd(
  host: number,
  send: (buffer: Uint8Array, offset: number, length: number, to: Address) => void,
): WireGuardEnd {
  const received: Uint8Array[] = []
  const privateKey = systemRandom(32)
  const device = new WireGuardDevice<Address>({
    privateKey: Uint8Array.from(privateKey),
    random: systemRandom,
    unixOffsetMs: 1_700_000_000_000,
    outlet: {
      toEndpoint: (_peer, endpoint, buffer, offset, length) => send(buffer, offset, length, endpoint),
      toTunnel: (_peer, buffer, offset, length) =>
        received.push(Uint8Array.from(buffer.subarray(offset, offset + length))),
    },
    sameEndpoint: (a, b) => a.host === b.host && a.port === b.port,
    endpointBytes: endpoint => Buffer.from(formatAddress(endpoint)),
  })
  return {
    device,
    received,
    secrets: [Buffer.from(privateKey), Buffer.from(device.publicKey)],
    know: (other, otherHost, endpoint) => {
      const allowedIps = [{ address: inside4(otherHost), bits: 32 }]
      const settings = { publicKey: other.device.publicKey, allowedIps, ...(endpoint && { endpoint }) }
      const error = device.setPeer(settings, monotonicMs())
      if (error !== undefined) throw new Error(error)
    },
    say: (text, to, length, now = monotonicMs()) => {
      const packet = ipPacket(inside4(host), inside4(to), length)
      for (let at = IP_AND_UDP_BYTES; at + text.length <= length; at += text.length) packet.set(text, at)
      const buffer = Buffer.alloc(ROOM + length + ROOM)
      buffer.set(packet, ROOM)
      const dropped = device.send(buffer, ROOM, length, now)
      if (dropped !== undefined) throw new Error(dropped)
    },
  }
}
