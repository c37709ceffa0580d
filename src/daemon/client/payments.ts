// Paying for routes: sees the commands that open and close sessions with relays, knows what each relay asks for, and lets the
// purse pay it out of the wallet. Also keeps the wallet filled from the account at the issuer.

import path from 'node:path'
import { tariffOf } from '#credit/meter.ts'
import { Purse } from '#credit/purse.ts'
import { systemRandom } from '#crypto/random.ts'
import type { Command, Report } from '#forward/commands.ts'
import { monotonicMs } from '#platform/clock.ts'
import type { Layer } from '#route/layer.ts'
import type { Price } from '#wire/descriptor.ts'
import { encodeToken } from '#wire/token.ts'
import { Backoff } from '../backoff.ts'
import type { Config } from '../config.ts'
import type { Log } from '../log.ts'
import { type Lack, Shortage } from '../shortage.ts'
import { openWallet } from '../wallet/wallet.ts'
import type { WalletKeeper } from '../wallet/wallet-keeper.ts'
import { type Dial, issuerWay } from './issuer-way.ts'

/** Below this many tokens more are drawn from the account, this many at a time. */
const LOW = 64
const DRAW = 128
const TICK_MS = 1_000
const REFILL_MS = 30_000
const MAX_REFILL_MS = 15 * 60_000

/** Layers that one way, or all ways of a route, consist of, and the session at whose echo all of them have carried. */
export interface PaidRoute {
  readonly layers: readonly Layer[]
  readonly end: number
}

export interface PaymentsOptions {
  readonly findRoute: (session: number) => PaidRoute | undefined
  /** What the relay with this key asks for; undefined when nothing. */
  readonly priceOf: (hopKey: Uint8Array) => Price | undefined
  /** Runs something on the routes and carries out what follows. */
  readonly run: (input: (now: number) => void) => void
  readonly send: (...commands: Command[]) => void
  /** Where there are routes to ask the issuer through. */
  readonly dial?: Dial
  readonly log: Log
}

export class Payments {
  readonly wallet: WalletKeeper
  readonly #options: PaymentsOptions
  readonly #limit: number
  readonly #purse: Purse
  readonly #timer: NodeJS.Timeout
  #refillAtMs = 0
  readonly #backoff = new Backoff({ firstMs: 2 * REFILL_MS, mostMs: MAX_REFILL_MS, random: systemRandom })
  #isRefilling = false
  #told: string | undefined
  readonly #shortage = new Shortage()

  /** Opens the wallet of a state directory; `undefined` without an issuer: then relays that ask for a price are not used. */
  static open(config: Config, stateDir: string, options: PaymentsOptions): Payments | undefined {
    const { credit } = config
    if (credit.issuer === '' || credit.issuer_id === '') return undefined
    const wallet = openWallet(config, path.join(stateDir, 'wallet'), issuerWay(config, options.dial))
    const limit = credit.spend_limit === 0 ? Number.POSITIVE_INFINITY : credit.spend_limit
    return new Payments(options, wallet, limit)
  }

  private constructor(options: PaymentsOptions, wallet: WalletKeeper, limit: number) {
    this.#options = options
    this.wallet = wallet
    this.#limit = limit
    this.#purse = new Purse({ show: () => wallet.show(), limit, random: systemRandom })
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
  }

  /** Credits that were paid since the start. */
  get paid(): number {
    return this.#purse.tokens
  }

  /** Why something that should be paid is not, in words for the user; undefined while all is. */
  get problem(): string | undefined {
    if (!this.wallet.isWritten) return 'the wallet cannot be written, and relays are not paid'
    switch (this.#lack) {
      case 'empty':
        return 'the wallet is empty, and relays that ask for credits stop carrying'
      case 'limitReached':
        return `the limit of ${this.#limit} credits is spent, and relays stop carrying`
      default:
        return undefined
    }
  }

  /** What to do about the problem. */
  get advice(): string {
    if (!this.wallet.isWritten) return 'make room on the disk where the state is'
    return this.#lack === 'empty'
      ? 'hoplite wallet redeem VOUCHER, or hoplite wallet topup'
      : 'start again with a higher one: hoplite down, then hoplite up --spend-limit CREDITS'
  }

  get #lack(): Lack | undefined {
    return this.#shortage.look(this.#purse.problem, this.wallet.balance().tokens, monotonicMs())
  }

  /** Commands on their way to the data plane: sessions that begin and end. */
  handleCommands(commands: readonly Command[], now: number): void {
    for (const command of commands) {
      if (command.kind === 'installSession') this.#open(command.session, now)
      if (command.kind === 'removeSession') this.#purse.close(command.session)
    }
    this.#carryOut()
  }

  handleReport(report: Report, now: number): void {
    if (report.kind === 'sessionUse') this.#purse.handleUse(report.session, report.sent, report.received, now)
    else if (report.kind === 'echo') this.#handleEcho(report.session, now)
    else return
    this.#carryOut()
  }

  /** Writes the wallet down and gives it back. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.wallet.close()
  }

  #open(session: number, now: number): void {
    const layer = this.#layer(session)
    const price = layer && this.#options.priceOf(layer.hopKey)
    if (price !== undefined)
      this.#purse.open(session, tariffOf(price.milliCreditsPerGib / 1_000, price.freeKib * 1_024), now)
  }

  /** An echo of a route's end came back through every relay of the route. */
  #handleEcho(session: number, now: number): void {
    const route = this.#options.findRoute(session)
    if (route?.end !== session) return
    this.#purse.handleEcho(
      route.layers.map(layer => layer.session),
      now,
    )
  }

  #carryOut(): void {
    for (const action of this.#purse.take()) {
      switch (action.kind) {
        case 'watch':
          this.#options.send({ kind: 'limitSession', session: action.session, bytes: action.bytes })
          break
        case 'settle':
          this.wallet.settle(action.token)
          break
        case 'doubt':
          this.wallet.doubt(action.token)
          break
        case 'pay': {
          const { session, acceptedBytes } = action
          const token = encodeToken(action.token)
          this.#options.run(now => {
            const settle = (answer: Parameters<Parameters<Layer['ask']>[2]>[0]) => {
              const receipt = answer?.kind === 'pay' ? answer : answer && ('refused' as const)
              this.#purse.handleAnswer(session, receipt, now)
            }
            const layer = this.#layer(session)
            if (layer === undefined) settle(undefined)
            else layer.ask({ kind: 'pay', token, acceptedBytes }, now, settle)
          })
        }
      }
    }
  }

  #tick(): void {
    this.#options.run(now => {
      this.#purse.tick(now)
      this.#carryOut()
      if (now >= this.#refillAtMs) void this.#refill(now)
    })
    const lack = this.#lack
    if (lack !== this.#told && lack !== undefined)
      this.#options.log.warn('a relay is not paid', { empty: lack === 'empty' })
    this.#told = lack
  }

  /** Draws tokens while the account has credits; a failure waits longer each time. */
  async #refill(now: number): Promise<void> {
    const { wallet } = this
    const { log } = this.#options
    if (this.#isRefilling) return
    this.#isRefilling = true
    let waitMs = REFILL_MS
    try {
      await wallet.resume()
      await wallet.renew()
      const wanted = wallet.balance().tokens < LOW ? Math.min(DRAW, await wallet.accountBalance()) : 0
      if (wanted > 0) await wallet.withdraw(wanted)
      // An account that has nothing is asked less and less: each time may cost a route.
      const isDry = wanted === 0 && wallet.balance().tokens < LOW
      if (isDry) waitMs = this.#backoff.fail()
      else this.#backoff.succeed()
    } catch (error) {
      waitMs = this.#backoff.fail()
      log.warn('the wallet was not filled', { retryMs: waitMs, unknown: !(error instanceof Error) })
    } finally {
      this.#isRefilling = false
      this.#refillAtMs = now + waitMs
    }
  }

  #layer(session: number): Layer | undefined {
    return this.#options.findRoute(session)?.layers.find(layer => layer.session === session)
  }
}
