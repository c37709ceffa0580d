// The Unix socket where wg(8) looks for an interface: made here, as root, and listened on by whoever is given the descriptor.

import { lstatSync, mkdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import { removeStaleSocket } from '../../state/stale-socket.ts'
import { errorName } from '../libc.ts'
import { AF_UNIX, unixAddress } from '../service-notify.ts'
import { errno, SOCK_FLAGS, socketCalls } from '../socket-calls.ts'

const WG_DIRECTORY = '/var/run/wireguard'
const SOCK_STREAM = 1
const BACKLOG = 16

export interface WgSocket {
  readonly fd: number
  /** Removes the path, while it is this one's. */
  remove(): void
}

/**
 * Listens at `directory/name.sock`, for its owner alone (0600). The directory is made when it is missing (0700); a socket that
 * a dead process left is replaced. Throws ADDRESS_IN_USE while a living one has it, and STATE_UNREADABLE.
 */
export async function listenForWg(name: string, directory = WG_DIRECTORY): Promise<WgSocket> {
  const file = path.join(directory, `${name}.sock`)
  const failed = (code: string) =>
    new HopliteError('STATE_UNREADABLE', `listen on ${file}: ${code}`, 'check who owns the directory')
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    await removeStaleSocket(file)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EADDRINUSE') throw failed(code ?? String(error))
    const advice = 'stop that one, or take another name for the interface'
    throw new HopliteError('ADDRESS_IN_USE', `listen on ${file}: another program does`, advice)
  }
  const fd = socketCalls().socket(AF_UNIX, SOCK_STREAM | SOCK_FLAGS, 0)
  const address = unixAddress(file)
  // It is never open to others, not even for a moment.
  const before = process.umask(0o177)
  const isBound = fd >= 0 && socketCalls().bind(fd, address.memory.pointer, address.length) === 0
  const problem = isBound && socketCalls().listen(fd, BACKLOG) === 0 ? 0 : errno()
  process.umask(before)
  if (problem !== 0) {
    if (fd >= 0) socketCalls().close(fd)
    throw failed(errorName(problem))
  }
  const { ino } = lstatSync(file)
  return {
    fd,
    remove: () => {
      if (lstatSync(file, { throwIfNoEntry: false })?.ino === ino) rmSync(file, { force: true })
    },
  }
}
