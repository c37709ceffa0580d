// A client's purse: pays the relays of its routes, a token a quantum each, from one wallet and within one limit. A pure
// machine: counts, echoes and answers go in, payments come out.
//
//   session ──► watched ──(count says that a token is due)──► paying ──(answer)──► watched
//                  ▲                                            └──(refused, or no answer)──► given up
//                  └──(again, every second)── waiting: relay does not carry, no token left, limit reached
//
// A relay is paid while probes of the client come back from the end of a route that it is part of. Each session has its own
// delay, so that the hops of a route are not paid at the same moment.

import type { Random } from '#crypto/random.ts'
import { Payer, type Tariff } from './meter.ts'
import type { WalletToken } from './wallet.ts'

/** Without an echo for this long a relay does not carry. Probes go out every 600 ms. */
const IDLE_MS = 3_000
const MAX_DELAY_SHARE = 0.25

export interface PurseOptions {
  /** A token of the wallet, to be settled or doubted; undefined when there is none. */
  readonly show: () => WalletToken | undefined
  /** Tokens that may be paid in all. */
  readonly limit: number
  readonly random: Random
}

export type PurseAction =
  /** Say when the session has used so many bytes. */
  | { readonly kind: 'watch'; readonly session: number; readonly bytes: number }
  | { readonly kind: 'pay'; readonly session: number; readonly token: WalletToken; readonly acceptedBytes: number }
  /** A token that its relay took. */
  | { readonly kind: 'settle'; readonly token: WalletToken }
  /** A token that its relay did not take, or perhaps did not get. */
  | { readonly kind: 'doubt'; readonly token: WalletToken }

/** Why a payment that is due is not made. */
export type PurseProblem = 'empty' | 'limitReached' | 'relayIsIdle'

interface Paid {
  readonly payer: Payer
  under: WalletToken | undefined
  hasGivenUp: boolean
  lastEchoMs: number
  problem: PurseProblem | undefined
}

export class Purse {
  readonly #options: PurseOptions
  readonly #sessions = new Map<number, Paid>()
  #actions: PurseAction[] = []
  #tokens = 0

  constructor(options: PurseOptions) {
    this.#options = options
  }

  /** Tokens that were paid, all sessions together. */
  get tokens(): number {
    return this.#tokens
  }

  /** What keeps the purse from paying a relay that it should pay now; undefined when nothing does. */
  get problem(): PurseProblem | undefined {
    const problems = [...this.#sessions.values()].map(({ problem }) => problem)
    return (['empty', 'limitReached', 'relayIsIdle'] as const).find(problem => problems.includes(problem))
  }

  /** A session with a relay that asks for payment. There are as many as the client has sessions. */
  open(session: number, tariff: Tariff, now: number): void {
    const share = ((this.#options.random(1)[0] ?? 0) / 255) * MAX_DELAY_SHARE
    const payer = new Payer(tariff, share)
    const paid: Paid = { payer, under: undefined, hasGivenUp: false, lastEchoMs: now, problem: undefined }
    this.#sessions.set(session, paid)
    this.#consider(session, paid, now)
  }

  close(session: number): void {
    const paid = this.#sessions.get(session)
    if (paid?.under !== undefined) this.#actions.push({ kind: 'doubt', token: paid.under })
    this.#sessions.delete(session)
  }

  /** The data plane's count of a session. */
  handleUse(session: number, sent: number, accepted: number, now: number): void {
    const paid = this.#sessions.get(session)
    if (paid === undefined) return
    paid.payer.handleCounts(sent, accepted)
    this.#consider(session, paid, now)
  }

  /** A probe came back through the relays of these sessions. */
  handleEcho(sessions: readonly number[], now: number): void {
    for (const session of sessions) {
      const paid = this.#sessions.get(session)
      if (paid === undefined) continue
      paid.lastEchoMs = now
      if (paid.problem === 'relayIsIdle') this.#consider(session, paid, now)
    }
  }

  /** What a relay answered to its payment; `undefined` when it did not answer. */
  handleAnswer(session: number, answer: { readonly outwardBytes: number } | 'refused' | undefined, now: number): void {
    const paid = this.#sessions.get(session)
    if (paid?.under === undefined) return
    if (typeof answer === 'object') {
      paid.payer.handleReceipt(answer.outwardBytes)
      this.#actions.push({ kind: 'settle', token: paid.under })
    } else {
      paid.payer.handleRefusal()
      paid.hasGivenUp = true
      this.#tokens--
      this.#actions.push({ kind: 'doubt', token: paid.under })
    }
    paid.under = undefined
    this.#consider(session, paid, now)
  }

  /** Looks again at payments that could not be made; to be called every second or so. */
  tick(now: number): void {
    for (const [session, paid] of this.#sessions) if (paid.problem !== undefined) this.#consider(session, paid, now)
  }

  /** What is to be done since the last call, in order. */
  take(): PurseAction[] {
    const actions = this.#actions
    this.#actions = []
    return actions
  }

  #consider(session: number, paid: Paid, now: number): void {
    const { payer } = paid
    paid.problem = undefined
    if (paid.under !== undefined || paid.hasGivenUp) return
    payer.handleProbe(now - paid.lastEchoMs < IDLE_MS)
    switch (payer.state()) {
      case 'enough':
        this.#actions.push({ kind: 'watch', session, bytes: payer.dueBytes() })
        return
      case 'relayIsIdle':
        paid.problem = 'relayIsIdle'
        return
      case 'pay': {
        if (this.#tokens >= this.#options.limit) {
          paid.problem = 'limitReached'
          return
        }
        const token = this.#options.show()
        if (token === undefined) {
          paid.problem = 'empty'
          return
        }
        this.#tokens++
        paid.under = token
        this.#actions.push({ kind: 'pay', session, token, ...payer.pay() })
      }
    }
  }
}
