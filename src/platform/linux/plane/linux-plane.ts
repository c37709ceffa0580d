// The data plane over batched sockets and TUNs, put together: for the worker, and for those that it warms up with.

import type { Report } from '#forward/commands.ts'
import type { Counters } from '#forward/counters.ts'
import type { OtherWorkers } from '#forward/workers.ts'
import { DataPlane } from '../../data-plane.ts'
import type { EngineWorkerData } from '../../engine.ts'
import { addressOf } from '../libc.ts'
import { Tunnel } from '../network/tunnel.ts'
import type { EventLoop } from './event-loop.ts'
import { LinuxDatagrams } from './linux-datagrams.ts'
import { TunPort } from './tun-port.ts'

export interface LinuxPlaneOptions {
  readonly settings: EngineWorkerData
  readonly counters: Counters
  readonly loop: EventLoop
  readonly report: (report: Report) => void
  readonly now: () => number
  /** The other workers, where there are some. */
  readonly others?: OtherWorkers
}

export interface LinuxPlane {
  readonly plane: DataPlane
  /** Hands what waits to the kernel. */
  flush(): void
  /** A batch has been dealt with: its memory is about to be used again. */
  endBatch(): void
  close(): void
}

export function openLinuxPlane(options: LinuxPlaneOptions): LinuxPlane {
  const { settings, counters, loop, report, now, others } = options
  const datagrams = new LinuxDatagrams({ counters, loop, now })
  let flushTunnel = () => {}
  const plane = new DataPlane({
    settings,
    counters,
    datagrams,
    report,
    now,
    ...(others && { others }),
    openTunnel: (plan, { forwarder, entries }) => {
      const flush = () => datagrams.flush()
      const tunnel = new Tunnel({
        plan,
        forwarder,
        entries,
        counters,
        loop,
        known: datagrams.known,
        flush,
        report,
        now,
      })
      flushTunnel = () => tunnel.flush()
      return tunnel
    },
    openPort: ({ fd, offload, mtu }, { forwarder, packets }) => {
      const take = (buffer: Uint8Array, offset: number, length: number) => packets.send(buffer, offset, length)
      return new TunPort({
        fd,
        offload,
        mtu,
        slab: forwarder.slab,
        known: datagrams.known,
        counters,
        loop,
        onPacket: take,
        onTooBig: take,
        now,
        flush: () => {
          datagrams.flush()
          packets.flush()
        },
      })
    },
  })
  datagrams.onBatch = () => {
    flushTunnel()
    plane.packets.flush()
  }
  datagrams.onStanding = isStanding => {
    plane.forwarder.shedsNext = isStanding
  }
  const { buffer } = plane.forwarder.slab
  datagrams.known.add(buffer, Number(addressOf(buffer)))
  return {
    plane,
    flush: () => datagrams.flush(),
    endBatch() {
      datagrams.onBatch()
      datagrams.flush()
    },
    close() {
      plane.close()
      datagrams.close()
    },
  }
}
