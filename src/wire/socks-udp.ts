// The header before each datagram of a SOCKS5 UDP association (RFC 1928 §7).
//
//   offset size  field
//   0      2     reserved = 0
//   2      1     fragment = 0: fragments are refused, as the RFC allows
//   3      1     address type: 1 IPv4, 3 name, 4 IPv6
//   4      …     4 bytes, or length u8 and name, or 16 bytes
//   +      2     port, big-endian
//
// Length policy: the header is exact, the rest is the datagram.

import { formatIPv6 } from './address.ts'
import { isTargetHost, type Target } from './control.ts'

/** How long the header at the start of `bytes` is; `undefined` when there is no valid one. */
export function socksUdpHeaderLength(bytes: Uint8Array): number | undefined {
  if (bytes.length < 5 || bytes[0] !== 0 || bytes[1] !== 0 || bytes[2] !== 0) return undefined
  const type = bytes[3]
  const length = type === 1 ? 10 : type === 4 ? 22 : type === 3 ? 7 + (bytes[4] ?? 0) : 0
  return length > 7 && length <= bytes.length ? length : undefined
}

/** The target that a whole header names; `undefined` when it names none that may be asked for. */
export function socksUdpTarget(header: Uint8Array): Target | undefined {
  if (socksUdpHeaderLength(header) !== header.length) return undefined
  const end = header.length - 2
  const port = ((header[end] ?? 0) << 8) | (header[end + 1] ?? 0)
  if (port === 0) return undefined
  switch (header[3]) {
    case 1:
      return { host: header.subarray(4, end).join('.'), port }
    case 4: {
      const host = formatIPv6(header.subarray(4, end))
      return host === undefined ? undefined : { host, port }
    }
    default: {
      const host = Buffer.from(header.subarray(5, end)).toString('latin1').toLowerCase()
      return isTargetHost(host) ? { host, port } : undefined
    }
  }
}
