// How long an application waits for the first byte of an answer on a new connection.

import type { Access } from '../subject.ts'
import { connectOrigin, within } from './connect.ts'

const RETRY_MS = 10
const NEXT_ATTEMPT_MS = 100
const ATTEMPT_MS = 10_000

/** Milliseconds from the start of a connection to the first byte of its answer, for `times` connections one after another. */
export async function firstBytes(access: Access, times: number): Promise<{ samplesMs: number[] }> {
  const samplesMs: number[] = []
  for (let i = 0; i < times; i++) {
    const startedMs = performance.now()
    await firstByte(access, 10_000)
    samplesMs.push(performance.now() - startedMs)
  }
  return { samplesMs }
}

/**
 * Tries until an answer comes; `atMs` is when, on the machine's monotonic clock, which all processes share. A new connection is
 * tried while older ones still wait: what a tunnel loses before it is up is not waited for.
 */
export async function awaitOrigin(access: Access, limitMs: number): Promise<{ atMs: number }> {
  const untilMs = performance.now() + limitMs
  let atMs: number | undefined
  let reason: unknown
  while (performance.now() < untilMs) {
    const attempt = firstByte(access, ATTEMPT_MS).then(
      () => {
        atMs ??= monotonicMs()
      },
      error => {
        reason = error
      },
    )
    await Promise.race([attempt, new Promise(resolve => setTimeout(resolve, NEXT_ATTEMPT_MS))])
    if (atMs !== undefined) return { atMs }
    await new Promise(resolve => setTimeout(resolve, RETRY_MS))
  }
  throw new Error('wait for the origin: no answer', { cause: reason })
}

/** Milliseconds on the machine's monotonic clock, the same in every process. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000n) / 1_000
}

async function firstByte(access: Access, limitMs: number): Promise<void> {
  const socket = await connectOrigin(access, 'echo', limitMs)
  try {
    await within(
      new Promise<void>((resolve, reject) => {
        socket.once('data', () => resolve())
        socket.once('error', reject)
        socket.once('close', () => reject(new Error('the connection closed')))
        socket.write('?')
      }),
      limitMs,
    )
  } finally {
    socket.destroy()
  }
}
