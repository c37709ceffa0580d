// What a hop decides: whom to answer (`hop-sessions.ts`), which flows to keep (`hop-flows.ts`), which requests to carry out. A pure
// machine: the data plane's reports and the time go in, commands for the data plane come out of `take`.

import type { Random } from '#crypto/random.ts'
import type { Command, Report } from '#forward/commands.ts'
import type { HopKeys } from '#session/hop-handshake.ts'
import type { Address } from '#wire/address.ts'
import { type ControlAnswer, type ControlRequest, decodeControl, FLOW_PURPOSE, REFUSAL } from '#wire/control.ts'
import { HOP_HANDSHAKE } from '#wire/packet-type.ts'
import { type FlowCounter, HopFlows, type HopFlowsOptions } from './hop-flows.ts'
import { type HopSession, HopSessions, type SessionCounter } from './hop-sessions.ts'
import type { Till } from './till.ts'

const SWEEP_MS = 30_000
const FLOW_IDLE_MS = 300_000

/** Read each time: whoever owns them may change them. */
export interface HopLimits {
  readonly maxSessions: number
  readonly maxFlows: number
  readonly maxFlowsPerSession: number
}

export interface HopOptions extends HopFlowsOptions {
  readonly keys: HopKeys
  readonly limits: HopLimits
  readonly random: Random
  /** Which of the data plane's workers is to own the next session; always the first without this. */
  readonly place?: () => number
  /** Whether this hop carries applications' streams and datagrams out. */
  readonly isExit: boolean
  /** Where clients pay; undefined when carrying is free. */
  readonly till?: Till
}

/** A request that needs the network to be answered: the shell carries it out and calls `answer`. */
export interface ExitRequest {
  readonly session: number
  readonly number: number
  readonly request: Extract<ControlRequest, { kind: 'open' | 'openStream' }>
}

export type HopCounter = SessionCounter | FlowCounter | 'dropNotInitiation' | 'dropBadControl' | 'refusedRequests'

export class Hop {
  readonly counters = new Map<HopCounter, number>()
  readonly #options: HopOptions
  readonly #sessions: HopSessions
  readonly #flows: HopFlows
  readonly #reportRequests = new Map<number, { session: number; number: number }>()
  readonly #commands: Command[] = []
  #exitRequests: ExitRequest[] = []
  #ended: number[] = []
  #nextSweepMs: number

  constructor(options: HopOptions, now: number) {
    this.#options = options
    const { keys, limits, random, place, till } = options
    const out = this.#commands
    this.#flows = new HopFlows(
      options,
      out,
      (session, number, answer) => this.answer(session, number, answer),
      name => this.#count(name),
    )
    this.#sessions = new HopSessions(
      {
        ...{ keys, random, out, maxSessions: () => limits.maxSessions },
        ...(place && { place }),
        count: name => this.#count(name),
        onOpened: ({ session }) => {
          if (till !== undefined) out.push(till.open(session))
        },
        onRemoved: session => {
          till?.close(session.session)
          this.#flows.forget(session)
          this.#ended.push(session.session)
        },
      },
      now,
    )
    this.#nextSweepMs = now + SWEEP_MS
  }

  get sessions(): number {
    return this.#sessions.size
  }

  get flows(): number {
    return this.#flows.count
  }

  /** Whether a client is there that came by this session of ours with a relay. */
  serves(session: number): boolean {
    return this.#sessions.serves(session)
  }

  handleReport(report: Report, now: number): void {
    switch (report.kind) {
      case 'handshake':
        this.#commands.push({ kind: 'grantHandshakes', count: 1 })
        if (report.bytes[0] !== HOP_HANDSHAKE.initiation) return this.#count('dropNotInitiation')
        return this.#sessions.handleInitiation(report.bytes, report.from, now)
      case 'confirmed':
        return this.#sessions.confirm(report.session)
      case 'control':
        return this.#handleControl(report.session, report.bytes, now)
      case 'flowEnded':
        return this.#end(report.session, report.flow, report.reason)
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
      case 'sessionsLost':
        return this.#lose(report.sessions)
      default:
        return
    }
  }

  /** Answers an exit request. An answer to a session that has gone is dropped. */
  answer(session: number, number: number, answer: ControlAnswer): void {
    const entry = this.#sessions.find(session)
    if (entry === undefined) return
    if (answer.kind === 'refused') this.#count('refusedRequests')
    this.#commands.push({ kind: 'sendControl', session, bytes: entry.answers.answer(number, answer) })
  }

  /** Opens the flow of an exit request to the address that was resolved and allowed. */
  openDatagramFlow(session: number, number: number, flow: number, address: Address, first: Uint8Array): void {
    const entry = this.#sessions.find(session)
    if (entry === undefined) return
    this.#flows.open(entry, number, flow, address, undefined, first)
  }

  /** Ends every flow that the gate admitted, and tells the clients: nothing is lent at this time. */
  endWireGuard(): void {
    for (const { session, flow } of this.#options.wireGuard?.all() ?? []) {
      this.#commands.push({ kind: 'removeFlow', session, flow })
      this.#end(session, flow, 'idle')
    }
  }

  /** When `handleDeadline` has something to do. */
  deadline(): number {
    return this.#nextSweepMs
  }

  handleDeadline(now: number): void {
    if (now < this.#nextSweepMs) return
    this.#nextSweepMs = now + SWEEP_MS
    this.#sessions.expire(now)
    this.#commands.push({ kind: 'sweep', idleMs: FLOW_IDLE_MS })
  }

  /** The commands decided since the last call, in order. */
  take(): Command[] {
    return this.#commands.splice(0)
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

  #handleControl(session: number, bytes: Uint8Array, now: number): void {
    const entry = this.#sessions.find(session)
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

  #carryOut(session: HopSession, number: number, request: ControlRequest, now: number): void {
    switch (request.kind) {
      case 'ping':
        return this.answer(session.session, number, { kind: 'ping' })
      case 'close':
        this.#flows.close(session, request.flow)
        return this.answer(session.session, number, { kind: 'close' })
      case 'report': {
        if (this.#reportRequests.size >= this.#options.limits.maxSessions) return
        const id = session.session * 0x1_0000 + number
        this.#reportRequests.set(id, { session: session.session, number })
        this.#commands.push({ kind: 'reportSession', request: id, session: session.session })
        return
      }
      case 'open':
        if (request.purpose === FLOW_PURPOSE.hop) return this.#flows.openToHop(session, number, request, now)
        if (request.purpose === FLOW_PURPOSE.wireguard)
          return this.#flows.openToWireGuard(session, number, request, now)
        break
      case 'openTunnel':
        return this.#flows.openTunnel(session, number, request.flow, request.mtu)
      case 'meet':
        return this.#flows.meet(session, number, request, now)
      case 'other':
        return this.#flows.tellOther(session, number, request.flow)
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

  #end(session: number, flow: number, reason: 'idle' | 'unreachable'): void {
    const entry = this.#sessions.find(session)
    if (entry !== undefined) this.#flows.end(entry, flow, reason)
  }

  #refuse(
    session: HopSession,
    number: number,
    request: ControlRequest['kind'],
    reason: (typeof REFUSAL)[keyof typeof REFUSAL],
  ): void {
    this.answer(session.session, number, { kind: 'refused', request, reason })
  }

  /** The data plane has these sessions no longer: nothing will be reported of them. */
  #lose(sessions: readonly number[]): void {
    const lost = new Set(sessions)
    for (const [request, { session }] of this.#reportRequests)
      if (lost.has(session)) this.#reportRequests.delete(request)
    for (const session of sessions) this.#sessions.lose(session)
  }

  #count(name: HopCounter): void {
    this.counters.set(name, (this.counters.get(name) ?? 0) + 1)
  }
}
