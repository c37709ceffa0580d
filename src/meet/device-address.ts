// The fixed addresses of devices, from their ids: the same on every device, and for good.
//
//   IPv6  fd68:6f70:6c69::/48 (a unique local prefix, RFC 4193), then 80 bits of SHA-256(label, id)
//   IPv4  100.64.0.0/10 (shared address space, RFC 6598), 22 bits of the same hash
//
// Two in 80 bits never meet; of 64 devices two meet in 22 bits once in two thousand times. Then the one paired first keeps the
// address here, and the other is reached by IPv6 alone.

import { createHash } from 'node:crypto'
import { formatIPv6 } from '#wire/address.ts'

/** The network that all IPv6 addresses of devices are of. */
export const DEVICE_NETWORK = 'fd68:6f70:6c69::/48'
export const DEVICE_NETWORK_4 = '100.64.0.0/10'
const PREFIX = Uint8Array.of(0xfd, 0x68, 0x6f, 0x70, 0x6c, 0x69)
const IPV4_BASE = 100 * 2 ** 24 + 64 * 2 ** 16
const IPV4_BITS = 22

export interface DeviceAddresses {
  readonly ipv6: string
  /** Absent where another device had it first. */
  readonly ipv4: string | undefined
}

/** The addresses of every device, by id. `ids` are in the order of pairing, our own first. */
export function deviceAddresses(ids: readonly string[]): Map<string, DeviceAddresses> {
  const taken = new Set<string>()
  const addresses = new Map<string, DeviceAddresses>()
  for (const id of ids) {
    const hash = createHash('sha256').update('hoplite device address v1').update(Buffer.from(id, 'hex')).digest()
    const ipv4 = ipv4Of(hash)
    addresses.set(id, {
      ipv6: formatIPv6(Buffer.concat([PREFIX, hash.subarray(0, 10)])) ?? '',
      ipv4: taken.has(ipv4) ? undefined : ipv4,
    })
    taken.add(ipv4)
  }
  return addresses
}

/** Neither the first nor the last address of a /24: some programs take those for no host's. */
function ipv4Of(hash: Buffer): string {
  const address = IPV4_BASE + (hash.readUInt32BE(12) >>> (32 - IPV4_BITS))
  const last = 1 + ((address & 0xff) % 254)
  return [24, 16, 8].map(shift => (address >>> shift) & 0xff).join('.') + `.${last}`
}
