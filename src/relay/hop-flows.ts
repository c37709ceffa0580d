// The flows of a hop's sessions: what may be opened, how many, and what is given back when they end. A pure machine.

import { copyBytes } from '#bytes/copy.ts'
import type { Command } from '#forward/commands.ts'
import type { ProofKind } from '#forward/flow-proof.ts'
import { type Address, parseIp } from '#wire/address.ts'
import { type ControlAnswer, type ControlRequest, encodeControl, REFUSAL } from '#wire/control.ts'
import type { HopSession } from './hop-sessions.ts'
import type { MeetingRoom } from './meeting-room.ts'
import type { Lease, TunnelPool } from './tunnel-pool.ts'
import type { WireGuardGate } from './wireguard-gate.ts'

/** What an exit needs to carry IP packets. */
export interface HopTunnel {
  readonly pool: TunnelPool
  /** The longest packet in bytes, 1,280 to 65,535. */
  readonly mtu: number
  /** 1 to 4 addresses of DNS servers, told to clients. */
  readonly dns: readonly string[]
}

type OpenRequest = Extract<ControlRequest, { kind: 'open' }>
type MeetRequest = Extract<ControlRequest, { kind: 'meet' }>

export interface HopFlowsOptions {
  readonly limits: { readonly maxFlows: number; readonly maxFlowsPerSession: number }
  /** Whether the process can have one more socket. */
  readonly hasRoom?: () => boolean
  /** Whether a flow to another hop may be opened to this address. */
  readonly mayReachHop: (address: Address) => boolean
  /** What this hop lends to WireGuard tunnels; undefined when it lends nothing. */
  readonly wireGuard?: WireGuardGate
  /** Where two clients' flows are joined; undefined when that is not offered. */
  readonly meetings?: MeetingRoom
  /** Whether flows to other hops are bounded by that as well: at a hop that lends and does nothing else. */
  readonly lendsOnly?: boolean
  /** The tunnel for IP packets; undefined when this hop has none. */
  readonly tunnel?: HopTunnel
}

/** What was refused because this hop has no more of it. */
export type FlowCounter = 'refusedForFiles' | 'refusedFlowLimit' | 'refusedMeetingLimit' | 'refusedAddressLimit'

export class HopFlows {
  readonly #options: HopFlowsOptions
  readonly #out: Command[]
  readonly #note: (name: FlowCounter) => void
  readonly #answer: (session: number, number: number, answer: ControlAnswer) => void
  /** By session: its flow of IP packets, and the addresses that it was given. */
  readonly #leases = new Map<number, { readonly flow: number; readonly lease: Lease }>()
  #count = 0

  /** Commands for the data plane are pushed to `out`; every request is answered once, by `answer`. */
  constructor(
    options: HopFlowsOptions,
    out: Command[],
    answer: (session: number, number: number, answer: ControlAnswer) => void,
    note: (name: FlowCounter) => void,
  ) {
    this.#options = options
    this.#out = out
    this.#note = note
    this.#answer = answer
  }

  get count(): number {
    return this.#count
  }

  /** Opens a flow to another hop. */
  openToHop(session: HopSession, number: number, request: OpenRequest, now: number): void {
    const { host, port } = request.target
    if (parseIp(host) === undefined || !this.#options.mayReachHop({ host, port })) {
      return this.#refuse(session, number, 'open', REFUSAL.notAllowed)
    }
    const gate = this.#options.lendsOnly ? this.#options.wireGuard : undefined
    const isNew = !session.flows.has(request.flow)
    const refusal = isNew ? gate?.admitHop(session, request.flow, { host, port }, now) : undefined
    if (refusal !== undefined) return this.#refuse(session, number, 'open', refusal)
    this.open(session, number, request.flow, { host, port }, 'hop', request.first)
    if (!session.flows.has(request.flow)) gate?.release(session.session, request.flow)
  }

  /** Opens a flow to a WireGuard server. */
  openToWireGuard(session: HopSession, number: number, request: OpenRequest, now: number): void {
    const gate = this.#options.wireGuard
    const { host, port } = request.target
    if (gate === undefined || parseIp(host) === undefined || session.flows.has(request.flow)) {
      return this.#refuse(session, number, 'open', REFUSAL.notAllowed)
    }
    const refusal = gate.admit(session, request.flow, { host, port }, now)
    if (refusal !== undefined) return this.#refuse(session, number, 'open', refusal)
    this.open(session, number, request.flow, { host, port }, 'wireguard', request.first)
    if (!session.flows.has(request.flow)) gate.release(session.session, request.flow)
  }

  /** Lets a flow of one client wait for another's. */
  meet(session: HopSession, number: number, { flow, token }: MeetRequest, now: number): void {
    const { meetings } = this.#options
    if (meetings === undefined) return this.#refuse(session, number, 'meet', REFUSAL.notAllowed)
    if (session.flows.has(flow)) return this.#refuse(session, number, 'meet', REFUSAL.generalFailure)
    if (!this.#hasRoom(session)) return this.#refuse(session, number, 'meet', REFUSAL.tooMany)
    const entered = meetings.enter(session, flow, token, now)
    if ('refusal' in entered && meetings.isFull) this.#note('refusedMeetingLimit')
    if ('refusal' in entered) return this.#refuse(session, number, 'meet', entered.refusal)
    this.#add(session, flow)
    const end = { session: session.session, flow }
    this.#out.push({ kind: 'installMeeting', ...end, bytesPerSecond: meetings.bytesPerSecond })
    if (entered.other !== undefined) this.#out.push({ kind: 'joinMeeting', flows: [end, entered.other] })
    this.#answer(session.session, number, { kind: 'meet' })
  }

  /** Tells a client where the other is that it meets. */
  tellOther({ session }: HopSession, number: number, flow: number): void {
    const host = this.#options.meetings?.hostOfOther(session, flow)
    if (host === undefined || parseIp(host) === undefined)
      this.#answer(session, number, { kind: 'refused', request: 'other', reason: REFUSAL.hostUnreachable })
    else this.#answer(session, number, { kind: 'other', host })
  }

  /** The first request opens the flow; the same again may change how long its packets are. */
  openTunnel(session: HopSession, number: number, flow: number, wanted: number): void {
    const { tunnel } = this.#options
    if (tunnel === undefined) return this.#refuse(session, number, 'openTunnel', REFUSAL.notAllowed)
    const mtu = Math.min(wanted, tunnel.mtu)
    const leased = this.#leases.get(session.session)
    if (leased?.flow === flow) {
      this.#out.push({ kind: 'resizePacketFlow', session: session.session, flow, mtu })
    } else {
      if (leased !== undefined || session.flows.has(flow)) {
        return this.#refuse(session, number, 'openTunnel', REFUSAL.generalFailure)
      }
      const hasRoom = this.#hasRoom(session)
      const lease = hasRoom ? tunnel.pool.take() : undefined
      if (hasRoom && lease === undefined) this.#note('refusedAddressLimit')
      if (lease === undefined) return this.#refuse(session, number, 'openTunnel', REFUSAL.tooMany)
      this.#leases.set(session.session, { flow, lease })
      this.#add(session, flow)
      const inside = lease.addresses
      this.#out.push({ kind: 'installPacketFlow', session: session.session, flow, inside, mtu })
    }
    const { pool, dns } = tunnel
    this.#answer(session.session, number, {
      kind: 'openTunnel',
      hasIpv4: pool.hasIpv4,
      hasIpv6: pool.hasIpv6,
      mtu: tunnel.mtu,
      dns,
    })
  }

  /** Opens a flow to an address that was allowed; `proof`: what must answer there. */
  open(
    session: HopSession,
    number: number,
    flow: number,
    address: Address,
    proof: ProofKind | undefined,
    first: Uint8Array,
  ): void {
    if (session.flows.has(flow)) return this.#refuse(session, number, 'open', REFUSAL.generalFailure)
    if (this.#options.hasRoom?.() === false) {
      this.#note('refusedForFiles')
      return this.#refuse(session, number, 'open', REFUSAL.tooMany)
    }
    if (!this.#hasRoom(session)) return this.#refuse(session, number, 'open', REFUSAL.tooMany)
    this.#add(session, flow)
    this.#out.push({
      kind: 'installFlow',
      session: session.session,
      flow,
      address,
      ...(proof && { proof }),
      first: copyBytes(first),
    })
    this.#answer(session.session, number, { kind: 'open' })
  }

  /** The client is done with a flow. */
  close(session: HopSession, flow: number): void {
    if (this.#leases.get(session.session)?.flow === flow) this.#releaseLease(session.session)
    if (session.flows.delete(flow)) this.#count--
    this.#release(session.session, flow)
    this.#out.push({ kind: 'removeFlow', session: session.session, flow })
  }

  /** A flow has ended by itself, or leads nowhere at the moment: its client is told. */
  end(session: HopSession, flow: number, reason: 'idle' | 'unreachable'): void {
    if (!session.flows.has(flow)) return
    if (reason === 'idle') {
      session.flows.delete(flow)
      this.#count--
      this.#release(session.session, flow)
    }
    const bytes = encodeControl({ type: 'notice', flow, reason: reason === 'idle' ? 1 : 2 })
    this.#out.push({ kind: 'sendControl', session: session.session, bytes })
  }

  /** A session is gone with all of its flows; the data plane removes them with it. */
  forget(session: HopSession): void {
    this.#count -= session.flows.size
    for (const flow of session.flows) this.#release(session.session, flow)
    this.#releaseLease(session.session)
  }

  #release(session: number, flow: number): void {
    this.#options.wireGuard?.release(session, flow)
    this.#options.meetings?.leave(session, flow)
  }

  #releaseLease(session: number): void {
    const leased = this.#leases.get(session)
    if (leased !== undefined) this.#options.tunnel?.pool.release(leased.lease)
    this.#leases.delete(session)
  }

  #hasRoom({ flows }: HopSession): boolean {
    const { maxFlows, maxFlowsPerSession } = this.#options.limits
    if (this.#count >= maxFlows) this.#note('refusedFlowLimit')
    return this.#count < maxFlows && flows.size < maxFlowsPerSession
  }

  #add({ flows }: HopSession, flow: number): void {
    flows.add(flow)
    this.#count++
  }

  #refuse(
    session: HopSession,
    number: number,
    request: ControlRequest['kind'],
    reason: (typeof REFUSAL)[keyof typeof REFUSAL],
  ): void {
    this.#answer(session.session, number, { kind: 'refused', request, reason })
  }
}
