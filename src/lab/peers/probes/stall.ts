// A download while a hop is killed: the longest time without a byte, and how often the application had to connect again.

import type { Access } from '../subject.ts'
import { connectOrigin } from './connect.ts'

const LEAD_MS = 1_000
const LEAST_MS = 3_000
const FLOWS_AGAIN_MS = 100
const RETRY_MS = 20

export interface Stall {
  readonly longestStallMs: number
  /** Whether bytes came again before the limit. */
  readonly isOver: boolean
  readonly connections: number
}

/**
 * Downloads until three seconds have passed since `onFlowing` was called and bytes come, at most until `limitMs`. A connection
 * that fails is made again.
 */
export async function stall(access: Access, limitMs: number, onFlowing: () => void): Promise<Stall> {
  let [lastMs, longestMs, connections, isDone] = [0, 0, 0, false]
  const download = async () => {
    while (!isDone) {
      const socket = await connectOrigin(access, 'source', limitMs).catch(() => undefined)
      if (socket === undefined) {
        await wait(RETRY_MS)
        continue
      }
      connections++
      socket.on('data', () => {
        const now = performance.now()
        if (lastMs > 0) longestMs = Math.max(longestMs, now - lastMs)
        lastMs = now
      })
      await new Promise<void>(resolve => {
        for (const ending of ['error', 'end', 'close']) socket.once(ending, () => resolve())
      })
      socket.destroy()
    }
  }
  void download()
  while (lastMs === 0) await wait(RETRY_MS)
  await wait(LEAD_MS)
  longestMs = 0
  onFlowing()
  const startedMs = performance.now()
  const silentMs = () => performance.now() - lastMs
  while (performance.now() - startedMs < limitMs) {
    if (performance.now() - startedMs > LEAST_MS && silentMs() < FLOWS_AGAIN_MS) break
    await wait(RETRY_MS)
  }
  isDone = true
  return { longestStallMs: Math.max(longestMs, silentMs()), isOver: silentMs() < FLOWS_AGAIN_MS, connections }
}

function wait(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
