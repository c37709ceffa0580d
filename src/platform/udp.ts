// node:dgram sockets for IP literals: nothing is ever looked up by name, and nothing keeps the process alive by waiting.

import { createSocket, type Socket } from 'node:dgram'
import { isIPv6 } from 'node:net'
import type { Address } from '#wire/address.ts'

const BUFFER_BYTES = 4 * 1024 * 1024

type Lookup = (hostname: string, options: unknown, done: (error: null, address: string, family: number) => void) => void
const literal: Lookup = (host, _options, done) => done(null, host, isIPv6(host) ? 6 : 4)

/** A UDP socket of the family of `host`, an IP address. */
export function openUdp(host: string): Socket {
  return createSocket({ type: isIPv6(host) ? 'udp6' : 'udp4', lookup: literal as never })
}

/** Binds a socket; `done` gets the error if it failed. */
export function bindUdp(
  socket: Socket,
  host: string,
  port: number,
  done: (error?: NodeJS.ErrnoException) => void,
): void {
  const failed = (error: NodeJS.ErrnoException) => done(error)
  socket.once('error', failed)
  socket.bind({ address: host, port, exclusive: true }, () => {
    socket.off('error', failed)
    done()
  })
}

/** Connects a socket, so that it takes datagrams from `address` alone; `done` gets the error if it failed. */
export function connectUdp(socket: Socket, address: Address, done: (error?: NodeJS.ErrnoException) => void): void {
  try {
    socket.connect(address.port, address.host, (error?: Error) => done(error))
  } catch (error) {
    done(error as NodeJS.ErrnoException)
  }
}

/** Asks for large buffers. The system may give less: `hoplite doctor` says how to change that. */
export function growBuffers(socket: Socket): void {
  try {
    socket.setRecvBufferSize(BUFFER_BYTES)
    socket.setSendBufferSize(BUFFER_BYTES)
  } catch {
    // A smaller buffer only costs speed.
  }
}

/** Sends without waiting; false when the socket refused at once. */
export function sendUdp(
  socket: Socket,
  buffer: Uint8Array,
  offset: number,
  length: number,
  to: Address | undefined,
): boolean {
  try {
    if (to === undefined) socket.send(buffer, offset, length)
    else socket.send(buffer, offset, length, to.port, to.host)
    return true
  } catch {
    return false
  }
}

/** Closes a socket that may already be closed. */
export function closeUdp(socket: Socket): void {
  try {
    socket.close()
  } catch {
    // It was closed already.
  }
}
