// A UDP socket as the data plane wants it, made with rights that the data plane need not have.

import { AF_INET, AF_INET6 } from '../socket-address.ts'
import {
  SO_MARK,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_DGRAM,
  SOCK_FLAGS,
  SOL_SOCKET,
  setOption,
  socketCalls,
} from '../socket-calls.ts'

const BUFFER_BYTES = 4 * 1024 * 1024

/** Opens one that is not bound yet, with large buffers and, unless it is 0, a mark; negative when that fails. */
export function openBusySocket(family: 4 | 6, mark: number): number {
  const fd = socketCalls().socket(family === 6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_FLAGS, 0)
  if (fd < 0) return fd
  enlargeBuffers(fd)
  if (mark === 0 || setOption(fd, SOL_SOCKET, SO_MARK, mark)) return fd
  socketCalls().close(fd)
  return -1
}

/** As large as the data plane wants them where the rights are there, else as large as the system lets anybody have them. */
export function enlargeBuffers(fd: number): void {
  for (const [forced, asked] of [
    [SO_RCVBUFFORCE, SO_RCVBUF],
    [SO_SNDBUFFORCE, SO_SNDBUF],
  ] as const) {
    if (!setOption(fd, SOL_SOCKET, forced, BUFFER_BYTES)) setOption(fd, SOL_SOCKET, asked, BUFFER_BYTES)
  }
}
