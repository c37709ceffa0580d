// The data plane's tables: sessions by number, keypairs by receiver index, flows by session and number.
//
// Only commands change them. Bounds are the control plane's: it installs no more than it allows. A session holds at most
// three keypairs (previous, current, next); a fourth pushes out the oldest.

import { ReplayWindow } from '#session/replay-window.ts'
import type { Address } from '#wire/address.ts'
import type { InsideAddresses, Keypair, MeetingEnd, SessionRole, Via } from './commands.ts'
import { FlowProof, type ProofKind } from './flow-proof.ts'
import type { Leg } from './legs.ts'
import { TokenBucket } from './token-bucket.ts'

const MAX_KEYPAIRS = 3

export interface KeypairEntry extends Keypair {
  readonly session: SessionEntry
  readonly window: ReplayWindow
  sendCounter: number
  isConfirmed: boolean
}

export interface SessionEntry {
  readonly session: number
  readonly role: SessionRole
  via: Via
  /** Newest last. */
  readonly keypairs: KeypairEntry[]
  /** The keys we seal with. */
  current: KeypairEntry
  readonly flows: Map<number, FlowEntry>
  hasTap: boolean
  packets: number
  bytes: number
  /** Bytes that count when carrying is paid for (`sessionUse`), and how many there may be of both together. */
  sent: number
  received: number
  limitBytes: number
}

export type FlowEntry = HopFlow | NestingFlow | AssociationFlow | LegFlow | PacketFlow | MeetingFlow

/** At a hop: datagrams to and from one address. */
export interface HopFlow {
  readonly kind: 'hop'
  readonly session: SessionEntry
  readonly flow: number
  readonly address: Address
  readonly proof: FlowProof | undefined
  lastUsedMs: number
}

/** At a client: the packets of sessions further out. */
export interface NestingFlow {
  readonly kind: 'nesting'
  readonly via: Via
}

/** At a client: datagrams of a proxy's UDP association. */
export interface AssociationFlow {
  readonly kind: 'association'
  readonly association: number
  /** SOCKS5 UDP header that stands for the target. */
  readonly header: Uint8Array
}

/** At a client: datagrams of a WireGuard server that is reached through peers (legs.ts). */
export interface LegFlow {
  readonly kind: 'leg'
  readonly entry: number
  readonly leg: Leg
}

/** IP packets between a session and this node's TUN: at a client, or at an exit. */
export interface PacketFlow {
  readonly kind: 'packets'
  readonly session: number
  readonly flow: number
  /** At an exit: what stands for the client. */
  readonly inside: InsideAddresses | undefined
  /** The longest packet in bytes. */
  mtu: number
}

/** At a relay: datagrams of one client for another, each with a flow of its own. */
export interface MeetingFlow {
  readonly kind: 'meeting'
  readonly session: SessionEntry
  readonly flow: number
  readonly rate: TokenBucket
  /** Undefined while the other has not come, or has gone. */
  other: MeetingFlow | MeetingAbroad | undefined
  lastUsedMs: number
}

/** The other client's flow, where another worker has its session. */
export interface MeetingAbroad extends MeetingEnd {
  readonly kind: 'abroad'
  readonly worker: number
}

export class Tables {
  readonly sessions = new Map<number, SessionEntry>()
  readonly keypairs = new Map<number, KeypairEntry>()
  /** Those flows of sessions that are joined or wait for it. */
  readonly meetings = new Set<MeetingFlow>()

  installSession(session: number, role: SessionRole, via: Via, keys: Keypair): void {
    this.removeSession(session)
    const entry: SessionEntry = {
      session,
      role,
      via,
      keypairs: [],
      current: undefined as unknown as KeypairEntry,
      flows: new Map(),
      hasTap: false,
      packets: 0,
      bytes: 0,
      sent: 0,
      received: 0,
      limitBytes: Number.POSITIVE_INFINITY,
    }
    entry.current = this.#addKeys(entry, keys)
    this.sessions.set(session, entry)
  }

  /** Adds keys to a session; an initiator seals with them at once, a responder once they were used. */
  installKeys(session: number, keys: Keypair): void {
    const entry = this.sessions.get(session)
    if (entry === undefined) return
    const added = this.#addKeys(entry, keys)
    if (entry.role === 'initiator' || entry.keypairs.length === 1) entry.current = added
    while (entry.keypairs.length > MAX_KEYPAIRS) {
      const oldest = entry.keypairs.find(keypair => keypair !== entry.current)
      if (oldest === undefined) break
      this.#dropKeys(entry, oldest)
    }
  }

  removeKeys(session: number, localIndex: number): void {
    const entry = this.sessions.get(session)
    const keypair = entry?.keypairs.find(keypair => keypair.localIndex === localIndex)
    if (entry === undefined || keypair === undefined) return
    this.#dropKeys(entry, keypair)
    const newest = entry.keypairs.at(-1)
    if (entry.current === keypair && newest !== undefined) entry.current = newest
  }

  /** Removes a session with its keys; returns the entry, whose flows and tap the caller closes. */
  removeSession(session: number): SessionEntry | undefined {
    const entry = this.sessions.get(session)
    if (entry === undefined) return undefined
    this.sessions.delete(session)
    for (const keypair of [...entry.keypairs]) this.#dropKeys(entry, keypair)
    for (const flow of entry.flows.values()) if (flow.kind === 'meeting') this.#leave(flow)
    return entry
  }

  setVia(session: number, via: Via): void {
    const entry = this.sessions.get(session)
    if (entry !== undefined) entry.via = via
  }

  installNesting(session: number, flow: number): void {
    const via: Via = { kind: 'flow', session, flow }
    this.sessions.get(session)?.flows.set(flow, { kind: 'nesting', via })
  }

  installFlow(
    session: number,
    flow: number,
    address: Address,
    proof: ProofKind | undefined,
    nowMs: number,
  ): HopFlow | undefined {
    const entry = this.sessions.get(session)
    if (entry === undefined || entry.flows.has(flow)) return undefined
    const added: HopFlow = {
      kind: 'hop',
      session: entry,
      flow,
      address,
      proof: proof && new FlowProof(proof),
      lastUsedMs: nowMs,
    }
    entry.flows.set(flow, added)
    return added
  }

  installPacketFlow(
    session: number,
    flow: number,
    inside: InsideAddresses | undefined,
    mtu: number,
  ): PacketFlow | undefined {
    const entry = this.sessions.get(session)
    if (entry === undefined || entry.flows.has(flow)) return undefined
    const added: PacketFlow = { kind: 'packets', session, flow, inside, mtu }
    entry.flows.set(flow, added)
    return added
  }

  installMeeting(session: number, flow: number, bytesPerSecond: number, nowMs: number): void {
    const entry = this.sessions.get(session)
    if (entry === undefined || entry.flows.has(flow)) return
    const rate = new TokenBucket(bytesPerSecond, nowMs)
    const added: MeetingFlow = { kind: 'meeting', session: entry, flow, rate, other: undefined, lastUsedMs: nowMs }
    entry.flows.set(flow, added)
    this.meetings.add(added)
  }

  joinMeeting([a, b]: readonly [MeetingEnd, MeetingEnd]): void {
    const [one, two] = [this.#endOf(a), this.#endOf(b)]
    if (one === undefined || two === undefined || one === two) return
    for (const flow of [one, two]) if (flow.kind === 'meeting') this.#part(flow)
    if (one.kind === 'meeting') one.other = two
    if (two.kind === 'meeting') two.other = one
  }

  /** A flow that is joined to `from`, which another worker has. */
  meetingFrom(from: MeetingEnd, { session, flow }: MeetingEnd): MeetingFlow | undefined {
    const found = this.sessions.get(session)?.flows.get(flow)
    if (found?.kind !== 'meeting' || found.other?.kind !== 'abroad') return undefined
    return found.other.session === from.session && found.other.flow === from.flow ? found : undefined
  }

  removeFlow(session: number, flow: number): FlowEntry | undefined {
    const entry = this.sessions.get(session)
    const removed = entry?.flows.get(flow)
    entry?.flows.delete(flow)
    if (removed?.kind === 'meeting') this.#leave(removed)
    return removed
  }

  #endOf({ session, flow, worker }: MeetingEnd): MeetingFlow | MeetingAbroad | undefined {
    if (worker !== undefined) return { kind: 'abroad', session, flow, worker }
    const found = this.sessions.get(session)?.flows.get(flow)
    return found?.kind === 'meeting' ? found : undefined
  }

  #leave(flow: MeetingFlow): void {
    this.meetings.delete(flow)
    this.#part(flow)
  }

  /** Of a flow that another worker has nobody needs to be told: what it sends finds nothing here that is joined to it. */
  #part(flow: MeetingFlow): void {
    if (flow.other?.kind === 'meeting') flow.other.other = undefined
    flow.other = undefined
  }

  #addKeys(session: SessionEntry, keys: Keypair): KeypairEntry {
    const added: KeypairEntry = { ...keys, session, window: new ReplayWindow(), sendCounter: 0, isConfirmed: false }
    session.keypairs.push(added)
    this.keypairs.set(keys.localIndex, added)
    return added
  }

  #dropKeys(session: SessionEntry, keypair: KeypairEntry): void {
    session.keypairs.splice(session.keypairs.indexOf(keypair), 1)
    if (this.keypairs.get(keypair.localIndex) === keypair) this.keypairs.delete(keypair.localIndex)
    keypair.send.fill(0)
    keypair.receive.fill(0)
  }
}
