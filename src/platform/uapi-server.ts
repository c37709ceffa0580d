// Serves WireGuard's configuration protocol (wire/uapi.ts) on the Unix socket where wg(8) looks for an interface of this name,
// so that `wg show`, `wg set` and `wg setconf` work on it.
//
// Requests of one client are answered one after another, and no more is read while an answer waits to be written. A client
// that has not completed a request within its time, or has not taken an answer, is cut; one more than the bound is refused.

import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import { type DeviceSnapshot, ERRNO, encodeUapiDevice, encodeUapiErrno, type UapiOperation } from '#wire/uapi.ts'
import { UapiReader } from '#wire/uapi-reader.ts'
import { removeStaleSocket } from './state/stale-socket.ts'

export type { DeviceSnapshot, PeerSnapshot } from '#wire/uapi.ts'

const WG_DIRECTORY = '/var/run/wireguard'
const MAX_CLIENTS = 16
const PATIENCE_MS = 10_000
const NAME = /^(?!\.{1,2}$)[A-Za-z0-9_=+.-]{1,15}$/

/** What stands behind the socket. */
export interface UapiDevice {
  /** What is now. */
  get(): DeviceSnapshot | Promise<DeviceSnapshot>
  /** Makes the changes, all or none; 0, or the errno of what failed. */
  set(operations: readonly UapiOperation[]): number | Promise<number>
}

export interface UapiServer {
  /** The path of the socket. */
  readonly socket: string
  /** Cuts all clients and removes the socket. */
  close(): Promise<void>
}

/**
 * Serves `device` as interface `name` (1 to 15 characters). The directory is made when it is missing (0700); a socket that a
 * dead process left is replaced. With `fd`, a socket that listens there already is used. Throws ADDRESS_IN_USE while a living one has it, and STATE_UNREADABLE.
 */
export async function serveUapi(
  name: string,
  device: UapiDevice,
  options: { readonly directory?: string; readonly patienceMs?: number; readonly fd?: number } = {},
): Promise<UapiServer> {
  if (!NAME.test(name)) throw new TypeError('serve an interface: its name is not one')
  const { directory = WG_DIRECTORY, patienceMs = PATIENCE_MS } = options
  const socket = path.join(directory, `${name}.sock`)
  const clients = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, client => {
    clients.add(client)
    client.once('close', () => clients.delete(client))
    serveClient(client, device, patienceMs).catch(() => client.destroy())
  })
  server.maxConnections = MAX_CLIENTS
  try {
    if (options.fd !== undefined) await listenOn(server, { fd: options.fd })
    else {
      mkdirSync(directory, { recursive: true, mode: 0o700 })
      await removeStaleSocket(socket)
      await listen(server, socket)
    }
  } catch (error) {
    throw asExpected(error, socket)
  }
  return {
    socket,
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      for (const client of clients) client.destroy()
      await closed
    },
  }
}

async function serveClient(client: Socket, device: UapiDevice, patienceMs: number): Promise<void> {
  const reader = new UapiReader()
  const timer = setTimeout(() => client.destroy(), patienceMs)
  // A client that goes away early is no failure: the loop below sees the end.
  client.on('error', () => {})
  try {
    for await (const chunk of client) {
      const requests = reader.push(chunk)
      if (requests === undefined) return
      for (const request of requests) {
        const answer =
          request.kind === 'refused'
            ? encodeUapiErrno('set', request.errno)
            : request.kind === 'get'
              ? await answerGet(device)
              : await answerSet(device, request.operations)
        await write(client, answer)
        timer.refresh()
      }
    }
  } finally {
    clearTimeout(timer)
    reader.wipe()
    client.destroy()
  }
}

async function answerGet(device: UapiDevice): Promise<Uint8Array> {
  try {
    return encodeUapiDevice(await device.get())
  } catch {
    return encodeUapiErrno('get', ERRNO.io)
  }
}

async function answerSet(device: UapiDevice, operations: readonly UapiOperation[]): Promise<Uint8Array> {
  try {
    return encodeUapiErrno('set', await device.set(operations))
  } catch {
    return encodeUapiErrno('set', ERRNO.io)
  }
}

/** Resolves when the system has taken all of it: a client that does not read holds up only itself, until its time is over. */
function write(client: Socket, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    client.write(bytes, error => (error ? reject(error) : resolve()))
  })
}

async function listenOn(server: Server, place: { readonly fd: number }): Promise<void> {
  const listening = once(server, 'listening')
  server.listen(place)
  await listening
}

async function listen(server: Server, socket: string): Promise<void> {
  const listening = once(server, 'listening')
  // The socket is made inside `listen`: it is never open to others, not even for a moment.
  const before = process.umask(0o177)
  try {
    server.listen(socket)
  } finally {
    process.umask(before)
  }
  await listening
}

function asExpected(error: unknown, socket: string): unknown {
  const { code } = error as NodeJS.ErrnoException
  if (code === undefined) return error
  return code === 'EADDRINUSE'
    ? new HopliteError(
        'ADDRESS_IN_USE',
        `listen on ${socket}: another program does`,
        'stop that one, or take another name for the interface',
        error,
      )
    : new HopliteError('STATE_UNREADABLE', `listen on ${socket}: ${code}`, 'check who owns the directory', error)
}
