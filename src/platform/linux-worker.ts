// A worker of the linux engine: the data plane over batched sockets, in a loop of its own. Where there are several, each has its own
// sessions, and hands to the others what is theirs.

import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import type { Command, Report } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { monotonicMs } from './clock.ts'
import type { LinuxWorkerData } from './engine.ts'
import { EventLoop } from './linux/plane/event-loop.ts'
import { HandOver } from './linux/plane/hand-over.ts'
import { openLinuxPlane } from './linux/plane/linux-plane.ts'
import { WarmUp } from './linux/plane/warm-up.ts'
import { WorkerMemory } from './linux/plane/worker-memory.ts'
import { Memory, socketCalls } from './linux/socket-calls.ts'

const port = parentPort
if (port === null) throw new Error('start the data plane: not in a worker')
const settings = workerData as LinuxWorkerData
const { worker, bells } = settings
const counters = new Counters(settings.counters, worker)
const memory = new WorkerMemory(settings.memory)
memory.setThread(worker, socketCalls().gettid())
const descriptors = memory.descriptors(worker)
const loop = new EventLoop(descriptors)
const handOver = memory.workers > 1 ? new HandOver({ memory, worker, bells, counters, loop }) : undefined

let reports: Report[] = []
// The clock is read once in a turn of the loop: no packet waits long enough to notice.
let turnMs = monotonicMs()
const linux = openLinuxPlane({
  settings,
  counters,
  loop,
  report: report => reports.push(report),
  now: () => turnMs,
  ...(handOver && { others: handOver }),
})
const { plane } = linux
const { forwarder, packets } = plane
handOver?.start({
  slab: forwarder.slab,
  receive: (buffer, offset, length, from) => plane.receive(buffer, offset, length, from),
  receiveFromMeeting: (to, from, buffer, offset, length) =>
    forwarder.receiveFromMeeting(to, from, buffer, offset, length),
  receiveFromPort: (buffer, offset, length) => packets.send(buffer, offset, length),
  flush: () => linux.endBatch(),
})
const warmUp = new WarmUp(descriptors)
if (!settings.warmsUp) warmUp.close()

const woken = new Memory(8)
const wake = () => {
  socketCalls().read(settings.wakeFd, woken.pointer, 8)
  for (;;) {
    const received = receiveMessageOnPort(port) as { message: Command[] | 'close' } | undefined
    if (received === undefined) return
    if (received.message === 'close') loop.stop()
    else for (const command of received.message) plane.apply(command)
  }
}
loop.watch(settings.wakeFd, wake, false)
try {
  loop.run({
    settle: () => {
      linux.flush()
      handOver?.signal()
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
