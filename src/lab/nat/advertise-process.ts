// Sends one IPv6 router advertisement (RFC 4861 §4.2) on a link: a router that wants to be everybody's, and a prefix of its own.
//
//   node src/lab/nat/advertise-process.ts INTERFACE PREFIX
//
//   0  type 134, code, checksum     4  hop limit, flags (preference high, RFC 4191), lifetime in s     8  reachable, retransmit
//   16 prefix information (§4.6.2): type 3, length 4 (x 8), bits, flags (on link, autonomous), two lifetimes, 0, prefix

import { readFileSync } from 'node:fs'
import { addressOf, bind } from '#platform/linux/libc.ts'
import { parseIp } from '#wire/address.ts'

const [AF_INET6, SOCK_RAW, IPPROTO_ICMPV6, IPPROTO_IPV6] = [10, 3, 58, 41]
const [IPV6_MULTICAST_IF, IPV6_MULTICAST_HOPS] = [17, 18]
const LIFETIME_S = 1_800

const [link = '', prefix = ''] = process.argv.slice(2)
const libc = bind({
  socket: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
  setsockopt: { arguments: ['int32', 'int32', 'int32', 'pointer', 'uint32'], return: 'int32' },
  sendto: { arguments: ['int32', 'pointer', 'uint64', 'int32', 'pointer', 'uint32'], return: 'int64' },
})
const index = Number(readFileSync(`/sys/class/net/${link}/ifindex`, 'utf8'))
const socket = libc.socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)
set(IPV6_MULTICAST_IF, index)
// Any other is not believed: it came from beyond the link.
set(IPV6_MULTICAST_HOPS, 255)

const message = Buffer.alloc(48)
message.set([134, 0, 0, 0, 64, 0b0000_1000])
message.writeUInt16BE(LIFETIME_S, 6)
message.set([3, 4, 64, 0b1100_0000], 16)
message.writeUInt32BE(LIFETIME_S, 20)
message.writeUInt32BE(LIFETIME_S, 24)
message.set(parseIp(prefix) ?? [], 32)

// struct sockaddr_in6: family, port, flow, address ff02::1, scope.
const to = Buffer.alloc(28)
to.writeUInt16LE(AF_INET6)
to.set([0xff, 0x02], 8)
to[23] = 1
to.writeUInt32LE(index, 24)
const sent = libc.sendto(socket, addressOf(message), BigInt(message.length), 0, addressOf(to), to.length)
if (Number(sent) !== message.length) throw new Error('send the advertisement')

function set(option: number, value: number): void {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  if (libc.setsockopt(socket, IPPROTO_IPV6, option, addressOf(bytes), 4) !== 0) throw new Error('set up the socket')
}
