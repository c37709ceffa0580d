// Sends sealed datagrams to a relay as fast as the relay takes them, from a thread of its own and in batches, so that the sender
// is not what is measured. Linux alone.
//
// Sealing is not measured either: the packets are made before the start, and sent once to each of the relay's sessions, which all
// have the same keys: only the receiver index differs, so that no packet is refused as a replay.

import { parentPort, workerData } from 'node:worker_threads'
import { sealInPlace, TAG_BYTES } from '#crypto/aead.ts'
import { Counters } from '#forward/counters.ts'
import { monotonicMs } from '#platform/clock.ts'
import { EventLoop } from '#platform/linux/plane/event-loop.ts'
import { LinuxDatagrams } from '#platform/linux/plane/linux-datagrams.ts'
import { Memory } from '#platform/linux/socket-calls.ts'
import type { Address } from '#wire/address.ts'
import { FRAME, FRAME_HEADER_BYTES, writeFrameHeader } from '#wire/frame.ts'
import { TRANSPORT_HEADER_BYTES, writeTransportHeader } from '#wire/transport.ts'

export interface PacketSource {
  /** The relay's socket, on loopback. */
  readonly to: Address
  readonly key: Uint8Array
  /** Sessions of the relay, by the index that they receive under; each has a flow 1. */
  readonly sessions: readonly number[]
  /** Lengths of the datagrams inside, in turn. Growing ones cannot be joined into one message, equal ones are. */
  readonly lengths: readonly number[]
  readonly limitMs: number
  /** The relay's counters. */
  readonly relay: SharedArrayBuffer
  /** What each source has sent and not lost, as doubles, and which of them is this one's. */
  readonly progress: SharedArrayBuffer
  readonly source: number
}

export interface SourceReport {
  readonly sent: number
  readonly seconds: number
}

const PACKETS = 32_768
const BATCH = 104
/** Datagrams on their way to one of the relay's workers: fewer than its socket's buffer takes. */
const WINDOW = 2_048
const NAP_MS = 0.05
const STALL_MS = 20

const source = workerData as PacketSource
const relay = new Counters(source.relay)
const nap = new Int32Array(new SharedArrayBuffer(4))
const progress = new Float64Array(source.progress)

const overhead = TRANSPORT_HEADER_BYTES + FRAME_HEADER_BYTES + TAG_BYTES
const slot = overhead + Math.max(...source.lengths)
const memory = new Memory(Math.ceil((PACKETS * slot) / 4) * 4)
for (let i = 0; i < PACKETS; i++) {
  const frame = i * slot + TRANSPORT_HEADER_BYTES
  writeFrameHeader(memory.bytes, frame, FRAME.datagram, 1)
  sealInPlace(source.key, i, memory.bytes, frame, FRAME_HEADER_BYTES + lengthOf(i))
}

const datagrams = new LinuxDatagrams({ counters: new Counters(), loop: new EventLoop(), now: monotonicMs })
datagrams.known.add(memory.bytes, memory.address)
const socket = datagrams.open({ connect: source.to, isBusy: true }, { onDatagram: () => {} })
parentPort?.postMessage('ready')
parentPort?.once('message', () => {
  parentPort?.postMessage(run())
  socket.close()
})

function run(): SourceReport {
  const startedMs = performance.now()
  const isLate = () => performance.now() - startedMs > source.limitMs
  let sent = 0
  for (const session of source.sessions) {
    for (let i = 0; i < PACKETS && !isLate(); i += BATCH) {
      const end = Math.min(i + BATCH, PACKETS)
      for (let j = i; j < end; j++) {
        writeTransportHeader(memory.bytes, j * slot, session, j)
        socket.send(memory.bytes, j * slot, overhead + lengthOf(j))
      }
      datagrams.flush()
      sent += end - i
      progress[source.source] = (progress[source.source] ?? 0) + end - i
      waitUntilUnderWay((WINDOW - BATCH) * progress.length)
    }
  }
  waitUntilUnderWay(0)
  return { sent, seconds: (performance.now() - startedMs) / 1_000 }
}

/** Waits until at most `count` of all sources' datagrams are under way. Those that nothing is heard of for a while are lost. */
function waitUntilUnderWay(count: number): void {
  let before = -1
  let sinceMs = performance.now()
  for (;;) {
    const arrived = relay.get('datagramsIn')
    const underWay = progress.reduce((sum, sent) => sum + sent, 0) - arrived
    if (underWay <= count) return
    if (arrived !== before) {
      before = arrived
      sinceMs = performance.now()
    } else if (performance.now() - sinceMs > STALL_MS) {
      progress[source.source] = (progress[source.source] ?? 0) - underWay
    }
    Atomics.wait(nap, 0, 0, NAP_MS)
  }
}

function lengthOf(packet: number): number {
  return source.lengths[packet % source.lengths.length] ?? 0
}
