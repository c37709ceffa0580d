// Ways to others by sockets of their own, as the data plane has them: ports that were guessed (path/punch.ts). The paths' machine finds
// such a socket; it is handed to the data plane, which calls it by an address that stands for it. Who speaks to the other there calls
// the other by its real address: what is sent and what comes is translated here.
//
// STUN is the paths' own: by such a socket it goes where it was meant to go, and from the node's own socket it still may.

import type { Command, Report, Via } from '#forward/commands.ts'
import type { PathShell } from '#platform/paths/path-shell.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import { isStun } from '#wire/stun.ts'

interface PunchedWay {
  readonly local: number
  readonly to: Address
  readonly standIn: Address
}

export class PunchedWays {
  readonly #send: (commands: readonly Command[]) => void
  readonly #byLocal = new Map<number, PunchedWay>()
  #next = 1

  constructor(send: (commands: readonly Command[]) => void) {
    this.#send = send
  }

  /** Hands the socket `local` of the shell to the data plane; false when it is none that leads to one address alone. */
  adopt(shell: PathShell, local: number, to: Address): boolean {
    if (this.#byLocal.has(local)) return true
    // Several guesses may hit: the way that is taken now takes the place of the one before, under its name, and sessions go along.
    const before = this.#to(to)
    // Of the discard-only prefix (RFC 6666): nobody has it.
    const standIn = before?.standIn ?? { host: `100::${(this.#next++ & 0xffff).toString(16)}`, port: 1 }
    const send = (_to: Address, bytes: Uint8Array) => {
      if (!this.#byLocal.has(local)) return
      this.#send([{ kind: 'sendHandshake', via: { kind: 'socket', address: { ...standIn } }, bytes }])
    }
    const socket = shell.handOver(local, send)
    if (socket === undefined) return false
    if (before !== undefined) this.#byLocal.delete(before.local)
    const { fd, port } = socket
    this.#byLocal.set(local, { local, to: { ...to }, standIn })
    this.#send([{ kind: 'openPunched', standIn, to: { ...to }, port, ...(fd !== undefined && { fd }) }])
    return true
  }

  /** The socket is of no more use. */
  close(local: number): void {
    const way = this.#byLocal.get(local)
    if (way === undefined) return
    this.#byLocal.delete(local)
    this.#send([{ kind: 'closePunched', standIn: way.standIn }])
  }

  /** Commands as the data plane is to carry them out. */
  outward(commands: readonly Command[]): readonly Command[] {
    if (this.#byLocal.size === 0) return commands
    return commands.map(command => {
      switch (command.kind) {
        case 'sendHandshake':
          if (isStun(command.bytes, 0, command.bytes.length)) return command
          return { ...command, via: this.#standIn(command.via) }
        case 'installSession':
        case 'setVia':
          return { ...command, via: this.#standIn(command.via) }
        case 'sendProbe':
          return command.via === undefined ? command : { ...command, via: this.#standIn(command.via) }
        default:
          return command
      }
    })
  }

  /** A report as others are to hear it; `undefined` when it was STUN of one of these sockets, which the shell has taken. */
  inward(report: Report, shell: PathShell | undefined): Report | undefined {
    if (this.#byLocal.size === 0) return report
    if (report.kind === 'stun') {
      const way = this.#find(report.from)
      if (way === undefined) return report
      shell?.deliver(report.bytes, way.to, way.local)
      return undefined
    }
    if (report.kind !== 'handshake' || report.from.kind !== 'socket') return report
    const way = this.#find(report.from.address)
    return way === undefined ? report : { ...report, from: { kind: 'socket', address: { ...way.to } } }
  }

  #find(standIn: Address): PunchedWay | undefined {
    for (const way of this.#byLocal.values()) if (way.standIn.host === standIn.host) return way
    return undefined
  }

  #standIn(via: Via): Via {
    const way = via.kind === 'socket' ? this.#to(via.address) : undefined
    return way === undefined ? via : { kind: 'socket', address: { ...way.standIn } }
  }

  #to(address: Address): PunchedWay | undefined {
    const name = formatAddress(address)
    for (const way of this.#byLocal.values()) if (formatAddress(way.to) === name) return way
    return undefined
  }
}
