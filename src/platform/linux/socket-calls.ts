// The calls on sockets and readiness that the data plane makes, and their constants (Linux, x86-64 and arm64).
//
// Memory that the kernel reads or writes is given by address. Addresses are kept as numbers, which are exact below 2^53,
// and written into structures in two halves: a bigint per packet would be garbage per packet.

import { vectorMemory } from '#bytes/vector-memory.ts'
import { addressOf, bind, errno } from './libc.ts'

export const EAGAIN = 11
export const ECONNREFUSED = 111
export const EIO = 5
export const EINVAL = 22
export const EINTR = 4
export const EMSGSIZE = 90

export const SOCK_STREAM = 1
export const SOCK_DGRAM = 2
/** Non-blocking, closed on exec. */
export const SOCK_FLAGS = 0o4000 | 0o2000000
export const MSG_DONTWAIT = 0x40

export const SOL_SOCKET = 1
export const SO_REUSEADDR = 2
export const SO_SNDBUF = 7
export const SO_RCVBUF = 8
export const SO_REUSEPORT = 15
export const SO_SNDBUFFORCE = 32
export const SO_RCVBUFFORCE = 33
export const SO_TIMESTAMPNS = 35
export const SO_MARK = 36
export const SO_ATTACH_REUSEPORT_CBPF = 51
export const SOL_UDP = 17
export const UDP_SEGMENT = 103
export const UDP_GRO = 104
export const IPPROTO_IPV6 = 41
export const IPV6_V6ONLY = 26

export const EPOLLIN = 1
export const EPOLL_CTL_ADD = 1
export const EPOLL_CTL_DEL = 2
/** `struct epoll_event` is packed on x86-64 alone. */
export const EPOLL_EVENT_BYTES = process.arch === 'x64' ? 12 : 16
export const EPOLL_DATA_OFFSET = process.arch === 'x64' ? 4 : 8

/** `struct msghdr` and `struct mmsghdr`: name, name length, vectors, their number, control, its length, flags; received length. */
export const MMSG_BYTES = 64
export const IOVEC_BYTES = 16

let batches: ReturnType<typeof bindBatches> | undefined
let calls: ReturnType<typeof bindSockets> | undefined

export function socketCalls(): ReturnType<typeof bindSockets> {
  calls ??= bindSockets()
  return calls
}

function bindSockets() {
  return bind({
    socket: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
    bind: { arguments: ['int32', 'pointer', 'uint32'], return: 'int32' },
    connect: { arguments: ['int32', 'pointer', 'uint32'], return: 'int32' },
    socketpair: { arguments: ['int32', 'int32', 'int32', 'pointer'], return: 'int32' },
    listen: { arguments: ['int32', 'int32'], return: 'int32' },
    getsockname: { arguments: ['int32', 'pointer', 'pointer'], return: 'int32' },
    setsockopt: { arguments: ['int32', 'int32', 'int32', 'pointer', 'uint32'], return: 'int32' },
    close: { arguments: ['int32'], return: 'int32' },
    fcntl: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
    gettid: { arguments: [], return: 'int32' },
    read: { arguments: ['int32', 'pointer', 'uint32'], return: 'int32' },
    write: { arguments: ['int32', 'pointer', 'uint32'], return: 'int32' },
    writev: { arguments: ['int32', 'pointer', 'int32'], return: 'int32' },
    eventfd: { arguments: ['uint32', 'int32'], return: 'int32' },
    epoll_create1: { arguments: ['int32'], return: 'int32' },
    epoll_ctl: { arguments: ['int32', 'int32', 'int32', 'pointer'], return: 'int32' },
  })
}

/**
 * The calls that are made for every batch. Calls whose arguments are pointers alone are compiled into their caller: a few
 * nanoseconds in place of hundreds. So numbers are declared as pointers, the same registers on x86-64 and arm64, and given as
 * `word(number)`.
 */
export function batchCalls(): ReturnType<typeof bindBatches> {
  batches ??= bindBatches()
  return batches
}

function bindBatches() {
  const p = 'pointer'
  return bind({
    recvmmsg: { arguments: [p, p, p, p, p], return: 'int32' },
    sendmmsg: { arguments: [p, p, p, p], return: 'int32' },
    epoll_wait: { arguments: [p, p, p, p], return: 'int32' },
    read: { arguments: [p, p, p], return: 'int32' },
    write: { arguments: [p, p, p], return: 'int32' },
    writev: { arguments: [p, p, p], return: 'int32' },
    clock_gettime: { arguments: [p, p], return: 'int32' },
  })
}

const WORDS = Array.from({ length: 4_096 }, (_, n) => BigInt(n))

/** A number, 0 or more, as `batchCalls` takes it; small ones are made once. */
export function word(number: number): bigint {
  return WORDS[number] ?? BigInt(number)
}

const VECTOR_BYTES = 64 * 1024

/** Memory at a fixed address, seen as bytes and as words. The object must stay referenced while the kernel knows of it. */
export class Memory {
  readonly bytes: Uint8Array
  readonly words: Uint32Array
  readonly pointer: bigint
  readonly address: number

  /** @param size in bytes, a multiple of four, at least a page so that it does not move */
  constructor(size: number) {
    // What holds packets is summed up.
    this.bytes = size >= VECTOR_BYTES ? vectorMemory(size) : new Uint8Array(Math.max(size, 4096))
    this.words = new Uint32Array(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length >>> 2)
    this.pointer = addressOf(this.bytes)
    this.address = Number(this.pointer)
  }

  /** Writes a 64-bit pointer or length at `offset`, a multiple of four. */
  setPointer(offset: number, value: number): void {
    this.words[offset >>> 2] = value >>> 0
    this.words[(offset >>> 2) + 1] = Math.floor(value / 0x1_0000_0000)
  }
}

const AF_UNIX = 1

/** Two descriptors that are joined: what is written to one is read from the other, packet by packet. */
export function openPair(): readonly [number, number] {
  const pair = new Memory(8)
  if (socketCalls().socketpair(AF_UNIX, SOCK_DGRAM | SOCK_FLAGS, 0, pair.pointer) !== 0)
    throw new Error(`join two sockets: error ${errno()}`)
  return [pair.words[0] ?? -1, pair.words[1] ?? -1]
}

const option = { memory: undefined as Memory | undefined }

/** Sets an integer option of a socket; false when the system refuses. */
export function setOption(fd: number, level: number, name: number, value: number): boolean {
  option.memory ??= new Memory(4)
  option.memory.words[0] = value
  return socketCalls().setsockopt(fd, level, name, option.memory.pointer, 4) === 0
}

export { errno }
