// Getting through when exactly one side has an endpoint-dependent NAT and the other filters by port (RFC 5128 §3.4): the port that
// the one's NAT opens towards the other is known to nobody, so the other guesses it.
//
//   guess   our mapping is one for all: checks from our socket to ports of the peer's NAT, foretold ones first (port prediction)
//   open    ours differ: 256 sockets each send checks to the peer, so that its guesses have something to hit (birthday method);
//           where our ports follow a rule, prediction is given a while before
//
// 256 open ports among 64,512 and 500 guesses a second: half of the tries hit within 0.4 s, 95 % within 1.5 s.
// Bounds: 256 sockets, 2,048 guesses a round, 10 datagrams each 20 ms; over all rounds the probe budget of the address.

import type { Address } from '#wire/address.ts'
import type { NatBehaviour } from '#wire/path-offer.ts'
import type { Base } from './base.ts'
import { guessPorts } from './port-prediction.ts'

export const PUNCH_SOCKETS = 256
const MAX_GUESSES = 2_048
const TICK_MS = 20
const PER_TICK = 10
/** Ordinary checks come first; guesses follow when the other side has opened its sockets. */
const OPEN_DELAY_MS = 350
const PREDICTION_MS = 1_200
const GUESS_DELAY_MS = 550
/** Each socket sends this often, so that a lost datagram and a slow start of the other side do no harm. */
const PASSES_MS = [0, 1_000, 2_500]
const MAX_TARGETS = 2
/** After this long the sockets that are there are all that will be. */
const SOCKETS_LATE_MS = 900

export interface PunchProbe {
  readonly base: Base
  readonly to: Address
}

type Role =
  | { readonly kind: 'guess'; readonly base: Base; readonly ports: { host: string; next: Iterator<number, void> }[] }
  | { readonly kind: 'open'; readonly targets: readonly Address[]; isAsked: boolean; sent: number; pass: number }

export class Punch {
  readonly #role: Role
  readonly #startMs: number
  readonly #sockets: Base[] = []
  #guesses = 0
  #dueMs: number

  /**
   * @param targets the peer's reflexive addresses
   * @param start any integer: where the spread of guesses begins
   */
  private constructor(role: Role, startMs: number) {
    this.#role = role
    this.#startMs = startMs
    this.#dueMs = startMs
  }

  /** The part that this side has; `undefined` where the method does not apply. */
  static begin(
    ours: NatBehaviour,
    theirs: NatBehaviour,
    base: Base,
    targets: readonly Address[],
    start: number,
    now: number,
  ): Punch | undefined {
    if ((ours.mapping === 'dependent') === (theirs.mapping === 'dependent') || targets.length === 0) return undefined
    if (ours.mapping === 'dependent') {
      const delayMs = OPEN_DELAY_MS + (ours.step === 0 ? 0 : PREDICTION_MS)
      const some = targets.slice(0, MAX_TARGETS)
      return new Punch({ kind: 'open', targets: some, isAsked: false, sent: 0, pass: 0 }, now + delayMs)
    }
    const hosts = [...new Set(targets.map(({ host }) => host))].slice(0, MAX_TARGETS)
    const ports = hosts.map(host => ({ host, next: guessPorts(theirs, start) }))
    return new Punch({ kind: 'guess', base, ports }, now + GUESS_DELAY_MS)
  }

  deadline(): number {
    return this.#dueMs
  }

  /** A socket that was asked for is there. */
  addSocket(base: Base): void {
    if (this.#sockets.length < PUNCH_SOCKETS) this.#sockets.push(base)
  }

  /** What to send now, and whether sockets are to be opened. */
  handleDeadline(now: number): { readonly probes: readonly PunchProbe[]; readonly needsSockets: boolean } {
    if (now < this.#dueMs) return { probes: [], needsSockets: false }
    this.#dueMs = now + TICK_MS
    const role = this.#role
    if (role.kind === 'guess') return { probes: this.#guess(role), needsSockets: false }
    if (!role.isAsked) {
      role.isAsked = true
      return { probes: [], needsSockets: true }
    }
    return { probes: this.#open(role, now), needsSockets: false }
  }

  #guess(role: Extract<Role, { kind: 'guess' }>): PunchProbe[] {
    const probes: PunchProbe[] = []
    for (let i = 0; i < PER_TICK; i++) {
      const each = role.ports[this.#guesses % role.ports.length]
      const port = each?.next.next().value
      if (each === undefined || port === undefined || this.#guesses === MAX_GUESSES) {
        this.#dueMs = Number.POSITIVE_INFINITY
        break
      }
      this.#guesses++
      probes.push({ base: role.base, to: { host: each.host, port } })
    }
    return probes
  }

  #open(role: Extract<Role, { kind: 'open' }>, now: number): PunchProbe[] {
    const probes: PunchProbe[] = []
    const { targets } = role
    while (probes.length < PER_TICK && role.sent < this.#sockets.length * targets.length) {
      const base = this.#sockets[Math.floor(role.sent / targets.length)]
      const to = targets[role.sent % targets.length]
      role.sent++
      if (base !== undefined && to !== undefined) probes.push({ base, to })
    }
    const isAll = this.#sockets.length === PUNCH_SOCKETS || now - this.#startMs >= SOCKETS_LATE_MS
    if (isAll && role.sent === this.#sockets.length * targets.length) {
      role.pass++
      role.sent = 0
      const nextMs = PASSES_MS[role.pass]
      this.#dueMs = nextMs === undefined ? Number.POSITIVE_INFINITY : Math.max(now + TICK_MS, this.#startMs + nextMs)
    }
    return probes
  }
}
