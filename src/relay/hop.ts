// What a hop decides: whom to answer, which sessions and flows to keep, which requests to carry out. A pure machine: the
// data plane's reports and the time go in, commands for the data plane come out of `take`.
//
//   initiation ──► mac1 ──► replayed? ──► cookie, when busy ──► respond ──► half-open session
//   half-open ──(first packet)──► established ──(180 s without new keys)──► keyless ──(5 min)──► removed
//       └──(10 s)──► removed
//
// A renewal is an initiation that carries the session's ticket: it adds keys to the session and leaves its flows alone.

import { copyBytes } from '#bytes/copy.ts'
import type { Random } from '#crypto/random.ts'
import type { Command, Keypair, Report, Via } from '#forward/commands.ts'
import type { ProofKind } from '#forward/flow-proof.ts'
import { Answerer } from '#session/control-exchange.ts'
import { CookieJar, checkMac1 } from '#session/cookie.ts'
import { type HopKeys, respond } from '#session/hop-handshake.ts'
import { ReplayFilter } from '#session/replay-filter.ts'
import { type Address, formatAddress, parseIp } from '#wire/address.ts'
import {
  type ControlAnswer,
  type ControlRequest,
  decodeControl,
  encodeControl,
  FLOW_PURPOSE,
  REFUSAL,
} from '#wire/control.ts'
import { HOP_HANDSHAKE } from '#wire/packet-type.ts'
import type { MeetingRoom } from './meeting-room.ts'
import type { Till } from './till.ts'
import type { Lease, TunnelPool } from './tunnel-pool.ts'
import type { WireGuardGate } from './wireguard-gate.ts'

const HALF_OPEN_MS = 10_000
const KEY_LIFETIME_MS = 180_000
const KEYLESS_MS = 300_000
const SWEEP_MS = 30_000
/** In place of the address of those who come by a relay: all of them together are treated as one. */
const RELAYED = 'relayed'
const FLOW_IDLE_MS = 300_000
/** Above this many initiations in a second, an initiator must show that it receives at its address. */
const BUSY_INITIATIONS_PER_SECOND = 300

export interface HopLimits {
  readonly maxSessions: number
  readonly maxFlows: number
  readonly maxFlowsPerSession: number
}

export interface HopOptions {
  readonly keys: HopKeys
  readonly limits: HopLimits
  readonly random: Random
  /** Whether a flow to another hop may be opened to this address. */
  readonly mayReachHop: (address: Address) => boolean
  /** Whether this hop carries applications' streams and datagrams out. */
  readonly isExit: boolean
  /** What this hop lends to WireGuard tunnels; undefined when it lends nothing. */
  readonly wireGuard?: WireGuardGate
  /** Where two clients' flows are joined; undefined when that is not offered. */
  readonly meetings?: MeetingRoom
  /** Where clients pay; undefined when carrying is free. */
  readonly till?: Till
  /** Whether flows to other hops are bounded by that as well: at a hop that lends and does nothing else. */
  readonly lendsOnly?: boolean
  /** The tunnel for IP packets; undefined when this hop has none. */
  readonly tunnel?: HopTunnel
}

/** What an exit needs to carry IP packets. */
export interface HopTunnel {
  readonly pool: TunnelPool
  /** The longest packet in bytes, 1,280 to 65,535. */
  readonly mtu: number
  /** 1 to 4 addresses of DNS servers, told to clients. */
  readonly dns: readonly string[]
}

/** A request that needs the network to be answered: the shell carries it out and calls `answer`. */
export interface ExitRequest {
  readonly session: number
  readonly number: number
  readonly request: Extract<ControlRequest, { kind: 'open' | 'openStream' }>
}

type OpenRequest = Extract<ControlRequest, { kind: 'open' }>
type MeetRequest = Extract<ControlRequest, { kind: 'meet' }>

interface Session {
  readonly session: number
  /** The IP address that it was begun from. */
  readonly host: string
  /** The session of ours with a relay that it came by, if it did. */
  readonly inside: number | undefined
  readonly ticket: string
  readonly answers: Answerer
  readonly flows: Set<number>
  /** The flow of IP packets, and the addresses that it was given. */
  tunnel: { readonly flow: number; readonly lease: Lease } | undefined
  readonly keys: Map<number, { readonly expiresMs: number }>
  sequence: number
  isConfirmed: boolean
  removeAtMs: number
}

export type HopCounter =
  | 'handshakes'
  | 'renewals'
  | 'cookieReplies'
  | 'dropNotInitiation'
  | 'dropMac1'
  | 'dropReplayedInitiation'
  | 'dropBadInitiation'
  | 'dropSessionLimit'
  | 'dropStaleRenewal'
  | 'dropBadControl'
  | 'refusedRequests'

export class Hop {
  readonly counters = new Map<HopCounter, number>()
  readonly #options: HopOptions
  readonly #sessions = new Map<number, Session>()
  readonly #byTicket = new Map<string, Session>()
  readonly #indices = new Set<number>()
  readonly #replays = new ReplayFilter()
  readonly #cookies: CookieJar
  readonly #reportRequests = new Map<number, { session: number; number: number }>()
  #commands: Command[] = []
  #exitRequests: ExitRequest[] = []
  #ended: number[] = []
  #nextSession = 1
  #flows = 0
  #busySinceMs = 0
  #initiations = 0
  #nextSweepMs: number

  constructor(options: HopOptions, now: number) {
    this.#options = options
    this.#cookies = new CookieJar(options.keys.publicKey, options.random, now)
    this.#nextSweepMs = now + SWEEP_MS
  }

  get sessions(): number {
    return this.#sessions.size
  }

  get flows(): number {
    return this.#flows
  }

  /** Whether a client is there that came by this session of ours with a relay. */
  serves(session: number): boolean {
    for (const { inside, keys } of this.#sessions.values()) if (inside === session && keys.size > 0) return true
    return false
  }

  handleReport(report: Report, now: number): void {
    switch (report.kind) {
      case 'handshake':
        this.#commands.push({ kind: 'grantHandshakes', count: 1 })
        if (report.bytes[0] !== HOP_HANDSHAKE.initiation) return this.#count('dropNotInitiation')
        return this.#handleInitiation(report.bytes, report.from, now)
      case 'confirmed':
        return this.#confirm(report.session)
      case 'control':
        return this.#handleControl(report.session, report.bytes, now)
      case 'flowEnded':
        return this.#endFlow(report.session, report.flow, report.reason)
      case 'sessionReport': {
        const asked = this.#reportRequests.get(report.request)
        this.#reportRequests.delete(report.request)
        if (asked === undefined) return
        return this.answer(asked.session, asked.number, {
          kind: 'report',
          packets: report.packets,
          bytes: report.bytes,
        })
      }
      case 'sessionUse':
        return this.#settle(report.session, report.received, report.sent)
      default:
        return
    }
  }

  /** Answers an exit request. An answer to a session that has gone is dropped. */
  answer(session: number, number: number, answer: ControlAnswer): void {
    const entry = this.#sessions.get(session)
    if (entry === undefined) return
    if (answer.kind === 'refused') this.#count('refusedRequests')
    this.#commands.push({ kind: 'sendControl', session, bytes: entry.answers.answer(number, answer) })
  }

  /** Opens the flow of an exit request to the address that was resolved and allowed. */
  openDatagramFlow(session: number, number: number, flow: number, address: Address, first: Uint8Array): void {
    const entry = this.#sessions.get(session)
    if (entry === undefined) return
    this.#installFlow(entry, number, flow, address, undefined, first)
  }

  /** Ends every flow that the gate admitted, and tells the clients: nothing is lent at this time. */
  endWireGuard(): void {
    for (const { session, flow } of this.#options.wireGuard?.all() ?? []) {
      this.#commands.push({ kind: 'removeFlow', session, flow })
      this.#endFlow(session, flow, 'idle')
    }
  }

  /** When `handleDeadline` has something to do. */
  deadline(): number {
    return this.#nextSweepMs
  }

  handleDeadline(now: number): void {
    if (now < this.#nextSweepMs) return
    this.#nextSweepMs = now + SWEEP_MS
    for (const session of this.#sessions.values()) {
      for (const [localIndex, { expiresMs }] of session.keys) {
        if (expiresMs <= now) this.#removeKeys(session, localIndex)
      }
      if (session.removeAtMs <= now) this.#remove(session)
    }
    this.#commands.push({ kind: 'sweep', idleMs: FLOW_IDLE_MS })
  }

  /** The commands decided since the last call, in order. */
  take(): Command[] {
    const commands = this.#commands
    this.#commands = []
    return commands
  }

  /** The exit requests that came since the last call. */
  takeExitRequests(): ExitRequest[] {
    const requests = this.#exitRequests
    this.#exitRequests = []
    return requests
  }

  /** The sessions that ended since the last call. */
  takeEnded(): number[] {
    const ended = this.#ended
    this.#ended = []
    return ended
  }

  #handleInitiation(message: Uint8Array, from: Via, now: number): void {
    if (!checkMac1(message, this.#options.keys.mac1Key)) return this.#count('dropMac1')
    const address = Buffer.from(from.kind === 'socket' ? formatAddress(from.address) : RELAYED, 'latin1')
    if (this.#isBusy(now) && !this.#cookies.checkMac2(message, address, now)) {
      this.#count('cookieReplies')
      const bytes = this.#cookies.cookieReply(message, address, now)
      this.#commands.push({ kind: 'sendHandshake', via: from, bytes })
      return
    }
    if (!this.#replays.admit(message, now)) return this.#count('dropReplayedInitiation')
    const localIndex = this.#newIndex()
    const result = respond({ keys: this.#options.keys, message, localIndex })
    if ('error' in result) return this.#count('dropBadInitiation')
    const { keys } = result
    const keypair: Keypair = { localIndex, remoteIndex: keys.remoteIndex, send: keys.send, receive: keys.receive }
    const isAdmitted =
      result.renews === undefined
        ? this.#installSession(keypair, keyOf(keys.ticket), from, now)
        : this.#renew(keypair, keyOf(result.renews), result.sequence, now)
    if (isAdmitted) this.#commands.push({ kind: 'sendHandshake', via: from, bytes: result.response })
  }

  #installSession(keys: Keypair, ticket: string, via: Via, now: number): boolean {
    if (this.#sessions.size >= this.#options.limits.maxSessions && !this.#makeRoom()) {
      this.#count('dropSessionLimit')
      return false
    }
    const session: Session = {
      session: this.#nextSession++,
      host: via.kind === 'socket' ? via.address.host : RELAYED,
      inside: via.kind === 'flow' ? via.session : undefined,
      ticket,
      answers: new Answerer(),
      flows: new Set(),
      tunnel: undefined,
      keys: new Map([[keys.localIndex, { expiresMs: now + KEY_LIFETIME_MS }]]),
      sequence: 0,
      isConfirmed: false,
      removeAtMs: now + HALF_OPEN_MS,
    }
    this.#sessions.set(session.session, session)
    this.#byTicket.set(ticket, session)
    this.#indices.add(keys.localIndex)
    this.#commands.push({ kind: 'installSession', session: session.session, role: 'responder', via, keys })
    if (this.#options.till !== undefined) this.#commands.push(this.#options.till.open(session.session))
    this.#count('handshakes')
    return true
  }

  /** A ticket that is not known (any more) is not answered: the initiator then begins a session of its own. */
  #renew(keys: Keypair, ticket: string, sequence: number, now: number): boolean {
    const session = this.#byTicket.get(ticket)
    if (session === undefined) return false
    if (sequence <= session.sequence) {
      this.#count('dropStaleRenewal')
      return false
    }
    session.sequence = sequence
    const expiresMs = now + KEY_LIFETIME_MS
    session.keys.set(keys.localIndex, { expiresMs })
    session.removeAtMs = expiresMs + KEYLESS_MS
    this.#indices.add(keys.localIndex)
    this.#commands.push({ kind: 'installKeys', session: session.session, keys })
    while (session.keys.size > 3) {
      const oldest = session.keys.keys().next().value
      if (oldest !== undefined) this.#removeKeys(session, oldest)
    }
    this.#count('renewals')
    return true
  }

  #confirm(session: number): void {
    const entry = this.#sessions.get(session)
    if (entry === undefined || entry.isConfirmed) return
    entry.isConfirmed = true
    const expiresMs = [...entry.keys.values()].at(-1)?.expiresMs ?? 0
    entry.removeAtMs = expiresMs + KEYLESS_MS
  }

  #handleControl(session: number, bytes: Uint8Array, now: number): void {
    const entry = this.#sessions.get(session)
    const message = decodeControl(bytes)
    if (entry === undefined) return
    if (message?.type !== 'request') return this.#count('dropBadControl')
    const admitted = entry.answers.admit(message.number)
    if (admitted === 'wait') return
    if (admitted !== 'carryOut') {
      this.#commands.push({ kind: 'sendControl', session, bytes: admitted })
      return
    }
    this.#carryOut(entry, message.number, message.request, now)
  }

  #carryOut(session: Session, number: number, request: ControlRequest, now: number): void {
    switch (request.kind) {
      case 'ping':
        return this.answer(session.session, number, { kind: 'ping' })
      case 'close':
        this.#removeFlow(session, request.flow)
        return this.answer(session.session, number, { kind: 'close' })
      case 'report': {
        if (this.#reportRequests.size >= this.#options.limits.maxSessions) return
        const id = session.session * 0x1_0000 + number
        this.#reportRequests.set(id, { session: session.session, number })
        this.#commands.push({ kind: 'reportSession', request: id, session: session.session })
        return
      }
      case 'open':
        if (request.purpose === FLOW_PURPOSE.hop) return this.#openHopFlow(session, number, request, now)
        if (request.purpose === FLOW_PURPOSE.wireguard) return this.#openWireGuardFlow(session, number, request, now)
        break
      case 'openTunnel':
        return this.#openTunnel(session, number, request.flow, request.mtu)
      case 'meet':
        return this.#meet(session, number, request, now)
      case 'pay': {
        const { token, acceptedBytes } = request
        const command = this.#options.till?.pay(session.session, token, { number, acceptedBytes })
        if (command === undefined) return this.#refuse(session, number, 'pay', REFUSAL.paymentRefused)
        this.#commands.push(command)
        return
      }
      case 'openStream':
        break
    }
    if (this.#options.isExit) this.#exitRequests.push({ session: session.session, number, request })
    else this.#refuse(session, number, request.kind, REFUSAL.notAllowed)
  }

  /** Payments have been counted: the session may carry more. */
  #settle(session: number, outward: number, inward: number): void {
    const settled = this.#options.till?.handleUse(session, outward, inward)
    if (settled === undefined) return
    this.#commands.push(settled.command)
    for (const { number, outwardBytes } of settled.receipts) this.answer(session, number, { kind: 'pay', outwardBytes })
  }

  #openHopFlow(session: Session, number: number, request: OpenRequest, now: number): void {
    const { host, port } = request.target
    if (parseIp(host) === undefined || !this.#options.mayReachHop({ host, port })) {
      return this.#refuse(session, number, 'open', REFUSAL.notAllowed)
    }
    const gate = this.#options.lendsOnly ? this.#options.wireGuard : undefined
    const isNew = !session.flows.has(request.flow)
    const refusal = isNew ? gate?.admitHop(session, request.flow, { host, port }, now) : undefined
    if (refusal !== undefined) return this.#refuse(session, number, 'open', refusal)
    this.#installFlow(session, number, request.flow, { host, port }, 'hop', request.first)
    if (!session.flows.has(request.flow)) gate?.release(session.session, request.flow)
  }

  #openWireGuardFlow(session: Session, number: number, request: OpenRequest, now: number): void {
    const gate = this.#options.wireGuard
    const { host, port } = request.target
    if (gate === undefined || parseIp(host) === undefined || session.flows.has(request.flow)) {
      return this.#refuse(session, number, 'open', REFUSAL.notAllowed)
    }
    const refusal = gate.admit(session, request.flow, { host, port }, now)
    if (refusal !== undefined) return this.#refuse(session, number, 'open', refusal)
    this.#installFlow(session, number, request.flow, { host, port }, 'wireguard', request.first)
    if (!session.flows.has(request.flow)) gate.release(session.session, request.flow)
  }

  #meet(session: Session, number: number, { flow, token }: MeetRequest, now: number): void {
    const { meetings, limits } = this.#options
    if (meetings === undefined) return this.#refuse(session, number, 'meet', REFUSAL.notAllowed)
    if (session.flows.has(flow)) return this.#refuse(session, number, 'meet', REFUSAL.generalFailure)
    if (this.#flows >= limits.maxFlows || session.flows.size >= limits.maxFlowsPerSession) {
      return this.#refuse(session, number, 'meet', REFUSAL.tooMany)
    }
    const entered = meetings.enter(session, flow, token, now)
    if ('refusal' in entered) return this.#refuse(session, number, 'meet', entered.refusal)
    session.flows.add(flow)
    this.#flows++
    const end = { session: session.session, flow }
    this.#commands.push({ kind: 'installMeeting', ...end, bytesPerSecond: meetings.bytesPerSecond })
    if (entered.other !== undefined) this.#commands.push({ kind: 'joinMeeting', flows: [end, entered.other] })
    this.answer(session.session, number, { kind: 'meet' })
  }

  /** The first request opens the flow; the same again may change how long its packets are. */
  #openTunnel(session: Session, number: number, flow: number, wanted: number): void {
    const { tunnel } = this.#options
    if (tunnel === undefined) return this.#refuse(session, number, 'openTunnel', REFUSAL.notAllowed)
    const mtu = Math.min(wanted, tunnel.mtu)
    if (session.tunnel?.flow === flow) {
      this.#commands.push({ kind: 'resizePacketFlow', session: session.session, flow, mtu })
    } else {
      const { maxFlows, maxFlowsPerSession } = this.#options.limits
      if (session.tunnel !== undefined || session.flows.has(flow)) {
        return this.#refuse(session, number, 'openTunnel', REFUSAL.generalFailure)
      }
      const hasRoom = this.#flows < maxFlows && session.flows.size < maxFlowsPerSession
      const lease = hasRoom ? tunnel.pool.take() : undefined
      if (lease === undefined) return this.#refuse(session, number, 'openTunnel', REFUSAL.tooMany)
      session.tunnel = { flow, lease }
      session.flows.add(flow)
      this.#flows++
      const inside = lease.addresses
      this.#commands.push({ kind: 'installPacketFlow', session: session.session, flow, inside, mtu })
    }
    const { pool, dns } = tunnel
    this.answer(session.session, number, {
      kind: 'openTunnel',
      hasIpv4: pool.hasIpv4,
      hasIpv6: pool.hasIpv6,
      mtu: tunnel.mtu,
      dns,
    })
  }

  #release(session: number, flow: number): void {
    this.#options.wireGuard?.release(session, flow)
    this.#options.meetings?.leave(session, flow)
  }

  #releaseTunnel(session: Session): void {
    if (session.tunnel !== undefined) this.#options.tunnel?.pool.release(session.tunnel.lease)
    session.tunnel = undefined
  }

  #removeFlow(session: Session, flow: number): void {
    if (session.tunnel?.flow === flow) this.#releaseTunnel(session)
    if (session.flows.delete(flow)) this.#flows--
    this.#release(session.session, flow)
    this.#commands.push({ kind: 'removeFlow', session: session.session, flow })
  }

  #installFlow(
    session: Session,
    number: number,
    flow: number,
    address: Address,
    proof: ProofKind | undefined,
    first: Uint8Array,
  ): void {
    const { maxFlows, maxFlowsPerSession } = this.#options.limits
    if (session.flows.has(flow)) return this.#refuse(session, number, 'open', REFUSAL.generalFailure)
    if (this.#flows >= maxFlows || session.flows.size >= maxFlowsPerSession) {
      return this.#refuse(session, number, 'open', REFUSAL.tooMany)
    }
    session.flows.add(flow)
    this.#flows++
    this.#commands.push({
      kind: 'installFlow',
      session: session.session,
      flow,
      address,
      ...(proof && { proof }),
      first: copyBytes(first),
    })
    this.answer(session.session, number, { kind: 'open' })
  }

  #refuse(
    session: Session,
    number: number,
    request: ControlRequest['kind'],
    reason: (typeof REFUSAL)[keyof typeof REFUSAL],
  ): void {
    this.answer(session.session, number, { kind: 'refused', request, reason })
  }

  #endFlow(session: number, flow: number, reason: 'idle' | 'unreachable'): void {
    const entry = this.#sessions.get(session)
    if (entry === undefined || !entry.flows.has(flow)) return
    if (reason === 'idle') {
      entry.flows.delete(flow)
      this.#flows--
      this.#release(session, flow)
    }
    const bytes = encodeControl({ type: 'notice', flow, reason: reason === 'idle' ? 1 : 2 })
    this.#commands.push({ kind: 'sendControl', session, bytes })
  }

  #removeKeys(session: Session, localIndex: number): void {
    session.keys.delete(localIndex)
    this.#indices.delete(localIndex)
    this.#commands.push({ kind: 'removeKeys', session: session.session, localIndex })
  }

  #remove(session: Session): void {
    this.#sessions.delete(session.session)
    this.#options.till?.close(session.session)
    this.#byTicket.delete(session.ticket)
    for (const localIndex of session.keys.keys()) this.#indices.delete(localIndex)
    this.#flows -= session.flows.size
    for (const flow of session.flows) this.#release(session.session, flow)
    this.#releaseTunnel(session)
    this.#commands.push({ kind: 'removeSession', session: session.session })
    this.#ended.push(session.session)
  }

  /** Gives up a session that has no keys left, for a new one. */
  #makeRoom(): boolean {
    for (const session of this.#sessions.values()) {
      if (session.keys.size > 0) continue
      this.#remove(session)
      return true
    }
    return false
  }

  #isBusy(now: number): boolean {
    if (now - this.#busySinceMs >= 1_000) {
      this.#busySinceMs = now
      this.#initiations = 0
    }
    return ++this.#initiations > BUSY_INITIATIONS_PER_SECOND
  }

  #newIndex(): number {
    for (;;) {
      const bytes = this.#options.random(4)
      const index = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0)
      if (!this.#indices.has(index)) return index
    }
  }

  #count(name: HopCounter): void {
    this.counters.set(name, (this.counters.get(name) ?? 0) + 1)
  }
}

function keyOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
