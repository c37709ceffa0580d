// Tells systemd how a service is (sd_notify(3)): datagrams to the Unix socket that NOTIFY_SOCKET names. `READY=1` when it is up;
// `WATCHDOG=1` every so often from then on: a service whose control plane hangs falls silent, and is started again.
//
//   sockaddr_un   family u16 native (1), path up to 108; a path that begins with @ is a name without a file, with 0 for the @

import { errno, errorName, fileCalls } from './libc.ts'
import { Memory, SOCK_DGRAM, SOCK_FLAGS, socketCalls } from './socket-calls.ts'

export const AF_UNIX = 1
const MAX_PATH = 107
/** A third of the time that systemd waits: two may come late. */
const PART = 3

export interface ServiceWatch {
  /** The node is up. */
  ready(): void
  close(): void
}

/** Opens the way to systemd; `undefined` when nobody asked for it. Throws when the socket cannot be reached. */
export function openServiceWatch(env: Readonly<Record<string, string | undefined>>): ServiceWatch | undefined {
  const name = env['NOTIFY_SOCKET']
  if (name === undefined || name === '') return undefined
  const fd = socketCalls().socket(AF_UNIX, SOCK_DGRAM | SOCK_FLAGS, 0)
  const address = unixAddress(name)
  if (fd < 0 || socketCalls().connect(fd, address.memory.pointer, address.length) < 0)
    throw new Error(`reach the service manager: ${errorName(errno())}`)
  const message = new Memory(64)
  const tell = (text: string) => {
    const length = Buffer.from(message.bytes.buffer, message.bytes.byteOffset, 64).write(text)
    socketCalls().write(fd, message.pointer, length)
  }
  const everyMs = Number(env['WATCHDOG_USEC'] ?? 0) / 1_000 / PART
  let timer: NodeJS.Timeout | undefined
  return {
    ready() {
      tell('READY=1')
      if (everyMs > 0) timer ??= setInterval(() => tell('WATCHDOG=1'), everyMs)
    },
    close() {
      clearInterval(timer)
      fileCalls().close(fd)
    },
  }
}

/** A `sockaddr_un` and how much of it counts. Throws when the path is too long. */
export function unixAddress(name: string): { readonly memory: Memory; readonly length: number } {
  const path = Buffer.from(name.replace(/^@/, '\0'))
  if (path.length > MAX_PATH) throw new Error('reach the service manager: its socket has too long a path')
  const memory = new Memory(112)
  memory.bytes[0] = AF_UNIX
  memory.bytes.set(path, 2)
  return { memory, length: 2 + path.length + (path[0] === 0 ? 0 : 1) }
}
