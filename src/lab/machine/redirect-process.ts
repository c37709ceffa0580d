// Sends one ICMP redirect (RFC 792): the packets of a flow are to take another router. Runs on the router that they take now;
// from no other is it believed.
//
//   node src/lab/machine/redirect-process.ts SOURCE SOURCE_PORT TARGET TARGET_PORT ROUTER
//
//   0  type 5, code 1 (for the host), checksum     4  the other router     8  IPv4 header of a datagram of the flow     28  its ports

import { addressOf, bind } from '#platform/linux/libc.ts'
import { parseIp } from '#wire/address.ts'

const [AF_INET, SOCK_RAW, IPPROTO_ICMP, IPPROTO_UDP] = [2, 3, 1, 17]

const [source = '', sourcePort, target = '', targetPort, router = ''] = process.argv.slice(2)
const libc = bind({
  socket: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
  sendto: { arguments: ['int32', 'pointer', 'uint64', 'int32', 'pointer', 'uint32'], return: 'int64' },
})

const message = Buffer.alloc(8 + 20 + 8)
message.set([5, 1])
message.set(parseIp(router) ?? [], 4)
message.set([0x45, 0, 0, 64, 0, 0, 0x40, 0, 64, IPPROTO_UDP], 8)
message.set(parseIp(source) ?? [], 20)
message.set(parseIp(target) ?? [], 24)
message.writeUInt16BE(checksum(message.subarray(8, 28)), 18)
message.writeUInt16BE(Number(sourcePort), 28)
message.writeUInt16BE(Number(targetPort), 30)
message.writeUInt16BE(44, 32)
message.writeUInt16BE(checksum(message), 2)

// struct sockaddr_in: family, port, address.
const to = Buffer.alloc(16)
to.writeUInt16LE(AF_INET)
to.set(parseIp(source) ?? [], 4)
const socket = libc.socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)
const sent = libc.sendto(socket, addressOf(message), BigInt(message.length), 0, addressOf(to), to.length)
if (Number(sent) !== message.length) throw new Error('send the redirect')

function checksum(bytes: Buffer): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
