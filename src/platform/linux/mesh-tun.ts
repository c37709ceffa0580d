// The TUN of one's devices: made, given its addresses, read by a thread of its own. It goes with its descriptor, and every
// address and route with it, so nothing is left behind however this process ends.

import { Worker } from 'node:worker_threads'
import { siblingModule } from '../module-url.ts'
import { openEvent } from './event-descriptor.ts'
import { Memory, socketCalls } from './socket-calls.ts'
import { capture } from './steps.ts'
import { openTun, type Tun } from './tun.ts'
import type { TunBatch, TunReaderData } from './tun-reader-worker.ts'

export interface MeshTunOptions {
  /** The interface's name, if it matters. */
  readonly name?: string
  /** Its descriptor, where it is there already: then it has its addresses, and stays when this is closed. */
  readonly fd?: number
  readonly mtu: number
  readonly headroom: number
  readonly tailroom: number
  readonly ipv6: string
  readonly ipv4: string | undefined
  /** The network that all devices' IPv6 addresses are of. */
  readonly network: string
  /** A packet, to be overwritten until this returns. */
  readonly onPacket: (buffer: Uint8Array, offset: number, length: number) => void
}

export interface MeshTun {
  readonly name: string
  write(buffer: Uint8Array, offset: number, length: number): void
  /** IPv4 addresses that lead into the tunnel from now on. */
  setRoutes(ipv4: readonly string[]): Promise<void>
  close(): Promise<void>
}

/** Opens it. Throws FFI_MISSING, TUN_UNAVAILABLE, NOT_PERMITTED, PROGRAM_MISSING or CHANGE_FAILED. */
export async function openMeshTun(options: MeshTunOptions): Promise<MeshTun> {
  const { name, fd } = options
  if (name !== undefined && fd !== undefined)
    return start({ name, fds: [fd], offload: 'none', close: () => undefined }, options)
  const tun = openTun({ offload: false, ...(name !== undefined && { name }) })
  try {
    await configure(tun.name, options)
    return start(tun, options)
  } catch (error) {
    tun.close()
    throw error
  }
}

async function configure(name: string, { mtu, ipv6, ipv4, network }: MeshTunOptions): Promise<void> {
  const ip = (...words: string[]) => capture({ run: ['ip', ...words] })
  await ip('link', 'set', 'dev', name, 'mtu', String(mtu), 'addrgenmode', 'none', 'up')
  await ip('address', 'add', `${ipv6}/128`, 'dev', name, 'nodad')
  await ip('-6', 'route', 'replace', network, 'dev', name)
  if (ipv4 !== undefined) await ip('address', 'add', `${ipv4}/32`, 'dev', name)
}

function start(tun: Tun, { mtu, headroom, tailroom, onPacket }: MeshTunOptions): MeshTun {
  const [fd = -1] = tun.fds
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
  let routes = new Set<string>()
  return {
    name: tun.name,
    write(buffer, offset, length) {
      out.bytes.set(buffer.subarray(offset, offset + length))
      socketCalls().write(fd, out.pointer, length)
    },
    async setRoutes(ipv4) {
      const before = routes
      routes = new Set(ipv4)
      for (const address of routes)
        if (!before.has(address)) await capture({ run: ['ip', 'route', 'replace', `${address}/32`, 'dev', tun.name] })
      for (const address of before)
        if (!routes.has(address)) await capture({ run: ['ip', 'route', 'del', `${address}/32`, 'dev', tun.name] }, /./)
    },
    async close() {
      end.signal()
      await exited
      end.close()
      tun.close()
    },
  }
}
