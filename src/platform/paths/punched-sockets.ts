// The sockets of a data plane that each lead to one address: ports that were guessed (path/punch.ts). Sessions name such a way by an
// address that stands for it, so they know nothing of sockets.
//
// Bound: 64 sockets, the oldest is closed first.

import type { Command } from '#forward/commands.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import type { DatagramSocket, Datagrams } from '../datagrams.ts'

const MAX_PUNCHED = 64

type OpenPunched = Extract<Command, { kind: 'openPunched' }>
type Receive = (buffer: Uint8Array, offset: number, length: number, from: Address) => void

interface Punched {
  readonly socket: DatagramSocket
  readonly standIn: Address
  readonly to: Address
}

export class PunchedSockets {
  readonly #datagrams: Datagrams
  readonly #receive: Receive
  readonly #sockets = new Map<string, Punched>()
  /** By the host that stands for it: each has another. */
  readonly #byHost = new Map<string, Punched>()

  constructor(datagrams: Datagrams, receive: Receive) {
    this.#datagrams = datagrams
    this.#receive = receive
  }

  open({ standIn, to, port, fd }: OpenPunched): void {
    this.close(standIn)
    for (const oldest of this.#sockets.values()) {
      if (this.#sockets.size < MAX_PUNCHED) break
      this.close(oldest.standIn)
    }
    const host = to.host.includes(':') ? '::' : '0.0.0.0'
    const plan = { bind: { host, port }, isBusy: true, ...(fd !== undefined && { fd }) }
    const socket = this.#datagrams.open(plan, {
      onDatagram: (buffer, offset, length, from) => {
        // The router lets nobody else through, as a rule.
        if (from.port === to.port && from.host === to.host) this.#receive(buffer, offset, length, standIn)
      },
    })
    const punched = { socket, standIn, to }
    this.#sockets.set(formatAddress(standIn), punched)
    this.#byHost.set(standIn.host, punched)
  }

  close(standIn: Address): void {
    const punched = this.#sockets.get(formatAddress(standIn))
    if (punched === undefined) return
    this.#sockets.delete(formatAddress(standIn))
    this.#byHost.delete(standIn.host)
    punched.socket.close()
  }

  /** Sends by the socket that the address stands for; false when it stands for none. */
  send(address: Address, buffer: Uint8Array, offset: number, length: number): boolean {
    if (this.#byHost.size === 0) return false
    const punched = this.#byHost.get(address.host)
    if (punched === undefined) return false
    punched.socket.send(buffer, offset, length, punched.to)
    return true
  }
}
