// What a relay asks of its clients: a free allowance, then a token for each quantum, one quantum on trust. A pure machine: it
// says how much the data plane may carry for each session, and what became of each payment.
//
//   session ──► limit: free allowance
//   payment ──► token taken? ──► how much was carried? (asked of the data plane) ──► new limit, answer

import { Payee, type Tariff } from '#credit/meter.ts'
import type { Command } from '#forward/commands.ts'

/** Payments of one session that wait for the data plane's count; more are refused. */
const MAX_WAITING = 8

export interface TillOptions {
  readonly tariff: Tariff
  /** Takes a token for good, so that it is good here only once; false when it is not worth anything. */
  readonly take: (token: Uint8Array) => boolean
}

export interface Payment {
  readonly number: number
  readonly acceptedBytes: number
}

/** What a payment comes to: the request that brought it, and what the answer says. */
export interface Receipt {
  readonly number: number
  readonly outwardBytes: number
}

interface Account {
  readonly payee: Payee
  readonly waiting: Payment[]
}

export class Till {
  readonly #options: TillOptions
  readonly #accounts = new Map<number, Account>()
  /** Tokens that were taken, and those that were not. */
  taken = 0
  refused = 0

  constructor(options: TillOptions) {
    this.#options = options
  }

  /** A session begins: what it may carry. As many are known here as the hop has sessions. */
  open(session: number): Command {
    const payee = new Payee(this.#options.tariff)
    this.#accounts.set(session, { payee, waiting: [] })
    return { kind: 'limitSession', session, bytes: payee.allowance() }
  }

  /** A session has ended. */
  close(session: number): void {
    this.#accounts.delete(session)
  }

  /** A client pays: what to ask of the data plane, or `undefined` when the token is refused. */
  pay(session: number, token: Uint8Array, payment: Payment): Command | undefined {
    const account = this.#accounts.get(session)
    if (account === undefined || account.waiting.length >= MAX_WAITING || !this.#options.take(token)) {
      this.refused++
      return undefined
    }
    this.taken++
    account.waiting.push(payment)
    return { kind: 'reportUse', session }
  }

  /** The data plane's count of a session: the new limit, and the receipts of what was waiting for it. */
  handleUse(session: number, outward: number, inward: number): { command: Command; receipts: Receipt[] } | undefined {
    const account = this.#accounts.get(session)
    if (account === undefined || account.waiting.length === 0) return undefined
    const { payee, waiting } = account
    payee.handleCounts(outward, inward)
    const receipts = waiting.splice(0).map(({ number, acceptedBytes }) => {
      payee.handleToken(acceptedBytes)
      return { number, outwardBytes: outward }
    })
    const bytes = outward + inward + payee.allowance()
    return { command: { kind: 'limitSession', session, bytes }, receipts }
  }
}
