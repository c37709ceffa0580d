// Writes packets into a TUN as its kernel would, whatever is in them, through a packet socket (AF_PACKET; packet(7)).
//
//   node src/lab/machine/raw-packets-process.ts hop0 < packets, one a line, in hex

import { readFileSync } from 'node:fs'
import { addressOf, bind } from '#platform/linux/libc.ts'

const [AF_PACKET, SOCK_DGRAM] = [17, 2]
const [ETH_P_IP, ETH_P_IPV6] = [0x0800, 0x86dd]

const libc = bind({
  socket: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
  if_nametoindex: { arguments: ['string'], return: 'uint32' },
  sendto: { arguments: ['int32', 'pointer', 'uint64', 'int32', 'pointer', 'uint32'], return: 'int64' },
})
const socket = libc.socket(AF_PACKET, SOCK_DGRAM, 0)
// struct sockaddr_ll, 20 bytes: 0/2 family, 2/2 protocol in network order, 4/4 interface.
const to = Buffer.alloc(20)
to.writeUInt16LE(AF_PACKET, 0)
to.writeUInt32LE(libc.if_nametoindex(process.argv[2] ?? ''), 4)
let sent = 0
for (const line of readFileSync(0, 'utf8').split('\n')) {
  const packet = Buffer.from(line, 'hex')
  if (packet.length === 0) continue
  to.writeUInt16BE((packet[0] ?? 0) >>> 4 === 6 ? ETH_P_IPV6 : ETH_P_IP, 2)
  if (libc.sendto(socket, addressOf(packet), BigInt(packet.length), 0, addressOf(to), to.length) > 0n) sent++
}
console.log(sent)
