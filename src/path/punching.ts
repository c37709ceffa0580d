// Punching for one agent: begun again whenever what is known has changed, ended when a direct path is there; the sockets that
// were opened for it are closed, except the one that became the path.

import type { Candidate, NatBehaviour } from '#wire/path-offer.ts'
import { type Base, isPrivate } from './base.ts'
import type { Checklist } from './checklist.ts'
import type { Ground } from './ground.ts'
import { PUNCH_SOCKETS, Punch, type PunchProbe } from './punch.ts'

/** Sockets are kept this long after it ended, for the other side's nomination. */
const KEPT_MS = 3_000

export class Punching {
  readonly #peer: number
  readonly #ground: Ground
  readonly #checklist: Checklist
  #punch: Punch | undefined
  /** What the peer had said when that began. */
  #about = ''
  #sockets: Base[] = []
  #closeMs = Number.POSITIVE_INFINITY

  constructor(peer: number, ground: Ground, checklist: Checklist) {
    this.#peer = peer
    this.#ground = ground
    this.#checklist = checklist
  }

  /** Begins, unless it is under way with the same knowledge; false when nothing was begun. */
  begin(theirs: NatBehaviour, candidates: readonly Candidate[], now: number): boolean {
    const base = this.#mainSocket()
    const targets = candidates
      .filter(({ kind, address: { host } }) => kind === 'serverReflexive' && !isPrivate(host) && !host.includes(':'))
      .map(({ address }) => address)
      // The newest mapping comes first in what is offered, and is the likeliest to be open last.
      .toReversed()
    const about = JSON.stringify([theirs, targets])
    if (base === undefined || (this.#punch !== undefined && this.#about === about)) return false
    this.#about = about
    this.#closeUnused()
    const start = Buffer.from(this.#ground.random(4)).readUInt32LE()
    this.#punch = Punch.begin(this.#ground.nat(), theirs, base, targets, start, now)
    return this.#punch !== undefined
  }

  addSocket(base: Base): void {
    this.#sockets.push(base)
    this.#punch?.addSocket(base)
  }

  removeBase(local: number): void {
    this.#sockets = this.#sockets.filter(base => base.local !== local)
  }

  /** A direct path is there. */
  end(now: number): void {
    this.#punch = undefined
    if (this.#sockets.length > 1) this.#closeMs = Math.min(this.#closeMs, now + KEPT_MS)
  }

  close(): void {
    this.#punch = undefined
    this.#closeMs = Number.POSITIVE_INFINITY
    for (const base of this.#sockets.splice(0)) this.#ground.closeSocket(base)
  }

  deadline(): number {
    return Math.min(this.#closeMs, this.#punch?.deadline() ?? Number.POSITIVE_INFINITY)
  }

  /** What to send now. */
  handleDeadline(now: number): readonly PunchProbe[] {
    if (this.#closeMs <= now) this.#closeUnused()
    const punch = this.#punch
    if (punch === undefined || punch.deadline() > now) return []
    const { probes, needsSockets } = punch.handleDeadline(now)
    if (needsSockets) this.#ground.openSockets(this.#peer, PUNCH_SOCKETS)
    if (punch.deadline() === Number.POSITIVE_INFINITY) {
      this.#punch = undefined
      if (this.#sockets.length > 0) this.#closeMs = now + KEPT_MS
    }
    return probes
  }

  #mainSocket(): Base | undefined {
    for (const base of this.#ground.bases(this.#peer)) if (base.kind === 'socket' && base.family === 4) return base
    return undefined
  }

  #closeUnused(): void {
    this.#closeMs = Number.POSITIVE_INFINITY
    const inUse = new Set<Base>()
    for (const { state, base } of this.#checklist.pairs()) if (state === 'valid') inUse.add(base)
    for (const base of this.#sockets) {
      if (inUse.has(base)) continue
      this.#checklist.removeBase(base.local)
      this.#ground.closeSocket(base)
    }
    this.#sockets = this.#sockets.filter(base => inUse.has(base))
  }
}
