// Sends hostile datagrams from a thread of its own, at a steady rate: random ones, and truncated, mutated and replayed copies
// of real ones. The same seed gives the same datagrams.

import { createSocket } from 'node:dgram'
import { parentPort, workerData } from 'node:worker_threads'

export interface Flood {
  readonly host: string
  readonly port: number
  readonly from: string
  readonly count: number
  readonly perSecond: number
  readonly seed: number
  /** Real datagrams to spoil. */
  readonly real: readonly Uint8Array[]
}

const { host, port, from, count, perSecond, seed, real } = workerData as Flood
const socket = createSocket({ type: 'udp4', lookup: (name, _options, done) => done(null as never, name, 4) })
socket.on('error', () => {})
let state = seed >>> 0
let sent = 0

socket.bind(0, from, () => {
  const startedMs = performance.now()
  const timer = setInterval(() => {
    const due = Math.min(count, Math.floor(((performance.now() - startedMs) / 1000) * perSecond))
    for (; sent < due; sent++) socket.send(next(), port, host)
    if (sent < count) return
    clearInterval(timer)
    setTimeout(() => {
      socket.close()
      parentPort?.postMessage(sent)
    }, 300)
  }, 4)
})

function next(): Uint8Array {
  const copy = Uint8Array.from(real[random(real.length)] ?? [])
  switch (random(6)) {
    case 0:
      return bytes(random(1_400))
    case 1: {
      // Random, but with a type and zeros where they belong.
      const forged = bytes(32 + random(1_350))
      forged.set([1 + random(8), 0, 0, 0])
      return forged
    }
    case 2:
      return copy.subarray(0, random(copy.length + 1))
    case 3:
      return copy
    default: {
      const spoiled = 1 + random(3)
      for (let i = 0; i < spoiled; i++) copy[random(copy.length)] = random(256)
      return copy
    }
  }
}

function bytes(length: number): Uint8Array {
  const made = new Uint8Array(length)
  for (let i = 0; i < length; i += 7) made[i] = random(256)
  return made
}

function random(below: number): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
  return Math.floor((state / 2 ** 32) * Math.max(below, 1))
}
