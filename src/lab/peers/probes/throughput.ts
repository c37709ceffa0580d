// TCP throughput where there is no IP for iperf3: connections to the origin's source or sink. What counts is what was received.

import type { Socket } from 'node:net'
import type { Access } from '../subject.ts'
import { connectOrigin } from './connect.ts'

const CHUNK = Buffer.alloc(256 * 1024, 0x5a)

/** Bits per second after the warm-up, and all bytes with those of the warm-up, over all streams. */
export async function throughput(
  access: Access,
  request: { isInward: boolean; streams: number; durationMs: number; warmUpMs: number },
): Promise<{ bitsPerSecond: number; bytes: number }> {
  const flow = request.isInward ? receive : send
  const received = await Promise.all(Array.from({ length: request.streams }, () => flow(access)))
  const sum = () => received.reduce((total, bytes) => total + bytes(), 0)
  await wait(request.warmUpMs)
  const [before, startedMs] = [sum(), performance.now()]
  await wait(request.durationMs)
  const [after, seconds] = [sum(), (performance.now() - startedMs) / 1_000]
  return { bitsPerSecond: ((after - before) * 8) / seconds, bytes: after }
}

async function receive(access: Access): Promise<() => number> {
  const socket = await connectOrigin(access, 'source')
  let total = 0
  socket.on('error', () => undefined)
  socket.on('data', chunk => {
    total += chunk.length
  })
  return () => total
}

async function send(access: Access): Promise<() => number> {
  const socket = await connectOrigin(access, 'sink')
  let total = 0
  let left: Buffer = Buffer.alloc(0)
  socket.on('error', () => undefined)
  socket.on('data', chunk => {
    left = Buffer.concat([left, chunk as Buffer])
    for (; left.length >= 8; left = left.subarray(8)) total = Number(left.readBigUInt64BE(0))
  })
  fill(socket)
  return () => total
}

function fill(socket: Socket): void {
  const more = () => {
    while (!socket.destroyed && socket.write(CHUNK)) continue
  }
  socket.on('drain', more)
  more()
}

function wait(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
