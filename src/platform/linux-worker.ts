// The linux engine's worker: the data plane over batched sockets, in a loop of its own.

import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import type { Command, Report } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { monotonicMs } from './clock.ts'
import { DataPlane } from './data-plane.ts'
import type { LinuxWorkerData } from './engine.ts'
import { EventLoop } from './linux/event-loop.ts'
import { addressOf } from './linux/libc.ts'
import { LinuxDatagrams } from './linux/linux-datagrams.ts'
import { Memory, socketCalls } from './linux/socket-calls.ts'
import { TunPort } from './linux/tun-port.ts'
import { Tunnel } from './linux/tunnel.ts'

const port = parentPort
if (port === null) throw new Error('start the data plane: not in a worker')
const settings = workerData as LinuxWorkerData
const counters = new Counters(settings.counters)
const loop = new EventLoop()

let reports: Report[] = []
// The clock is read once in a turn of the loop: no packet waits long enough to notice.
let turnMs = monotonicMs()
const now = () => turnMs
const datagrams = new LinuxDatagrams({ counters, loop, given: settings.sockets, now })
let flushTunnel = () => {}
const plane = new DataPlane({
  settings,
  counters,
  datagrams,
  report: report => reports.push(report),
  now,
  openTunnel: (plan, { forwarder, entries }) => {
    const tunnel = new Tunnel({
      plan,
      forwarder,
      entries,
      counters,
      loop,
      known: datagrams.known,
      flush: () => datagrams.flush(),
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
      datagrams.flush()
      if (reports.length === 0) return
      port.postMessage(reports)
      reports = []
    },
    deadline: () => plane.deadline(),
    handleDeadline: now => plane.handleDeadline(now),
    now: () => (turnMs = monotonicMs()),
  })
} finally {
  // The kernel keeps what a thread leaves open, and the next engine wants the ports.
  plane.close()
  datagrams.close()
  loop.close()
}
process.exit(0)
