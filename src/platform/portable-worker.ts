// The portable engine's worker: the data plane over node:dgram.

import { parentPort, workerData } from 'node:worker_threads'
import type { Command, Report } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { monotonicMs } from './clock.ts'
import { DataPlane } from './data-plane.ts'
import type { EngineWorkerData } from './engine.ts'
import { PortableDatagrams } from './portable-datagrams.ts'

const port = parentPort
if (port === null) throw new Error('start the data plane: not in a worker')
const settings = workerData as EngineWorkerData
const counters = new Counters(settings.counters)

let reports: Report[] = []
const report = (report: Report) => {
  reports.push(report)
  if (reports.length > 1) return
  queueMicrotask(() => {
    port.postMessage(reports)
    reports = []
  })
}
const datagrams = new PortableDatagrams(counters, () => plane.forwarder.retainPackets())
const plane = new DataPlane({ settings, counters, datagrams, report, now: monotonicMs })
port.on('message', (message: Command[] | 'close') => {
  if (message === 'close') process.exit(0)
  for (const command of message) plane.apply(command)
})
