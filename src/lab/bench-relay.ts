// One relay's data plane under load: a sender thread's worth of sealed datagrams is made beforehand and sent again and again
// to a real engine socket; what comes out of the flow's socket is counted. Runs in a worker of the benchmark.

import { createSocket } from 'node:dgram'
import { parentPort, workerData } from 'node:worker_threads'
import { systemRandom } from '#crypto/random.ts'
import type { Report } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { Forwarder, type Outlet } from '#forward/forwarder.ts'
import { type EngineKind, startEngineOf } from '#platform/engine.ts'

const BATCH = 32
const PACKETS = 150_000
const LENGTH = 1_200

const sink = createSocket('udp4')
let received = 0
sink.on('message', () => {
  received++
})
await new Promise<void>(resolve => sink.bind(0, '127.0.0.1', resolve))
sink.setRecvBufferSize(4 << 20)

const ready = Promise.withResolvers<{ host: string; port: number }>()
const engine = startEngineOf((workerData as { engine: EngineKind }).engine, {
  host: '127.0.0.1',
  port: 0,
  maxStreamDatagram: LENGTH,
  onReport: (report: Report) => {
    if (report.kind === 'listening') ready.resolve(report.address)
  },
  onFailure: error => ready.reject(error),
})
const address = await ready.promise
const [a, b] = [new Uint8Array(systemRandom(32)), new Uint8Array(systemRandom(32))]
const via = { kind: 'socket', address: { host: '127.0.0.1', port: 9 } } as const
engine.send(
  {
    kind: 'installSession',
    session: 1,
    role: 'responder',
    via,
    keys: { localIndex: 5, remoteIndex: 6, send: a, receive: b },
  },
  {
    kind: 'installFlow',
    session: 1,
    flow: 1,
    address: { host: '127.0.0.1', port: sink.address().port },
    first: new Uint8Array(0),
  },
)

// Sealing is not what is measured: packets are made before the clock starts.
const packets: Uint8Array[] = []
const outlet: Outlet = {
  toSocket: (_to, buffer, offset, length) => packets.push(Uint8Array.from(buffer.subarray(offset, offset + length))),
  toFlow: () => {},
  toTap: () => {},
  toAssociation: () => {},
  toEntry: () => {},
  report: () => {},
  nowMs: () => 0,
}
const client = new Forwarder(outlet, new Counters())
const keys = { localIndex: 6, remoteIndex: 5, send: Uint8Array.from(b), receive: Uint8Array.from(a) }
client.tables.installSession(1, 'initiator', { kind: 'socket', address }, keys)
const payload = new Uint8Array(LENGTH)
for (let i = 0; i < PACKETS; i++) client.send(1, 1, payload, 0, LENGTH)

const socket = createSocket({ type: 'udp4', lookup: (host, _options, done) => done(null as never, host, 4) })
await new Promise<void>(resolve => socket.bind(0, '127.0.0.1', resolve))
await new Promise(resolve => setTimeout(resolve, 100))
const startedMs = performance.now()
let sent = 0
while (sent < PACKETS) {
  // The window keeps the kernel's queues from overflowing, so that what is counted is the relay and not the loss.
  if (sent - received > 1_500) await new Promise(resolve => setImmediate(resolve))
  else {
    for (let i = 0; i < BATCH && sent < PACKETS; i++)
      socket.send(packets[sent++] ?? payload, address.port, address.host)
    await new Promise(resolve => setImmediate(resolve))
  }
  if (performance.now() - startedMs > 20_000) break
}
await new Promise(resolve => setTimeout(resolve, 50))
const seconds = (performance.now() - startedMs - 50) / 1000
await engine.close()
sink.close()
socket.close()
parentPort?.postMessage({ forwarded: received, seconds })
