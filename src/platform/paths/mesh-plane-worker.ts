// The mesh plane over the linux engine's sockets and TUN, in a loop of its own.

import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import type { TunOffload } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { Slab } from '#forward/slab.ts'
import { MESH_MTU } from '#mesh/mesh.ts'
import { monotonicMs } from '../clock.ts'
import { addressOf } from '../linux/libc.ts'
import { openLinkSocket } from '../linux/network/link-socket.ts'
import { EventLoop } from '../linux/plane/event-loop.ts'
import { LinuxDatagrams } from '../linux/plane/linux-datagrams.ts'
import { TunPort } from '../linux/plane/tun-port.ts'
import { copyDescriptor, prepareForBatches } from '../linux/plane/udp-socket.ts'
import { Memory, socketCalls } from '../linux/socket-calls.ts'
import { MeshPlane } from './mesh-plane.ts'
import type { MeshPlaneOrder, MeshPlaneReport, MeshPlaneSettings } from './mesh-plane-orders.ts'

export interface MeshPlaneWorkerData extends MeshPlaneSettings {
  /** SO_MARK of the sockets, where it can be set. */
  readonly mark: number
  readonly tun: MeshTun | undefined
  /** An event descriptor: written to, it wakes the thread. */
  readonly wakeFd: number
}

/** The TUN; one that `stays` is somebody else's to close. */
export interface MeshTun {
  readonly fd: number
  readonly offload: TunOffload
  readonly stays: boolean
}

const port = parentPort
if (port === null) throw new Error('carry the packets of devices: not in a worker')
const { mark, tun, wakeFd, ...settings } = workerData as MeshPlaneWorkerData
const counters = new Counters()
const loop = new EventLoop()
// The clock is read once in a turn of the loop: no packet waits long enough to notice.
let turnMs = monotonicMs()
const now = () => turnMs
const datagrams = new LinuxDatagrams({ counters, loop, now })
const slab = new Slab()
datagrams.known.add(slab.buffer, Number(addressOf(slab.buffer)))
let reports: MeshPlaneReport[] = []

const device =
  tun &&
  new TunPort({
    fd: tun.stays ? copyDescriptor(tun.fd) : tun.fd,
    offload: tun.offload,
    ...{ mtu: MESH_MTU, slab, known: datagrams.known, counters, loop, now },
    onPacket: (buffer, offset, length) => plane.send(buffer, offset, length),
    flush: () => datagrams.flush(),
  })
const plane = new MeshPlane({
  ...{ settings, datagrams, counters, now, slab },
  report: report => reports.push(report),
  planOf: ({ family, port: at, fd: given }) => {
    const bind = { host: family === 6 ? '::' : '0.0.0.0', port: at }
    const fd = given >= 0 ? given : openOwn(family, at)
    if (fd < 0) return { bind, isBusy: true }
    prepareForBatches(fd)
    return { bind, isBusy: true, fd }
  },
  ...(device && { toTunnel: (buffer, offset, length) => device.write(buffer, offset, length) }),
})
datagrams.onBatch = () => device?.flush()
datagrams.onStanding = isStanding => {
  plane.shedsNext = isStanding
}

/** Marked, where that is permitted. */
function openOwn(family: 4 | 6, at: number): number {
  const marked = mark === 0 ? -1 : openLinkSocket(family, at, mark)
  return marked < 0 ? openLinkSocket(family, at, 0) : marked
}

const woken = new Memory(8)
loop.watch(
  wakeFd,
  () => {
    socketCalls().read(wakeFd, woken.pointer, 8)
    for (;;) {
      const received = receiveMessageOnPort(port) as { message: MeshPlaneOrder | 'close' } | undefined
      if (received === undefined) return
      if (received.message === 'close') return loop.stop()
      plane.carryOut(received.message)
      // What lies in the slab goes before there is more of it.
      device?.flush()
    }
  },
  false,
)
try {
  loop.run({
    settle: () => {
      datagrams.flush()
      device?.flush()
      if (reports.length === 0) return
      port.postMessage(reports)
      reports = []
    },
    deadline: () => plane.deadline(),
    handleDeadline: at => plane.handleDeadline(at),
    now: () => (turnMs = monotonicMs()),
  })
} finally {
  // The kernel keeps what a thread leaves open, and the next one wants the port.
  plane.close()
  datagrams.close()
  device?.close()
  loop.close()
}
process.exit(0)
