// A process that holds a tunnel without any of its cryptography, for tests of what may leave a machine: it makes the TUN and
// the changes of the machine, and sends every packet that it reads as a datagram of a marked socket to the first relay.
//
//   node src/lab/machine/tunnel-process.ts '{ "state": "/tmp/x", "options": { … } }'
//
// It writes `ready` when everything is in place, and is ended with a signal.

import fs from 'node:fs'
import { addressOf, bind } from '#platform/linux/libc.ts'
import { Changes, journalDirectory, prepareJournal } from '#platform/linux/network/changes.ts'
import { applyClientNetwork } from '#platform/linux/network/client-network.ts'
import type { ClientNetworkOptions } from '#platform/linux/network/client-options.ts'
import { openTun } from '#platform/linux/tun.ts'

const [AF_INET, SOCK_DGRAM, SOL_SOCKET, SO_MARK] = [2, 2, 1, 36]
const POLL_MS = 2
const MAX_PACKET_BYTES = 65_536

const { state, options } = JSON.parse(process.argv[2] ?? '') as { state: string; options: ClientNetworkOptions }
const libc = bind({
  socket: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
  setsockopt: { arguments: ['int32', 'int32', 'int32', 'pointer', 'uint32'], return: 'int32' },
  sendto: { arguments: ['int32', 'pointer', 'uint64', 'int32', 'pointer', 'uint32'], return: 'int64' },
})

const tun = openTun({ name: options.tun, offload: false })
const journal = journalDirectory(state)
prepareJournal(journal)
await applyClientNetwork(Changes.open(journal), options)

const socket = libc.socket(AF_INET, SOCK_DGRAM, 0)
const mark = Buffer.alloc(4)
mark.writeUInt32LE(options.mark)
if (libc.setsockopt(socket, SOL_SOCKET, SO_MARK, addressOf(mark), 4) !== 0) throw new Error('mark the socket')
const relay = options.relays[0]
if (relay === undefined) throw new Error('no relay')
// struct sockaddr_in: family, port (network order), address.
const to = Buffer.alloc(16)
to.writeUInt16LE(AF_INET)
to.writeUInt16BE(relay.port, 2)
to.set(relay.address.split('.').map(Number), 4)

const packet = Buffer.alloc(MAX_PACKET_BYTES)
setInterval(() => {
  for (;;) {
    try {
      const length = fs.readSync(tun.fds[0] ?? -1, packet)
      libc.sendto(socket, addressOf(packet), BigInt(length), 0, addressOf(to), to.length)
    } catch {
      return
    }
  }
}, POLL_MS)
process.stdout.write('ready\n')
