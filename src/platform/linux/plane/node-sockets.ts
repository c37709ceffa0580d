// The node's own UDP address, with a socket for each worker. The kernel puts a datagram into the queue of the worker that owns it,
// by a program of its packet filter (SO_REUSEPORT, SO_ATTACH_REUSEPORT_CBPF; socket(7)):
//
//   transport packet ──► lowest bits of its receiver index (forward/workers.ts)      anything else ──► worker 0
//
// What names a worker that has no socket yet goes to any. A socket's place in the kernel's list is its worker's number, and the
// list closes up when one is closed: so all stay open here, and a worker is given a copy of its descriptor, which it closes.
//
// One is bound before it shares its address: that fails where somebody else has it, another node of the same user included. Those that
// are bound to share it form the kernel's list; that one is then closed.

import { MAX_WORKERS } from '#forward/workers.ts'
import type { Address } from '#wire/address.ts'
import { errno } from '../libc.ts'
import { Memory, SO_ATTACH_REUSEPORT_CBPF, SO_REUSEPORT, SOL_SOCKET, setOption, socketCalls } from '../socket-calls.ts'
import { copyDescriptor, nameOf, openUdpSocket } from './udp-socket.ts'

export interface NodeSocketsOptions {
  readonly bind: Address
  /** How many there will be, at most. */
  readonly workers: number
  /** Sockets to take, not bound yet: one, or for several workers one more than workers. Without them new ones are made. */
  readonly given: readonly number[]
}

export class NodeSockets {
  readonly address: Address
  readonly #fds: number[]
  readonly #given: number[]
  /** Fewer than were asked for where the kernel cannot steer. */
  readonly workers: number

  private constructor(fd: number, address: Address, workers: number, given: number[]) {
    this.#fds = [fd]
    this.address = address
    this.workers = workers
    this.#given = given
  }

  /** Opens the first. Throws FFI_MISSING where the C library cannot be called. */
  static open({ bind, workers, given: all }: NodeSocketsOptions): NodeSockets | { readonly code: string } {
    // Given ones may have a mark, which is for the network.
    const given = isLoopback(bind.host) ? [] : all
    if (given !== all) closeAll(all)
    const unused = [...given]
    const only = openUdpSocket({ bind, isBusy: true }, { given: unused.shift() })
    if (typeof only !== 'number') {
      closeAll(unused)
      return only
    }
    const address = nameOf(only)
    // All are of one user, or the kernel does not let them share.
    const most = given.length === 0 ? workers : Math.min(workers, given.length - 1)
    const first = most > 1 ? share(only, address, most, unused) : undefined
    if (first !== undefined) closeAll([only])
    return new NodeSockets(first ?? only, address, first === undefined ? 1 : most, unused)
  }

  /** A copy of the descriptor of this worker's socket, for the worker to close. Throws what keeps it from being made. */
  copyFor(worker: number): number {
    while (this.#fds.length <= worker) {
      const fd = openUdpSocket({ bind: this.address, isBusy: true }, { given: this.#given.shift(), isFurther: true })
      if (typeof fd !== 'number') throw new Error(`share the node's UDP port: ${fd.code}`)
      this.#fds.push(fd)
    }
    const copy = copyDescriptor(this.#fds[worker] ?? -1)
    if (copy < 0) throw new Error(`copy a descriptor: error ${errno()}`)
    return copy
  }

  close(): void {
    closeAll(this.#fds.splice(0))
    closeAll(this.#given.splice(0))
  }
}

/** The first socket that shares the address of `fd`; undefined where the kernel does not steer. */
function share(fd: number, bind: Address, workers: number, given: number[]): number | undefined {
  if (!setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1)) return undefined
  const shared = openUdpSocket({ bind, isBusy: true }, { given: given.shift(), isFurther: true })
  if (typeof shared !== 'number') return undefined
  if (steer(shared, workers)) return shared
  closeAll([shared])
  return undefined
}

function isLoopback(host: string): boolean {
  return host.startsWith('127.') || host === '::1'
}

function closeAll(fds: readonly number[]): void {
  for (const fd of fds) socketCalls().close(fd)
}

/** `struct sock_filter`: code, jump if true, jump if false, constant. What reads behind the end of a datagram gives 0. */
function steeringProgram(workers: number): readonly (readonly [number, number, number, number])[] {
  return [
    [0x20, 0, 0, 0], // first four bytes, big-endian
    [0x15, 0, 4, 0x04_00_00_00], // a transport packet, or to the end
    [0x30, 0, 0, 4], // lowest byte of the receiver index
    [0x54, 0, 0, MAX_WORKERS - 1], // and
    [0x94, 0, 0, workers], // modulo
    [0x16, 0, 0, 0], // give that
    [0x06, 0, 0, 0], // give 0
  ]
}

const PROGRAM_OFFSET = 16

/** Whether the kernel took the program. */
function steer(fd: number, workers: number): boolean {
  const program = steeringProgram(workers)
  const memory = new Memory(PROGRAM_OFFSET + program.length * 8)
  const view = new DataView(memory.bytes.buffer, memory.bytes.byteOffset)
  view.setUint16(0, program.length, true)
  memory.setPointer(8, memory.address + PROGRAM_OFFSET)
  for (const [i, [code, ifTrue, ifFalse, constant]] of program.entries()) {
    const at = PROGRAM_OFFSET + i * 8
    view.setUint16(at, code, true)
    view.setUint8(at + 2, ifTrue)
    view.setUint8(at + 3, ifFalse)
    view.setUint32(at + 4, constant, true)
  }
  return socketCalls().setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, memory.pointer, 16) === 0
}
