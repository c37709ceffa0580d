// Commands on their way to the data plane, held back until the firewall lets our sockets reach the relays that they speak to.
// A relay that is not spoken to any more is shut out with the next one that is let through: moving to a spare waits for nothing.

import type { Command } from '#forward/commands.ts'
import type { Address } from '#wire/address.ts'
import type { TunnelNetwork } from '../entry/tunnel-network.ts'
import { type Log, own } from '../log.ts'

export interface RelayGateOptions {
  /** Undefined: there is no firewall. */
  readonly firewall: Pick<TunnelNetwork, 'allow' | 'reaches'> | undefined
  /** The first hops of every way in use or being built, by now. */
  readonly relays: () => readonly Address[]
  readonly carryOut: (commands: readonly Command[]) => void
  readonly log: Log
}

export class RelayGate {
  readonly #options: RelayGateOptions
  #sending: Promise<void> | undefined

  constructor(options: RelayGateOptions) {
    this.#options = options
  }

  /** Sends commands in the order in which they came. */
  send(commands: readonly Command[]): void {
    const { firewall, relays, carryOut } = this.#options
    if (commands.length === 0) return
    const wanted = relays()
    if (firewall === undefined || (this.#sending === undefined && firewall.reaches(wanted))) return carryOut(commands)
    const sending: Promise<void> = (this.#sending ?? Promise.resolve())
      .then(() => (firewall.reaches(wanted) ? undefined : firewall.allow(wanted)))
      .catch((error: Error) => this.#options.log.error('relays not let through', { error: own(error.message) }))
      .then(() => {
        carryOut(commands)
        if (this.#sending === sending) this.#sending = undefined
      })
    this.#sending = sending
  }

  /** Shuts out at once what is not spoken to any more. */
  tighten(): void {
    const { firewall, relays, log } = this.#options
    if (firewall === undefined) return
    const sending: Promise<void> = (this.#sending ?? Promise.resolve())
      .then(() => firewall.allow(relays()))
      .catch((error: Error) => log.error('relays not shut out', { error: own(error.message) }))
      .then(() => {
        if (this.#sending === sending) this.#sending = undefined
      })
    this.#sending = sending
  }

  /** Resolves when nothing waits. */
  async settled(): Promise<void> {
    while (this.#sending !== undefined) await this.#sending
  }
}
