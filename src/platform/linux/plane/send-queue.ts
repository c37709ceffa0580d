// Datagrams on their way out: gathered while a batch of packets is dealt with, handed to the kernel in few calls.
//
//   message (mmsghdr) ──► vectors, one for each datagram ──► where the packets lie
//
// Datagrams that follow each other to the same address with the same length become one message with UDP_SEGMENT (GSO): the
// kernel carries them through its stack as one. The last of a message may be shorter. Packets are not copied: they must
// stay as they are until `flush`. Only small arrays made elsewhere are copied, because they may move in memory.

import type { Counters } from '#forward/counters.ts'
import type { Address } from '#wire/address.ts'
import { encodeSocketAddress } from '../socket-address.ts'
import {
  batchCalls,
  EAGAIN,
  ECONNREFUSED,
  EINTR,
  EINVAL,
  EIO,
  EMSGSIZE,
  errno,
  IOVEC_BYTES,
  Memory,
  MMSG_BYTES,
  MSG_DONTWAIT,
  SOL_UDP,
  UDP_SEGMENT,
  word,
} from '../socket-calls.ts'

const MAX_MESSAGES = 64
const MAX_VECTORS = 1_024
/** What the kernel takes in one message with segments. */
const MAX_SEGMENTS = 64
const MAX_SEGMENTED_BYTES = 65_000
/** Longer datagrams may have to be fragmented, which those with segments cannot be. */
const MAX_SEGMENT_BYTES = 1_452
const COPY_BYTES = 256 * 1024
const CONTROL_BYTES = 24

/** Buffers whose packets are sent from where they lie. */
export class KnownBuffers {
  readonly #addresses = new WeakMap<Uint8Array, number>()
  // Packet follows packet from the same memory.
  #last: Uint8Array | undefined
  #lastAddress: number | undefined

  add(buffer: Uint8Array, address: number): void {
    this.#addresses.set(buffer, address)
    this.#last = undefined
  }

  /** The address of the buffer's first byte; undefined when it is not known. */
  find(buffer: Uint8Array): number | undefined {
    if (buffer === this.#last) return this.#lastAddress
    this.#last = buffer
    this.#lastAddress = this.#addresses.get(buffer)
    return this.#lastAddress
  }
}

const encoded = new WeakMap<Address, Uint8Array>()

/** The bytes of an address, made once for each object. */
export function encodeOnce(address: Address): Uint8Array {
  let bytes = encoded.get(address)
  if (bytes === undefined) {
    bytes = encodeSocketAddress(address)
    encoded.set(address, bytes)
  }
  return bytes
}

export interface SendTarget {
  readonly fd: number
  /** Whether datagrams may be joined; cleared when the system refuses. */
  canSegment: boolean
  onError(): void
}

export class SendQueue {
  readonly #counters: Counters
  readonly #known: KnownBuffers
  readonly #messages = new Memory(MAX_MESSAGES * MMSG_BYTES)
  readonly #vectors = new Memory(MAX_VECTORS * IOVEC_BYTES)
  readonly #names = new Memory(MAX_MESSAGES * 32)
  readonly #controls = new Memory(MAX_MESSAGES * CONTROL_BYTES)
  readonly #copies = new Memory(COPY_BYTES)
  #copied = 0
  #target: SendTarget | undefined
  #messageCount = 0
  #vectorCount = 0
  #to: Address | undefined
  #segment = 0
  #segments = 0
  #messageBytes = 0
  #isFull = true

  constructor(counters: Counters, known: KnownBuffers) {
    this.#counters = counters
    this.#known = known
    const { bytes, address } = this.#controls
    const view = new DataView(bytes.buffer)
    for (let i = 0; i < MAX_MESSAGES; i++) {
      view.setUint32(i * CONTROL_BYTES, 18, true)
      view.setUint32(i * CONTROL_BYTES + 8, SOL_UDP, true)
      view.setUint32(i * CONTROL_BYTES + 12, UDP_SEGMENT, true)
      this.#messages.setPointer(i * MMSG_BYTES + 32, address + i * CONTROL_BYTES)
    }
  }

  /** The socket whose datagrams wait here. */
  get target(): SendTarget | undefined {
    return this.#target
  }

  /** Adds a datagram for `target`; what waits for another target goes out first. */
  add(target: SendTarget, buffer: Uint8Array, offset: number, length: number, to: Address | undefined): void {
    const isFull = this.#messageCount === MAX_MESSAGES || this.#vectorCount === MAX_VECTORS
    if (this.#target !== target || isFull) this.flush()
    this.#target = target
    const from = this.#known.find(buffer)
    const address = from === undefined ? this.#copy(buffer, offset, length) : from + offset
    const joins =
      !this.#isFull &&
      this.#to === to &&
      length <= this.#segment &&
      this.#segments < MAX_SEGMENTS &&
      this.#messageBytes + length <= MAX_SEGMENTED_BYTES
    if (!joins) this.#begin(target, length, to)
    this.#vectors.setPointer(this.#vectorCount * IOVEC_BYTES, address)
    this.#vectors.setPointer(this.#vectorCount * IOVEC_BYTES + 8, length)
    this.#vectorCount++
    this.#segments++
    this.#messageBytes += length
    const word = ((this.#messageCount - 1) * MMSG_BYTES) >>> 2
    this.#messages.words[word + 6] = this.#segments
    if (this.#segments > 1) this.#messages.words[word + 10] = CONTROL_BYTES
    // A shorter datagram ends its message.
    if (length < this.#segment) this.#isFull = true
  }

  /** Hands everything that waits to the kernel. */
  flush(): void {
    const target = this.#target
    const count = this.#messageCount
    this.#target = undefined
    this.#messageCount = 0
    this.#vectorCount = 0
    this.#copied = 0
    this.#isFull = true
    if (target === undefined || count === 0) return
    let done = 0
    while (done < count) {
      const pointer = done === 0 ? this.#messages.pointer : this.#messages.pointer + BigInt(done * MMSG_BYTES)
      const sent = batchCalls().sendmmsg(word(target.fd), pointer, word(count - done), word(MSG_DONTWAIT))
      if (sent > 0) {
        done += sent
        continue
      }
      const error = errno()
      if (error === EINTR) continue
      if ((error === EIO || error === EINVAL || error === EMSGSIZE) && this.#isSegmented(done)) {
        if (error === EIO) target.canSegment = false
        this.#sendApart(target, done)
      } else if (error === EAGAIN) {
        return this.#counters.add('dropSendQueue', this.#datagrams(done, count))
      } else {
        this.#counters.add('dropSendError', this.#datagrams(done, done + 1))
        // What ICMP said is told once by the next call, whatever that call would have sent: it is tried again.
        if (error !== EMSGSIZE) target.onError()
        const isTold = error === ECONNREFUSED || error === EMSGSIZE
        if (isTold && batchCalls().sendmmsg(word(target.fd), pointer, 1n, word(MSG_DONTWAIT)) === 1) {
          this.#counters.add('dropSendError', -this.#datagrams(done, done + 1))
        }
      }
      done++
    }
  }

  #begin(target: SendTarget, length: number, to: Address | undefined): void {
    const at = this.#messageCount++ * MMSG_BYTES
    const { words } = this.#messages
    if (to === undefined) {
      this.#messages.setPointer(at, 0)
      words[(at + 8) >>> 2] = 0
    } else {
      const name = encodeOnce(to)
      const slot = (this.#messageCount - 1) * 32
      this.#names.bytes.set(name, slot)
      this.#messages.setPointer(at, this.#names.address + slot)
      words[(at + 8) >>> 2] = name.length
    }
    this.#messages.setPointer(at + 16, this.#vectors.address + this.#vectorCount * IOVEC_BYTES)
    words[(at + 24) >>> 2] = 0
    words[(at + 40) >>> 2] = 0
    this.#controls.words[((this.#messageCount - 1) * CONTROL_BYTES + 16) >>> 2] = length
    this.#to = to
    this.#segment = length
    this.#segments = 0
    this.#messageBytes = 0
    this.#isFull = !target.canSegment || length === 0 || length > MAX_SEGMENT_BYTES
  }

  #copy(buffer: Uint8Array, offset: number, length: number): number {
    if (this.#copied + length > COPY_BYTES) {
      const target = this.#target
      this.flush()
      this.#target = target
    }
    const at = this.#copied
    this.#copies.bytes.set(buffer.subarray(offset, offset + length), at)
    this.#copied += length
    return this.#copies.address + at
  }

  #isSegmented(message: number): boolean {
    return (this.#messages.words[((message * MMSG_BYTES) >>> 2) + 10] ?? 0) > 0
  }

  #datagrams(from: number, to: number): number {
    let sum = 0
    for (let i = from; i < to; i++) sum += this.#messages.words[((i * MMSG_BYTES) >>> 2) + 6] ?? 0
    return sum
  }

  /** Sends the datagrams of one message one by one, where the network card or the kernel cannot cut them apart. */
  #sendApart(target: SendTarget, message: number): void {
    const at = (message * MMSG_BYTES) >>> 2
    const { words } = this.#messages
    const count = words[at + 6] ?? 0
    const first = ((words[at + 4] ?? 0) + (words[at + 5] ?? 0) * 0x1_0000_0000 - this.#vectors.address) / IOVEC_BYTES
    words[at + 6] = 1
    words[at + 10] = 0
    const pointer = this.#messages.pointer + BigInt(message * MMSG_BYTES)
    for (let i = 0; i < count; i++) {
      this.#messages.setPointer(message * MMSG_BYTES + 16, this.#vectors.address + (first + i) * IOVEC_BYTES)
      if (batchCalls().sendmmsg(word(target.fd), pointer, 1n, word(MSG_DONTWAIT)) !== 1)
        this.#counters.add('dropSendError')
    }
  }
}
