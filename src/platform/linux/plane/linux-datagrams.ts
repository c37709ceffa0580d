// UDP by batches: recvmmsg with UDP_GRO in, sendmmsg with UDP_SEGMENT out.
//
// All sockets of a worker share the receive memory: a batch is dealt with, and what follows from it is sent, before the
// next is received. Sent packets wait in a few queues, one for each socket of late, until `flush`.

import type { Counters } from '#forward/counters.ts'
import { Codel } from '#packet/codel.ts'
import type { Address } from '#wire/address.ts'
import {
  type DatagramSocket,
  type Datagrams,
  isOutOfDescriptors,
  type SocketHandlers,
  type SocketPlan,
} from '../../datagrams.ts'
import { AddressBook } from '../socket-address.ts'
import {
  batchCalls,
  EAGAIN,
  EINTR,
  errno,
  IOVEC_BYTES,
  Memory,
  MMSG_BYTES,
  MSG_DONTWAIT,
  SO_TIMESTAMPNS,
  SOL_SOCKET,
  SOL_UDP,
  socketCalls,
  UDP_GRO,
  word,
} from '../socket-calls.ts'
import type { EventLoop } from './event-loop.ts'
import { KnownBuffers, SendQueue, type SendTarget } from './send-queue.ts'
import { keepWhole, nameOf, openUdpSocket } from './udp-socket.ts'

const MESSAGES = 16
const MESSAGE_BYTES = 65_536
const NAME_BYTES = 32
/** A time takes 32 bytes, the length of segments 24. */
const CONTROL_BYTES = 64
const QUEUES = 16
const CLOCK_REALTIME = 0n
/** Datagrams read from one socket before others have their turn, more or less: a good millisecond. Smaller turns make smaller batches. */
const TURN_DATAGRAMS = 1_024

export interface LinuxDatagramsOptions {
  readonly counters: Counters
  readonly loop: EventLoop
  readonly now: () => number
}

export class LinuxDatagrams implements Datagrams {
  readonly known = new KnownBuffers()
  /** Called when a batch has been dealt with, before the memory it lies in is used again. */
  onBatch: () => void = () => {}
  /** Called with true before datagrams of which one is to be shed, as the queue that they waited in stands, and with false after. */
  onStanding: (isStanding: boolean) => void = () => {}
  readonly #options: LinuxDatagramsOptions
  readonly #queues: SendQueue[]
  readonly #receive: ReceiveMemory
  readonly #open = new Set<LinuxSocket>()
  #nextQueue = 0
  #lastQueue: SendQueue

  constructor(options: LinuxDatagramsOptions) {
    this.#options = options
    this.#queues = Array.from({ length: QUEUES }, () => new SendQueue(options.counters, this.known))
    this.#lastQueue = this.#queues[0] as SendQueue
    this.#receive = new ReceiveMemory()
    this.known.add(this.#receive.data.bytes, this.#receive.data.address)
  }

  open(plan: SocketPlan, handlers: SocketHandlers): DatagramSocket {
    const socket = new LinuxSocket(plan, handlers, this, this.#receive, this.#options)
    if (!socket.isClosed) this.#open.add(socket)
    return socket
  }

  /** Closes every socket: nobody else does when the thread ends. */
  close(): void {
    for (const socket of this.#open) socket.close()
  }

  forget(socket: LinuxSocket): void {
    this.#open.delete(socket)
  }

  queue(target: SendTarget, buffer: Uint8Array, offset: number, length: number, to: Address | undefined): void {
    if (this.#lastQueue.target !== target) this.#lastQueue = this.#queueOf(target)
    this.#lastQueue.add(target, buffer, offset, length, to)
  }

  #queueOf(target: SendTarget): SendQueue {
    for (const queue of this.#queues) if (queue.target === target) return queue
    const queue = this.#queues[this.#nextQueue] as SendQueue
    this.#nextQueue = (this.#nextQueue + 1) % QUEUES
    return queue
  }

  /** Hands everything that waits to the kernel. */
  flush(): void {
    for (const queue of this.#queues) if (queue.target !== undefined) queue.flush()
  }
}

class LinuxSocket implements DatagramSocket, SendTarget {
  readonly fd: number
  canSegment = true
  readonly #plan: SocketPlan
  readonly #handlers: SocketHandlers
  readonly #datagrams: LinuxDatagrams
  readonly #receive: ReceiveMemory
  readonly #loop: EventLoop
  readonly #now: () => number
  readonly #codel = new Codel()
  /** How many messages are asked for at once. */
  #ask = MESSAGES
  #isClosed = false

  constructor(
    plan: SocketPlan,
    handlers: SocketHandlers,
    datagrams: LinuxDatagrams,
    receive: ReceiveMemory,
    { counters, loop, now }: LinuxDatagramsOptions,
  ) {
    this.#plan = plan
    this.#handlers = handlers
    this.#datagrams = datagrams
    this.#receive = receive
    this.#loop = loop
    this.#now = now
    const opened = plan.fd ?? openUdpSocket(plan)
    this.fd = typeof opened === 'number' ? opened : -1
    if (typeof opened !== 'number') {
      this.close()
      if (isOutOfDescriptors(opened.code)) counters.add('noDescriptor')
      handlers.onFailed?.(opened.code)
      return
    }
    loop.watch(this.fd, () => this.#read())
    handlers.onOpen?.(nameOf(this.fd))
  }

  send(buffer: Uint8Array, offset: number, length: number, to?: Address): void {
    if (!this.#isClosed) this.#datagrams.queue(this, buffer, offset, length, to)
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#datagrams.forget(this)
    if (this.fd < 0) return
    // What waits for this socket goes out first: its descriptor may be another's the next moment.
    this.#datagrams.flush()
    this.#loop.unwatch(this.fd)
    socketCalls().close(this.fd)
  }

  keepWhole(isWhole: boolean): void {
    if (this.#isClosed) return
    this.#datagrams.flush()
    keepWhole(this.fd, this.#plan.bind?.host.includes(':') === true, isWhole)
  }

  onError(): void {
    this.#handlers.onError?.()
  }

  #read(): void {
    for (let datagrams = 0; datagrams < TURN_DATAGRAMS && !this.#isClosed; ) {
      const asked = this.#ask
      const count = this.#receive.fill(this.fd, asked)
      if (count < 0) {
        const error = errno()
        if (error !== EAGAIN && error !== EINTR) this.onError()
        return
      }
      const delivered = this.#deliver(count, count < asked)
      this.#datagrams.onBatch()
      this.#datagrams.flush()
      if (count < asked) return
      // A message may hold one datagram or 64.
      this.#ask = Math.min(Math.max(Math.floor((TURN_DATAGRAMS * count) / delivered), 1), MESSAGES)
      datagrams += delivered
    }
  }

  /** Hands on what was received, and gives the number of datagrams. */
  #deliver(count: number, isAll: boolean): number {
    const receive = this.#receive
    const { bytes } = receive.data
    const { connect } = this.#plan
    const now = this.#now()
    receive.readClock()
    let datagrams = 0
    for (let i = 0; i < count; i++) {
      const length = receive.length(i)
      const segment = receive.segment(i)
      const from = connect ?? receive.from(i)
      const start = i * MESSAGE_BYTES
      const isShed = this.#codel.sheds(receive.waitMs(i), isAll && i === count - 1, now)
      if (isShed) this.#datagrams.onStanding(true)
      if (length === 0) this.#handlers.onDatagram(bytes, start, 0, from)
      for (let at = 0; at < length && !this.#isClosed; at += segment) {
        this.#handlers.onDatagram(bytes, start + at, Math.min(segment, length - at), from)
        datagrams++
      }
      if (isShed) this.#datagrams.onStanding(false)
    }
    return Math.max(datagrams, 1)
  }
}

/** Where received datagrams lie, with the structures that say so to the kernel. */
class ReceiveMemory {
  readonly data = new Memory(MESSAGES * MESSAGE_BYTES)
  readonly #names = new Memory(MESSAGES * NAME_BYTES)
  readonly #messages = new Memory(MESSAGES * MMSG_BYTES)
  readonly #vectors = new Memory(MESSAGES * IOVEC_BYTES)
  readonly #controls = new Memory(MESSAGES * CONTROL_BYTES)
  readonly #clock = new Memory(16)
  readonly #book = new AddressBook()

  constructor() {
    for (let i = 0; i < MESSAGES; i++) {
      const at = i * MMSG_BYTES
      this.#vectors.setPointer(i * IOVEC_BYTES, this.data.address + i * MESSAGE_BYTES)
      this.#vectors.setPointer(i * IOVEC_BYTES + 8, MESSAGE_BYTES)
      this.#messages.setPointer(at, this.#names.address + i * NAME_BYTES)
      this.#messages.setPointer(at + 16, this.#vectors.address + i * IOVEC_BYTES)
      this.#messages.setPointer(at + 24, 1)
      this.#messages.setPointer(at + 32, this.#controls.address + i * CONTROL_BYTES)
    }
  }

  /** Receives at most `most` messages; their number, or -1. */
  fill(fd: number, most: number): number {
    const { words } = this.#messages
    for (let i = 0; i < most; i++) {
      const word = (i * MMSG_BYTES) >>> 2
      words[word + 2] = NAME_BYTES
      words[word + 10] = CONTROL_BYTES
    }
    return batchCalls().recvmmsg(word(fd), this.#messages.pointer, word(most), word(MSG_DONTWAIT), 0n)
  }

  length(message: number): number {
    return this.#messages.words[((message * MMSG_BYTES) >>> 2) + 14] ?? 0
  }

  /** Length of each datagram of a message, but for the last, which may be shorter. */
  segment(message: number): number {
    const at = this.#control(message, SOL_UDP, UDP_GRO)
    return at === 0 ? MESSAGE_BYTES : Math.max(this.#controls.words[at] ?? 0, 1)
  }

  /** Reads the clock that the kernel takes times from: not the one for intervals, as it may be set. */
  readClock(): void {
    batchCalls().clock_gettime(CLOCK_REALTIME, this.#clock.pointer)
  }

  /** How long a message had been in the socket at the time of `readClock`, in milliseconds. */
  waitMs(message: number): number {
    const at = this.#control(message, SOL_SOCKET, SO_TIMESTAMPNS)
    if (at === 0) return 0
    const then = this.#controls.words
    const now = this.#clock.words
    const seconds = (now[0] ?? 0) - (then[at] ?? 0)
    return seconds * 1_000 + ((now[2] ?? 0) - (then[at + 2] ?? 0)) / 1e6
  }

  /** Where the data of a control message begin, in words; 0 without it. Each begins with its length, level and type. */
  #control(message: number, level: number, type: number): number {
    const { words } = this.#controls
    const first = (message * CONTROL_BYTES) >>> 2
    const end = first + ((this.#messages.words[((message * MMSG_BYTES) >>> 2) + 10] ?? 0) >>> 2)
    for (let at = first; at + 4 < end; at += Math.max(((words[at] ?? 0) + 7) >>> 3, 2) << 1) {
      if (words[at + 2] === level && words[at + 3] === type) return at + 4
    }
    return 0
  }

  from(message: number): Address {
    return this.#book.find(this.#names.bytes, this.#names.words, message * NAME_BYTES)
  }
}
