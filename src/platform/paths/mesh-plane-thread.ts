// The mesh plane as the paths' thread sees it: over the linux engine's sockets in a thread of its own, or over `node:dgram` in this one.

import { Worker } from 'node:worker_threads'
import { Counters } from '#forward/counters.ts'
import { monotonicMs } from '../clock.ts'
import { openEvent } from '../linux/plane/event-descriptor.ts'
import { siblingModule } from '../module-url.ts'
import { PortableDatagrams } from '../portable-datagrams.ts'
import { MeshPlane } from './mesh-plane.ts'
import type { MeshPlaneOrder, MeshPlaneReport, MeshPlaneSettings } from './mesh-plane-orders.ts'
import type { MeshPlaneWorkerData } from './mesh-plane-worker.ts'

export interface RunningMeshPlane {
  order(order: MeshPlaneOrder): void
  /** Sends what is under way and closes everything. */
  close(): Promise<void>
}

type Hear = (report: MeshPlaneReport) => void

/** Starts the thread. Throws FFI_MISSING where the system cannot be called. */
export function startMeshPlane(settings: Omit<MeshPlaneWorkerData, 'wakeFd'>, hear: Hear): RunningMeshPlane {
  const wake = openEvent()
  const workerData: MeshPlaneWorkerData = { ...settings, wakeFd: wake.fd }
  const worker = new Worker(siblingModule(import.meta.url, './mesh-plane-worker'), {
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: 192, maxYoungGenerationSizeMb: 4 },
  })
  let isClosed = false
  worker.on('message', (reports: readonly MeshPlaneReport[]) => {
    for (const report of reports) if (!isClosed) hear(report)
    const heard = reports.filter(isCounted).length
    if (heard > 0 && !isClosed) post({ kind: 'heard', reports: heard })
  })
  // Nothing works without it: whoever has started this thread hears of it as of our own death.
  worker.on('error', error => {
    throw error
  })
  const exited = new Promise<void>(resolve =>
    worker.once('exit', () => {
      wake.close()
      resolve()
    }),
  )
  const post = (message: MeshPlaneOrder | 'close') => {
    worker.postMessage(message)
    wake.signal()
  }
  return {
    order: order => {
      if (!isClosed) post(order)
    },
    async close() {
      if (!isClosed) post('close')
      isClosed = true
      await exited
    },
  }
}

/** One in this thread, without a TUN. */
export function startPortableMeshPlane(settings: MeshPlaneSettings, hear: Hear): RunningMeshPlane {
  const counters = new Counters()
  let armedMs = Number.POSITIVE_INFINITY
  let timer: NodeJS.Timeout | undefined
  const arm = () => {
    const due = plane.deadline()
    if (due >= armedMs) return
    armedMs = due
    clearTimeout(timer)
    timer = setTimeout(
      () => {
        armedMs = Number.POSITIVE_INFINITY
        plane.handleDeadline(monotonicMs())
        arm()
      },
      Math.min(Math.max(due - monotonicMs(), 0), MAX_WAIT_MS),
    )
  }
  // Without a TUN every buffer is made anew.
  const datagrams = new PortableDatagrams(counters, () => undefined)
  const plane = new MeshPlane({
    ...{ settings, counters, now: monotonicMs },
    report: report => {
      hear(report)
      if (isCounted(report)) plane.carryOut({ kind: 'heard', reports: 1 })
    },
    datagrams: {
      open: (plan, handlers) =>
        datagrams.open(plan, {
          ...handlers,
          onDatagram: (buffer, offset, length, from) => {
            handlers.onDatagram(buffer, offset, length, from)
            arm()
          },
        }),
    },
    planOf: ({ family, port }) => {
      return { bind: { host: family === 6 ? '::' : '0.0.0.0', port }, ipv6Only: family === 6, isBusy: true }
    },
  })
  return {
    order(order) {
      plane.carryOut(order)
      arm()
    },
    async close() {
      clearTimeout(timer)
      plane.close()
    },
  }
}

/** Of those there is a bound on how many wait. */
function isCounted({ kind }: MeshPlaneReport): boolean {
  return kind === 'datagram' || kind === 'outward'
}

/** Node's timers fire at once beyond 2^31 ms. */
const MAX_WAIT_MS = 3_600_000
