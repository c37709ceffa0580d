// Takes datagrams from a relay, on several sockets, and counts them, from a thread of its own and in batches. Linux alone.

import { parentPort, workerData } from 'node:worker_threads'
import { Counters } from '#forward/counters.ts'
import { monotonicMs } from '#platform/clock.ts'
import { EventLoop } from '#platform/linux/plane/event-loop.ts'
import { LinuxDatagrams } from '#platform/linux/plane/linux-datagrams.ts'
import type { Address } from '#wire/address.ts'

/** The loop never goes back to Node's, so it looks up now and then: a thread asleep in the kernel cannot be ended. */
const LOOK_UP_MS = 50

export interface PacketSink {
  readonly counters: SharedArrayBuffer
  readonly sockets: number
}

const { counters: shared, sockets } = workerData as PacketSink
const counters = new Counters(shared)
const loop = new EventLoop()
const datagrams = new LinuxDatagrams({ counters, loop, now: monotonicMs })
const addresses: Address[] = []
for (let i = 0; i < sockets; i++) {
  datagrams.open(
    { bind: { host: '127.0.0.1', port: 0 }, isBusy: true },
    { onDatagram: () => counters.add('datagramsIn'), onOpen: address => addresses.push(address) },
  )
}
parentPort?.postMessage(addresses)
loop.run({
  settle: () => undefined,
  deadline: () => performance.now() + LOOK_UP_MS,
  handleDeadline: () => undefined,
  now: () => performance.now(),
})
