// Packets that others have seen or made up, through joining and cutting: what is well-formed comes out as it went in, each
// flow in its order, and what is not is refused and comes out nowhere.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { packetsOf } from '#lab/pcap.ts'
import { skipUnless } from '#lab/skip.ts'
import { Coalescer } from './coalescer.ts'
import { IpPacket, parseIpPacket } from './ip-packet.ts'
import { Segmenter } from './segmenter.ts'

const VECTORS = new URL('../../../shared/vectors/packets/', import.meta.url)
const BATCH = 64
const ROOM = 24

/** Joins packets batch by batch, cuts what comes of it again, and gives the packets and how often the TUN was written to. */
function through(packets: readonly Uint8Array[]): {
  readonly out: Buffer[]
  readonly refused: number
  readonly writes: number
} {
  const out: Buffer[] = []
  const segmenter = new Segmenter()
  let refused = 0
  let writes = 0
  let pieces: Buffer[] = []
  let memory = Buffer.alloc(0)
  const cut = () => {
    const whole = Buffer.concat(pieces)
    pieces = []
    writes++
    assert.equal(segmenter.begin(whole, 0, whole.length, 65_535), undefined)
    while (segmenter.next > 0) {
      const packet = Buffer.alloc(segmenter.next)
      segmenter.write(packet, 0)
      out.push(packet)
    }
  }
  const piece = (buffer: Uint8Array, offset: number, length: number) => {
    assert.ok(buffer === memory && offset >= 0 && offset + length <= memory.length)
    pieces.push(Buffer.from(memory.subarray(offset, offset + length)))
  }
  const coalescer = new Coalescer({ joinsUdp: true, outlet: { piece, end: cut } })
  for (let i = 0; i < packets.length; i += BATCH) {
    const batch = packets.slice(i, i + BATCH)
    memory = Buffer.concat(batch.flatMap(packet => [Buffer.alloc(ROOM), packet]))
    let at = 0
    for (const { length } of batch) {
      if (coalescer.add(memory, at + ROOM, length) !== undefined) refused++
      at += ROOM + length
    }
    coalescer.flush()
  }
  return { out, refused, writes }
}

/** Packets without padding, those that are malformed left out, by the two addresses and in order. */
function byWay(packets: readonly Uint8Array[]): Map<string, string[]> {
  const ways = new Map<string, string[]>()
  const found = new IpPacket()
  for (const packet of packets) {
    if (parseIpPacket(found, packet, 0, packet.length) !== undefined) continue
    const bytes = Buffer.from(packet.subarray(0, found.length))
    if (found.version === 4 && (bytes.readUInt8(6) & 0x40) !== 0) {
      // With DF the identification has no meaning and may come out as another.
      bytes.writeUInt16BE(0, 4)
      bytes.writeUInt16BE(0, 10)
    }
    const addresses = bytes.toString('hex', found.source, found.source + 2 * found.addressLength)
    const way = `${addresses} ${found.protocol} ${found.sourcePort} ${found.destinationPort}`
    const list = ways.get(way) ?? []
    list.push(bytes.toString('hex'))
    ways.set(way, list)
  }
  return ways
}

test('the traffic of ordinary applications comes out as it went in', t => {
  if (skipUnless(t, existsSync(VECTORS), 'needs ../shared/vectors')) return
  let [whole, writes] = [0, 0]
  for (const file of readdirSync(new URL('replay/', VECTORS))) {
    const packets = [...packetsOf(readFileSync(new URL(`replay/${file}`, VECTORS)))]
    const result = through(packets)
    assert.deepEqual(byWay(result.out), byWay(packets), file)
    assert.equal(result.out.length + result.refused, packets.length, file)
    whole += result.out.length
    writes += result.writes
  }
  t.diagnostic(`${whole} packets in ${writes} writes`)
  assert.ok(whole > 1_000 && writes < whole)
})

test('malformed and odd packets are refused, or come out as they went in', t => {
  if (skipUnless(t, existsSync(VECTORS), 'needs ../shared/vectors')) return
  const raw = JSON.parse(readFileSync(new URL('raw-ip.json', VECTORS), 'utf8')) as { packets: { hex: string }[] }
  const odd = readdirSync(new URL('pcap-odd/', VECTORS)).flatMap(file => [
    ...packetsOf(readFileSync(new URL(`pcap-odd/${file}`, VECTORS))),
  ])
  for (const packets of [raw.packets.map(({ hex }) => Buffer.from(hex, 'hex')), odd]) {
    const result = through(packets)
    assert.deepEqual(byWay(result.out), byWay(packets))
    assert.equal(result.out.length + result.refused, packets.length)
    assert.ok(result.refused > 0)
  }
})
