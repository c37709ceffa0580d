// How fast superpackets are cut and made, without the system calls around it: TCP segments of 1,400 bytes in packets of 64 KiB.

import { vectorMemory } from '#bytes/vector-memory.ts'
import { HEADROOM, Slab } from '#forward/slab.ts'
import { Coalescer } from '#packet/coalescer.ts'
import { Segmenter } from '#packet/segmenter.ts'
import { writeCutVirtioHeader } from '#packet/virtio-net-header.ts'
import { makePacket, TIMESTAMPS } from '../packets.ts'

const SEGMENT_BYTES = 1_400
const SEGMENTS = 45
const SLICES = 100
const RUNS = 200

/** Gbit/s of payload: cutting, with whole checksums, and joining, with checksums verified. */
export function offloadRates(): Readonly<Record<'segment' | 'coalesce', number>> {
  const payload = Buffer.alloc(SEGMENT_BYTES * SEGMENTS, 0x5a)
  const source = vectorMemory(10 + 80 + payload.length)
  const superpacket = makePacket({ version: 4, protocol: 'tcp', options: TIMESTAMPS, payload })
  source.set(superpacket, 10)
  const segmenter = new Segmenter()
  segmenter.begin(source, 0, 10 + superpacket.length, 65_535)
  writeCutVirtioHeader(source, 0, segmenter.packet, SEGMENT_BYTES)
  const slab = new Slab()
  const places: number[] = []
  const cut = () => {
    places.length = 0
    segmenter.begin(source, 0, 10 + superpacket.length, 1_500)
    while (segmenter.next > 0) {
      const at = slab.take(segmenter.next) + HEADROOM
      segmenter.write(slab.buffer, at)
      places.push(at)
    }
  }
  const segment = gbitPerSecond(cut, payload.length)

  let pieces = 0
  const coalescer = new Coalescer({ joinsUdp: true, outlet: { piece: () => pieces++, end: () => {} } })
  const length = 52 + SEGMENT_BYTES
  const first = places[0] ?? 0
  // Joining writes over the first packet's headers.
  const headers = Buffer.from(slab.buffer.subarray(first, first + 52))
  const coalesce = gbitPerSecond(() => {
    slab.buffer.set(headers, first)
    for (const at of places) coalescer.add(slab.buffer, at, length)
    coalescer.flush()
  }, payload.length)
  if (pieces % SEGMENTS !== 0) throw new Error('not everything was joined')
  return { segment, coalesce }
}

/** The best of many short runs: others use this machine too. */
function gbitPerSecond(run: () => void, bytes: number): number {
  for (let i = 0; i < 1_000; i++) run()
  let best = 0
  for (let slice = 0; slice < SLICES; slice++) {
    const startedMs = performance.now()
    for (let i = 0; i < RUNS; i++) run()
    best = Math.max(best, (RUNS * bytes * 8) / 1e6 / (performance.now() - startedMs))
  }
  return best
}
