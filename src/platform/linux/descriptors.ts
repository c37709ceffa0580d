// Open files handed from one process to another: SCM_RIGHTS over datagrams of a Unix socket (unix(7), cmsg(3)). Whoever
// may reach an inbox's path may send; it lies in a directory of its owner alone. A pair of sockets has no path: one end is
// given to a child at its birth.
//
// Layouts of 64-bit Linux, little-endian, offset/size:
//   sockaddr_un  0/2 family, 2/108 path with NUL
//   iovec        0/8 address, 8/8 length
//   msghdr       0/8 name, 8/4 its length, 16/8 iovec, 24/8 count, 32/8 control, 40/8 its length, 48/4 flags; 56 bytes
//   cmsghdr      0/8 length, 8/4 level, 12/4 type, 16/4 descriptor; 24 bytes with padding

import { rmSync } from 'node:fs'
import { HopliteError } from '#api/errors.ts'
import { addressOf, bind, errno, errorName, fileCalls } from './libc.ts'

const AF_UNIX = 1
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SCM_RIGHTS = 1
const MSG_DONTWAIT = 0x40
const MSG_CMSG_CLOEXEC = 0x4000_0000
const MSG_CTRUNC = 0x08
const MSG_NOSIGNAL = 0x4000

const MAX_PATH_BYTES = 107
const MAX_NOTE_BYTES = 1024
const CONTROL_BYTES = 24
const CONTROL_USED_BYTES = 20

export interface Delivery {
  /** The caller closes it. */
  readonly fd: number
  /** What the sender wrote with it; text of at most 1024 bytes, not to be trusted. */
  readonly note: string
}

export interface Inbox {
  /** What has arrived, or `undefined`; never waits. */
  take(): Delivery | undefined
  close(): void
}

/** Opens an inbox at a path of at most 107 bytes, in the place of a dead one. Throws CHANGE_FAILED or FFI_MISSING. */
export function openInbox(path: string): Inbox {
  const socket = openSocket()
  rmSync(path, { force: true })
  const name = socketAddress(path)
  if (calls().bind(socket, addressOf(name), name.length) !== 0) throw failed(`listen at ${path}`, socket)
  return {
    take: () => receive(socket),
    close: () => {
      fileCalls().close(socket)
      rmSync(path, { force: true })
    },
  }
}

/**
 * Two sockets for open files, or for text, each the other's end; both are closed in child processes that are not given one. Throws
 * CHANGE_FAILED.
 */
export function descriptorPair(carries: 'files' | 'text' = 'files'): readonly [number, number] {
  const both = Buffer.alloc(8)
  const type = carries === 'files' ? SOCK_DGRAM : SOCK_STREAM
  if (calls().socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, addressOf(both)) !== 0) throw failed('open Unix sockets')
  return [both.readInt32LE(0), both.readInt32LE(4)]
}

/** Closes descriptors that were handed on, or that nobody takes. */
export function closeAll(fds: readonly number[]): void {
  for (const fd of fds) fileCalls().close(fd)
}

/** Sends copies of descriptors through one end of a pair; never waits. Throws CHANGE_FAILED. */
export function passDescriptors(socket: number, fds: readonly number[]): void {
  for (const fd of fds) {
    const message = new Message(Buffer.from('.'), rightsOf(fd))
    if (calls().sendmsg(socket, addressOf(message.header), MSG_DONTWAIT | MSG_NOSIGNAL) < 0n)
      throw failed('hand over a descriptor')
  }
}

/** What has arrived at the other end, oldest first; the caller closes it. Throws CHANGE_FAILED when there are fewer. */
export function acceptDescriptors(socket: number, count: number): number[] {
  return Array.from({ length: count }, () => {
    const delivery = receive(socket)
    if (delivery === undefined) throw failed('take a descriptor')
    return delivery.fd
  })
}

/** Sends a copy of a descriptor, with a note of at most 1024 bytes, to an inbox. Throws CHANGE_FAILED. */
export function sendDescriptor(path: string, fd: number, note: string): void {
  const socket = openSocket()
  const name = socketAddress(path)
  const message = new Message(Buffer.from(note), rightsOf(fd), name)
  if (calls().sendmsg(socket, addressOf(message.header), 0) < 0n)
    throw failed(`hand over a descriptor at ${path}`, socket)
  fileCalls().close(socket)
}

function rightsOf(fd: number): Buffer {
  const control = Buffer.alloc(CONTROL_BYTES)
  control.writeBigUInt64LE(BigInt(CONTROL_USED_BYTES), 0)
  control.writeInt32LE(SOL_SOCKET, 8)
  control.writeInt32LE(SCM_RIGHTS, 12)
  control.writeInt32LE(fd, 16)
  return control
}

function receive(socket: number): Delivery | undefined {
  const note = Buffer.alloc(MAX_NOTE_BYTES)
  const control = Buffer.alloc(CONTROL_BYTES)
  const message = new Message(note, control)
  const length = Number(calls().recvmsg(socket, addressOf(message.header), MSG_DONTWAIT | MSG_CMSG_CLOEXEC))
  if (length < 0) return undefined
  const isOne = control.readBigUInt64LE(0) === BigInt(CONTROL_USED_BYTES) && control.readInt32LE(12) === SCM_RIGHTS
  const fd = control.readInt32LE(16)
  if (!isOne) return undefined
  if ((message.header.readUInt32LE(48) & MSG_CTRUNC) === 0) return { fd, note: note.toString('utf8', 0, length) }
  fileCalls().close(fd)
  return undefined
}

/** A msghdr with what it points to, which lives as long as it does. */
class Message {
  readonly header = Buffer.alloc(56)
  readonly #vector = Buffer.alloc(16)
  readonly parts: readonly (Buffer | undefined)[]

  constructor(data: Buffer, control: Buffer, name?: Buffer) {
    this.parts = [data, control, name]
    this.#vector.writeBigUInt64LE(addressOf(data), 0)
    this.#vector.writeBigUInt64LE(BigInt(data.length), 8)
    if (name !== undefined) {
      this.header.writeBigUInt64LE(addressOf(name), 0)
      this.header.writeUInt32LE(name.length, 8)
    }
    this.header.writeBigUInt64LE(addressOf(this.#vector), 16)
    this.header.writeBigUInt64LE(1n, 24)
    this.header.writeBigUInt64LE(addressOf(control), 32)
    this.header.writeBigUInt64LE(BigInt(control.length), 40)
  }
}

function socketAddress(path: string): Buffer {
  const bytes = Buffer.from(path)
  if (bytes.length === 0 || bytes.length > MAX_PATH_BYTES) {
    const advice = 'choose a shorter directory'
    throw new HopliteError(
      'CHANGE_FAILED',
      `use ${path} as a socket: it has ${bytes.length} bytes, at most 107`,
      advice,
    )
  }
  const name = Buffer.alloc(2 + bytes.length + 1)
  name.writeUInt16LE(AF_UNIX)
  name.set(bytes, 2)
  return name
}

function openSocket(): number {
  const socket = calls().socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  if (socket < 0) throw failed('open a Unix socket')
  return socket
}

function failed(what: string, socket?: number): HopliteError {
  const found = errorName(errno())
  if (socket !== undefined) fileCalls().close(socket)
  return new HopliteError(
    'CHANGE_FAILED',
    `${what}: ${found}`,
    'check that the other process runs, and who owns the path',
  )
}

let bound: ReturnType<typeof bindCalls> | undefined

function calls(): ReturnType<typeof bindCalls> {
  bound ??= bindCalls()
  return bound
}

function bindCalls() {
  return bind({
    socket: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
    socketpair: { arguments: ['int32', 'int32', 'int32', 'pointer'], return: 'int32' },
    bind: { arguments: ['int32', 'pointer', 'uint32'], return: 'int32' },
    sendmsg: { arguments: ['int32', 'pointer', 'int32'], return: 'int64' },
    recvmsg: { arguments: ['int32', 'pointer', 'int32'], return: 'int64' },
  })
}
