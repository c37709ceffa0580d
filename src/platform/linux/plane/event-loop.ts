// The data plane's own loop: it sleeps in epoll until something can be read, deals with it, and hands out what follows.
// It never returns to Node's loop while it runs, so other threads wake it through an event descriptor.

import { errno } from '../libc.ts'
import {
  batchCalls,
  EINTR,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_DATA_OFFSET,
  EPOLL_EVENT_BYTES,
  EPOLLIN,
  Memory,
  socketCalls,
  word,
} from '../socket-calls.ts'
import type { ThreadDescriptors } from './thread-descriptors.ts'

const MAX_EVENTS = 64
const MAX_SLEEP_MS = 60_000

export interface Turn {
  /** Called after every batch of ready descriptors, before the loop sleeps again. */
  readonly settle: () => void
  /** When `handleDeadline` is due, on the clock of `now`. */
  readonly deadline: () => number
  readonly handleDeadline: (now: number) => void
  readonly now: () => number
}

interface Reader {
  readonly fd: number
  readonly read: () => unknown
  /** The turn in which it was called last. */
  turn: number
}

export class EventLoop {
  readonly #fd = socketCalls().epoll_create1(0o2000000)
  readonly #events = new Memory(MAX_EVENTS * EPOLL_EVENT_BYTES)
  readonly #ready = new DataView(this.#events.bytes.buffer)
  readonly #event = new Memory(EPOLL_EVENT_BYTES)
  readonly #readers = new Map<number, Reader>()
  /** Those that have more to do, and memory for those of the turn after. */
  #more: Reader[] = []
  #moreNext: Reader[] = []
  #turn = 0
  #isStopped = false
  readonly #descriptors: ThreadDescriptors | undefined

  /** @param descriptors where those are noted that are open */
  constructor(descriptors?: ThreadDescriptors) {
    this.#descriptors = descriptors
    descriptors?.add(this.#fd)
  }

  /**
   * Calls `read` whenever `fd` can be read; it need not read everything. When it returns true it is called in the next turn, even
   * if there is nothing to be read then. `isOurs`: it is this thread's to close.
   */
  watch(fd: number, read: () => unknown, isOurs = true): void {
    if (isOurs) this.#descriptors?.add(fd)
    this.#readers.set(fd, { fd, read, turn: 0 })
    const view = new DataView(this.#event.bytes.buffer)
    view.setUint32(0, EPOLLIN, true)
    view.setUint32(EPOLL_DATA_OFFSET, fd, true)
    view.setUint32(EPOLL_DATA_OFFSET + 4, 0, true)
    if (socketCalls().epoll_ctl(this.#fd, EPOLL_CTL_ADD, fd, this.#event.pointer) !== 0)
      throw new Error(`watch a descriptor: error ${errno()}`)
  }

  unwatch(fd: number): void {
    this.#descriptors?.delete(fd)
    if (this.#readers.delete(fd)) socketCalls().epoll_ctl(this.#fd, EPOLL_CTL_DEL, fd, this.#event.pointer)
  }

  stop(): void {
    this.#isStopped = true
  }

  /** Runs until `stop`. */
  run(turn: Turn): void {
    turn.settle()
    while (!this.#isStopped) {
      const sleep = this.#more.length > 0 ? 0 : Math.ceil(turn.deadline() - turn.now())
      this.#wait(Math.min(Math.max(sleep, 0), MAX_SLEEP_MS), turn)
      const now = turn.now()
      if (turn.deadline() <= now) turn.handleDeadline(now)
      turn.settle()
    }
  }

  /** One turn that does not sleep. */
  poll(turn: Pick<Turn, 'settle' | 'now'>): void {
    this.#wait(0, turn)
    turn.settle()
  }

  #wait(sleepMs: number, turn: Pick<Turn, 'now'>): void {
    const count = batchCalls().epoll_wait(word(this.#fd), this.#events.pointer, word(MAX_EVENTS), word(sleepMs))
    if (count < 0 && errno() !== EINTR) throw new Error(`wait for packets: error ${errno()}`)
    turn.now()
    this.#turn++
    const more = this.#more
    this.#more = this.#moreNext
    this.#moreNext = more
    for (let i = 0; i < count; i++) {
      this.#call(this.#readers.get(this.#ready.getUint32(i * EPOLL_EVENT_BYTES + EPOLL_DATA_OFFSET, true)))
    }
    for (const reader of more) if (this.#readers.get(reader.fd) === reader) this.#call(reader)
    more.length = 0
  }

  #call(reader: Reader | undefined): void {
    if (reader === undefined || reader.turn === this.#turn) return
    reader.turn = this.#turn
    if (reader.read() === true) this.#more.push(reader)
  }

  /** Nothing may be watched or unwatched afterwards. */
  close(): void {
    this.#descriptors?.delete(this.#fd)
    socketCalls().close(this.#fd)
  }
}
