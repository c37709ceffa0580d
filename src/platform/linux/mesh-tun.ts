// The TUN of one's devices, read by a thread of its own. It goes with its descriptor, and every address and route with it, so
// nothing is left behind however this process ends. mesh-link.ts makes it.

import { Worker } from 'node:worker_threads'
import { siblingModule } from '../module-url.ts'
import { openEvent } from './event-descriptor.ts'
import { fileCalls } from './libc.ts'
import { Memory, socketCalls } from './socket-calls.ts'
import type { TunBatch, TunReaderData } from './tun-reader-worker.ts'

export interface MeshTunOptions {
  /** Whether the descriptor is somebody else's, and stays open. */
  readonly stays?: boolean
  readonly mtu: number
  readonly headroom: number
  readonly tailroom: number
  /** A packet, to be overwritten until this returns. */
  readonly onPacket: (buffer: Uint8Array, offset: number, length: number) => void
}

export interface MeshTun {
  write(buffer: Uint8Array, offset: number, length: number): void
  close(): Promise<void>
}

/** Reads and writes it until it is closed, which closes the descriptor unless that is to stay. */
export function runMeshTun(fd: number, { stays = false, mtu, headroom, tailroom, onPacket }: MeshTunOptions): MeshTun {
  const end = openEvent()
  const workerData: TunReaderData = { fd, endFd: end.fd, mtu, headroom, tailroom }
  const reader = new Worker(siblingModule(import.meta.url, './tun-reader-worker'), { workerData })
  reader.on('message', ({ memory, lengths, slot }: TunBatch) => {
    const buffer = new Uint8Array(memory)
    for (const [i, length] of lengths.entries()) onPacket(buffer, i * slot + headroom, length)
    reader.postMessage(memory, [memory])
  })
  const exited = new Promise<void>(resolve => reader.once('exit', () => resolve()))
  const out = new Memory(65_536)
  return {
    write(buffer, offset, length) {
      out.bytes.set(buffer.subarray(offset, offset + length))
      socketCalls().write(fd, out.pointer, length)
    },
    async close() {
      end.signal()
      await exited
      end.close()
      if (!stays) fileCalls().close(fd)
    },
  }
}
