// Two homes behind two NATs on the virtual internet: what comes of every pair of behaviours, and when.

import {
  type Dependence,
  type NatOptions,
  type Realm,
  VirtualInternet,
  VirtualNat,
  VirtualRelay,
} from './virtual-nat.ts'
import { VirtualPeer } from './virtual-peer.ts'
import { VirtualTurn } from './virtual-turn.ts'

/** Every behaviour of RFC 4787, and no UDP at all. */
export const NATS: readonly NatOptions[] = [
  ...(['independent', 'address', 'port'] as const).flatMap(mapping =>
    (['independent', 'address', 'port'] as const).flatMap(filtering =>
      (['preserving', 'sequential', 'random'] as const).map(ports => ({ mapping, filtering, ports })),
    ),
  ),
]

export const BLOCKED: NatOptions = { mapping: 'port', filtering: 'port', ports: 'random', blocksUdp: true }

export interface PairResult {
  readonly outcome: 'direct' | 'relayed' | 'failed'
  /** Until a packet of the application had arrived on both sides. */
  readonly firstByteMs: number | undefined
  /** Until both sides sent their packets directly. */
  readonly directMs: number | undefined
}

export interface PairWorld {
  readonly net: VirtualInternet
  readonly natA: VirtualNat
  readonly natB: VirtualNat
  readonly a: VirtualPeer
  readonly b: VirtualPeer
}

export interface PairWorldOptions {
  readonly lossRate?: number
  /** A carrier NAT in front of each of the two. */
  readonly carrier?: NatOptions
  readonly learnsLifetime?: boolean
  /** What relays packets: flows on two relays of ours (the rule), flows that a relay joins, a TURN server for each side, or nothing. */
  readonly relaying?: 'flows' | 'meeting' | 'turn' | 'none'
}

/** Two hosts, each behind a NAT of its own, with three relays on the internet. */
export function pairWorld(seed: string, natA: NatOptions, natB: NatOptions, options: PairWorldOptions = {}): PairWorld {
  const net = new VirtualInternet(seed)
  net.lossRate = options.lossRate ?? 0
  const relays = ['198.51.100.1', '198.51.101.1', '198.51.102.1'].map(host => new VirtualRelay(net, host))
  const stunServers = relays.map(({ stun }) => stun)
  const home = (wan: string, carrierWan: string, nat: NatOptions): VirtualNat => {
    const outer: Realm =
      options.carrier === undefined ? net.root : new VirtualNat(net, net.root, carrierWan, options.carrier).inside
    return new VirtualNat(net, outer, options.carrier === undefined ? carrierWan : wan, nat)
  }
  const a = home('100.64.1.2', '203.0.113.1', natA)
  const b = home('100.64.2.2', '192.0.2.1', natB)
  const { learnsLifetime = false, relaying = 'flows' } = options
  const credentials = { username: 'lab', password: 'lab' }
  const turns = ['198.51.103.1', '198.51.104.1'].map(host => new VirtualTurn(net, host, credentials))
  const turnServers = turns.map(({ address }) => ({ address, ...credentials }))
  const peer = (nat: VirtualNat, host: string, side: 0 | 1, isStreamOnly: boolean) => {
    const relay = relaying === 'flows' ? relays[side] : undefined
    const endpoint = { learnsLifetime, turnServers: relaying === 'turn' ? turnServers.slice(side, side + 1) : [] }
    const more = relay === undefined ? {} : { relay }
    return new VirtualPeer(net, {
      host,
      realm: nat.inside,
      isStreamOnly,
      endpoint,
      stunServers,
      meets: relaying === 'meeting',
      ...more,
    })
  }
  return {
    net,
    natA: a,
    natB: b,
    a: peer(a, '192.168.1.10', 0, natA.blocksUdp === true),
    b: peer(b, '192.168.7.20', 1, natB.blocksUdp === true),
  }
}

/** Whether a direct path can be had: at most one side's port depends on whom it speaks to. */
export function canBeDirect(a: NatOptions, b: NatOptions): boolean {
  if (a.blocksUdp || b.blocksUdp) return false
  return a.mapping === 'independent' || b.mapping === 'independent'
}

/** Connects the two and waits until nothing better can come. */
export function runPair(world: PairWorld, limitMs: number, isEnough: (result: PairResult) => boolean): PairResult {
  const { net, a, b } = world
  const startMs = net.now
  let firstByteMs: number | undefined
  let directMs: number | undefined
  a.connect(b, true)
  b.connect(a, false)
  const result = (): PairResult => {
    const paths = [a.path, b.path]
    const isDirect = paths.every(path => path?.kind === 'direct')
    const isConnected = paths.every(path => path !== undefined)
    return {
      outcome: isDirect ? 'direct' : isConnected && firstByteMs !== undefined ? 'relayed' : 'failed',
      firstByteMs,
      directMs,
    }
  }
  net.run(limitMs, () => {
    if (firstByteMs === undefined && a.received.size > 0 && b.received.size > 0) firstByteMs = net.now - startMs
    if (directMs === undefined && a.path?.kind === 'direct' && b.path?.kind === 'direct') directMs = net.now - startMs
    return isEnough(result())
  })
  return result()
}

export function describeNat({ mapping, filtering, ports, blocksUdp }: NatOptions): string {
  const short: Record<Dependence, string> = { independent: 'EI', address: 'AD', port: 'APD' }
  return blocksUdp ? 'blocked' : `${short[mapping]}/${short[filtering]}/${ports}`
}
