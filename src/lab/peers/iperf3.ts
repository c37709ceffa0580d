// iperf3, where IP packets go through: the client's command, and what its JSON says.

import { ORIGIN_ADDRESS } from './origin-address.ts'
import type { PeerLab } from './topology.ts'

/** iperf3 ends by itself; when the network does not answer it would wait longer than anybody wants. */
const GRACE_MS = 8_000

export interface TcpResult {
  /** Received, after the warm-up. */
  readonly bitsPerSecond: number
  /** All bytes, the warm-up's too. */
  readonly bytes: number
}

export interface UdpResult {
  readonly sentPackets: number
  readonly lostPackets: number
  readonly seconds: number
}

/** Moves TCP from the client to the origin (`outward`) or back for `seconds` and a warm-up of `warmUpSeconds`. */
export async function iperfTcp(
  lab: PeerLab,
  options: { isInward: boolean; streams: number; seconds: number; warmUpSeconds: number },
): Promise<TcpResult> {
  const words = ['--parallel', String(options.streams), '--omit', String(options.warmUpSeconds)]
  const text = await iperf(lab, options.seconds + options.warmUpSeconds, [
    ...words,
    ...['--time', String(options.seconds)],
    ...(options.isInward ? ['--reverse'] : []),
  ])
  return parsedOrThrow(parseTcp(text))
}

/** Sends datagrams of 1,200 bytes to the origin at a rate. */
export async function iperfUdp(lab: PeerLab, packetsPerSecond: number, seconds: number): Promise<UdpResult> {
  const words = [
    '--udp',
    '--length',
    String(DATAGRAM_BYTES),
    '--bitrate',
    String(packetsPerSecond * DATAGRAM_BYTES * 8),
  ]
  // Sent in small bursts into a large buffer: the burst of a coarser timer would overflow it where the path does not.
  const text = await iperf(lab, seconds, [
    ...words,
    '--time',
    String(seconds),
    '--pacing-timer',
    '200',
    '--window',
    '2M',
  ])
  return parsedOrThrow(parseUdp(text))
}

export const DATAGRAM_BYTES = 1_200

/** What `iperf3 --json` says of a TCP run, or why it says nothing. */
export function parseTcp(text: string): TcpResult | { readonly error: string } {
  const report = parse(text)
  if ('error' in report) return report
  const bitsPerSecond = report.end?.sum_received?.bits_per_second
  if (typeof bitsPerSecond !== 'number') return { error: 'it has no sum of what was received' }
  const bytes = (report.intervals ?? []).reduce((sum, interval) => sum + (interval.sum?.bytes ?? 0), 0)
  return { bitsPerSecond, bytes }
}

/** What `iperf3 --udp --json` says, or why it says nothing. */
export function parseUdp(text: string): UdpResult | { readonly error: string } {
  const report = parse(text)
  if ('error' in report) return report
  const { packets, lost_packets: lost, seconds } = report.end?.sum ?? {}
  if (typeof packets !== 'number' || typeof lost !== 'number' || typeof seconds !== 'number')
    return { error: 'it has no sum of packets' }
  return { sentPackets: packets, lostPackets: lost, seconds }
}

interface IperfReport {
  readonly intervals?: readonly { readonly sum?: { readonly bytes?: number } }[]
  readonly end?: {
    readonly sum?: { readonly packets?: number; readonly lost_packets?: number; readonly seconds?: number }
    readonly sum_received?: { readonly bits_per_second?: number }
  }
}

function parse(text: string): IperfReport | { readonly error: string } {
  try {
    const report = JSON.parse(text) as IperfReport & { readonly error?: string }
    if (typeof report !== 'object' || report === null) return { error: 'it is no object' }
    return typeof report.error === 'string'
      ? { error: report.error }
      : { intervals: report.intervals ?? [], end: report.end ?? {} }
  } catch {
    return { error: 'it is no JSON' }
  }
}

function parsedOrThrow<T extends object>(result: T | { readonly error: string }): T {
  if ('error' in result) throw new Error(`read what iperf3 says: ${result.error}`)
  return result
}

async function iperf(lab: PeerLab, seconds: number, words: readonly string[]): Promise<string> {
  const common = ['--client', ORIGIN_ADDRESS, '--json', '--connect-timeout', '3000']
  return lab.run(lab.client, 'iperf3', [...common, ...words], seconds * 1_000 + GRACE_MS)
}
