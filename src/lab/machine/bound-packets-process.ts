// Tries to get packets out past routes: by sockets that are bound to a link, with IP headers of its own, with marks of others; first
// as root, then as a user without rights. Says in one line of JSON which of the two was allowed to set a mark.
//
//   node src/lab/machine/bound-packets-process.ts eth0

import { CLIENT_MARK } from '#platform/linux/network/client-options.ts'
import { encodeSocketAddress } from '#platform/linux/socket-address.ts'
import {
  Memory,
  SO_MARK,
  SOCK_DGRAM,
  SOCK_FLAGS,
  SOCK_STREAM,
  SOL_SOCKET,
  setOption,
  socketCalls,
} from '#platform/linux/socket-calls.ts'

const NOBODY = 65_534
const [AF_INET, AF_INET6] = [2, 10]
const [SOCK_RAW, IPPROTO_RAW, IPPROTO_ICMPV6] = [3, 255, 58]
const SO_BINDTODEVICE = 25
const STRANGERS = ['198.51.100.9', '2001:db8:9::9', '192.168.7.1']
/** Ours, of what goes around the tunnel, of what goes into it, of the links to devices; and none. */
const MARKS = [0, 1, 2, 3].map(more => CLIENT_MARK + more)
const device = process.argv[2] ?? 'eth0'
const memory = new Memory(4096)

function send(host: string, type: number, protocol: number, payload: Uint8Array, prepare: (fd: number) => void): void {
  const fd = socketCalls().socket(host.includes(':') ? AF_INET6 : AF_INET, type | SOCK_FLAGS, protocol)
  if (fd < 0) return
  prepare(fd)
  const to = encodeSocketAddress({ host, port: type === SOCK_RAW ? 0 : 9 })
  memory.bytes.set(to)
  socketCalls().connect(fd, memory.pointer, to.length)
  memory.bytes.set(payload)
  socketCalls().write(fd, memory.pointer, payload.length)
  // A connection is still being made.
  setTimeout(() => socketCalls().close(fd), 100)
}

function bindTo(fd: number): void {
  memory.bytes.set(Buffer.from(`${device}\0`))
  socketCalls().setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, memory.pointer, device.length + 1)
}

/** An IPv4 packet of UDP from a stranger to a stranger; the kernel fills in length and checksum. */
function forged(): Uint8Array {
  const packet = Buffer.alloc(48)
  packet[0] = 0x45
  packet.set([64, 17], 8)
  packet.set([203, 0, 113, 5, 198, 51, 100, 9], 12)
  packet.writeUInt16BE(9, 22)
  packet.writeUInt16BE(28, 24)
  return packet
}

/** Gives whether a mark could be set. */
function tryAll(): boolean {
  let wasMarked = false
  for (const host of STRANGERS) {
    for (const type of [SOCK_DGRAM, SOCK_STREAM]) {
      send(host, type, 0, Buffer.alloc(32), bindTo)
      for (const mark of MARKS) {
        send(host, type, 0, Buffer.alloc(32), fd => {
          bindTo(fd)
          wasMarked = setOption(fd, SOL_SOCKET, SO_MARK, mark) || wasMarked
        })
        send(host, type, 0, Buffer.alloc(32), fd => void setOption(fd, SOL_SOCKET, SO_MARK, mark))
      }
    }
  }
  send('198.51.100.9', SOCK_RAW, IPPROTO_RAW, forged(), () => undefined)
  send('198.51.100.9', SOCK_RAW, IPPROTO_RAW, forged(), bindTo)
  send('2001:db8:9::9', SOCK_RAW, IPPROTO_ICMPV6, Buffer.from([128, 0, 0, 0, 0, 1, 0, 1]), bindTo)
  return wasMarked
}

const root = tryAll()
process.setgroups?.([])
process.setgid?.(NOBODY)
process.setuid?.(NOBODY)
console.log(JSON.stringify({ root, nobody: tryAll() }))
