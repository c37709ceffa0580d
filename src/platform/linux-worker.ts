// The linux engine's worker: the data plane over batched sockets, in a loop of its own.

import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import type { Command, Report } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { monotonicMs } from './clock.ts'
import type { LinuxWorkerData } from './engine.ts'
import { EventLoop } from './linux/event-loop.ts'
import { openLinuxPlane } from './linux/linux-plane.ts'
import { Memory, socketCalls } from './linux/socket-calls.ts'
import { WarmUp } from './linux/warm-up.ts'

const port = parentPort
if (port === null) throw new Error('start the data plane: not in a worker')
const settings = workerData as LinuxWorkerData
const loop = new EventLoop()

let reports: Report[] = []
// The clock is read once in a turn of the loop: no packet waits long enough to notice.
let turnMs = monotonicMs()
const linux = openLinuxPlane({
  settings,
  counters: new Counters(settings.counters),
  loop,
  given: settings.sockets,
  report: report => reports.push(report),
  now: () => turnMs,
})
const { plane } = linux
const warmUp = new WarmUp()

const woken = new Memory(8)
loop.watch(settings.wakeFd, () => {
  socketCalls().read(settings.wakeFd, woken.pointer, 8)
  for (;;) {
    const received = receiveMessageOnPort(port) as { message: Command[] | 'close' } | undefined
    if (received === undefined) return
    if (received.message === 'close') loop.stop()
    else for (const command of received.message) plane.apply(command)
  }
})
try {
  loop.run({
    settle: () => {
      linux.flush()
      if (reports.length === 0) return
      port.postMessage(reports)
      reports = []
    },
    deadline: () => (warmUp.isDone ? plane.deadline() : 0),
    handleDeadline: now => {
      plane.handleDeadline(now)
      warmUp.step()
    },
    now: () => (turnMs = monotonicMs()),
  })
} finally {
  // The kernel keeps what a thread leaves open, and the next engine wants the ports.
  warmUp.close()
  linux.close()
  loop.close()
}
process.exit(0)
