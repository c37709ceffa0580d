// Reads a TUN in a thread that may sleep in the kernel, and hands packets over in batches, each packet with room around it.
//
//   this thread ──batch──► its owner ──the memory back──► this thread
//
// Bound: 16 batches are away at once; until one comes back, packets wait in the kernel, which drops what is too much.

import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { EventLoop } from './event-loop.ts'
import { addressOf } from './libc.ts'
import { Memory, socketCalls } from './socket-calls.ts'

export interface TunReaderData {
  readonly fd: number
  /** An event descriptor: written to, it ends the thread. */
  readonly endFd: number
  readonly mtu: number
  /** Bytes before and behind each packet. */
  readonly headroom: number
  readonly tailroom: number
}

export interface TunBatch {
  readonly memory: ArrayBuffer
  /** Of the packets, the first at `headroom`, each `slot` bytes after the one before. */
  readonly lengths: readonly number[]
  readonly slot: number
}

const PACKETS = 64
const MAX_AWAY = 16
/** Until memory comes back. */
const WAIT_MS = 1

const owner = parentPort
if (owner === null) throw new Error('read a TUN: not in a worker')
const { fd, endFd, mtu, headroom, tailroom } = workerData as TunReaderData
const slot = Math.ceil((headroom + mtu + tailroom) / 16) * 16
const loop = new EventLoop()
const woken = new Memory(8)
const pool: ArrayBuffer[] = []
const sleeper = new Int32Array(new SharedArrayBuffer(4))
let away = 0

function takeMemory(): ArrayBuffer {
  for (;;) {
    for (;;) {
      const back = receiveMessageOnPort(owner as NonNullable<typeof owner>) as { message: ArrayBuffer } | undefined
      if (back === undefined) break
      away--
      pool.push(back.message)
    }
    if (away < MAX_AWAY) return pool.pop() ?? new ArrayBuffer(Math.max(PACKETS * slot, 4096))
    Atomics.wait(sleeper, 0, 0, WAIT_MS)
  }
}

loop.watch(fd, () => {
  const memory = takeMemory()
  const start = addressOf(new Uint8Array(memory)) + BigInt(headroom)
  const lengths: number[] = []
  while (lengths.length < PACKETS) {
    const length = socketCalls().read(fd, start + BigInt(lengths.length * slot), mtu)
    if (length <= 0) break
    lengths.push(length)
  }
  if (lengths.length === 0) return void pool.push(memory)
  away++
  owner.postMessage({ memory, lengths, slot } satisfies TunBatch, [memory])
})
loop.watch(endFd, () => {
  socketCalls().read(endFd, woken.pointer, 8)
  loop.stop()
})
loop.run({
  settle: () => undefined,
  deadline: () => Number.POSITIVE_INFINITY,
  handleDeadline: () => undefined,
  now: () => 0,
})
