// Takes datagrams from a relay and counts them, from a thread of its own and in batches. Linux alone.

import { parentPort, workerData } from 'node:worker_threads'
import { Counters } from '#forward/counters.ts'
import { monotonicMs } from '#platform/clock.ts'
import { EventLoop } from '#platform/linux/event-loop.ts'
import { LinuxDatagrams } from '#platform/linux/linux-datagrams.ts'

/** The loop never goes back to Node's, so it looks up now and then: a thread asleep in the kernel cannot be ended. */
const LOOK_UP_MS = 50

const counters = new Counters(workerData as SharedArrayBuffer)
const loop = new EventLoop()
const datagrams = new LinuxDatagrams({ counters, loop, given: [], now: monotonicMs })
datagrams.open(
  { bind: { host: '127.0.0.1', port: 0 }, isBusy: true },
  { onDatagram: () => counters.add('datagramsIn'), onOpen: address => parentPort?.postMessage(address) },
)
loop.run({
  settle: () => undefined,
  deadline: () => performance.now() + LOOK_UP_MS,
  handleDeadline: () => undefined,
  now: () => performance.now(),
})
