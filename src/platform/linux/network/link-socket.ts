// A UDP socket for the links to one's devices, marked and bound: for a daemon that may not do that itself, or for this process.

import { openBusySocket } from '../plane/busy-socket.ts'
import { encodeSocketAddress } from '../socket-address.ts'
import { IPPROTO_IPV6, IPV6_V6ONLY, Memory, setOption, socketCalls } from '../socket-calls.ts'
import { LINK_MARK } from './client-options.ts'

/** One with the links' mark, or another; negative when it cannot be had. */
export function openLinkSocket(family: 4 | 6, port: number, mark = LINK_MARK): number {
  const fd = openBusySocket(family, mark)
  if (fd < 0) return fd
  if (family === 6) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)
  const at = encodeSocketAddress({ host: family === 6 ? '::' : '0.0.0.0', port })
  const memory = new Memory(32)
  memory.bytes.set(at)
  if (socketCalls().bind(fd, memory.pointer, at.length) === 0) return fd
  socketCalls().close(fd)
  return -1
}
