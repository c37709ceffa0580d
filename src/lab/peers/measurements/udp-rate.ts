// The most datagrams of 1,200 bytes a second that arrive with at most one in a hundred lost.

import type { Figures } from '../figures.ts'
import { iperfUdp, type UdpResult } from '../iperf3.ts'
import type { Measured } from './measurement.ts'

const MOST_PER_SECOND = 640_000
const LEAST_PER_SECOND = 2_500
const MAX_LOSS = 0.01
const STEPS = 8
const STEP_SECONDS = 1

/** Datagrams from client to origin; nothing where IP does not go through. */
export async function udpRate({ lab, subject }: Measured): Promise<Figures> {
  if (subject.access.kind !== 'ip') return {}
  const best = await highestRate(rate => iperfUdp(lab, rate, STEP_SECONDS))
  return best === undefined ? {} : { udpPacketsPerSecond: best }
}

/**
 * Packets received per second in the best step with little enough loss; `undefined` when every step lost more. Halves the range
 * by its geometric mean, so that eight steps are within three in a hundred; a step is at most two runs.
 */
export async function highestRate(send: (packetsPerSecond: number) => Promise<UdpResult>): Promise<number | undefined> {
  let [low, high] = [LEAST_PER_SECOND, MOST_PER_SECOND]
  let best: number | undefined
  for (let step = 0; step < STEPS && high / low > 1.02; step++) {
    const rate = Math.round(Math.sqrt(low * high))
    let result = await send(rate)
    // Once more: one that went wrong by chance would hide every higher rate.
    if (isLossy(result)) result = await send(rate)
    if (isLossy(result)) {
      high = rate
      continue
    }
    const { sentPackets, lostPackets, seconds } = result
    best = Math.max(best ?? 0, (sentPackets - lostPackets) / seconds)
    // A sender that cannot send faster finds nothing out by being told to.
    if (sentPackets / seconds < rate * 0.95) break
    low = rate
  }
  return best
}

function isLossy({ sentPackets, lostPackets }: UdpResult): boolean {
  return lostPackets > sentPackets * MAX_LOSS
}
