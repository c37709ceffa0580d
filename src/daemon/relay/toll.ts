// What a relay takes for carrying: its price, the till that the hop machine asks, and the earnings behind it. Nothing of it is
// there while the price is 0.

import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import type { Handlers, Status } from '#api/table.ts'
import { tariffOf } from '#credit/meter.ts'
import { systemRandom } from '#crypto/random.ts'
import { Till } from '#relay/till.ts'
import type { Price } from '#wire/descriptor.ts'
import type { Config } from '../config.ts'
import { type Log, own } from '../log.ts'
import { openWallet } from '../wallet/wallet.ts'
import { walletHandlers, walletStatus } from '../wallet/wallet-desk.ts'
import type { WalletKeeper } from '../wallet/wallet-keeper.ts'
import { Earnings } from './earnings.ts'

const TICK_MS = 5_000
const MAX_HAND_INS = 64

export class Toll {
  readonly till: Till
  readonly price: Price
  readonly #earnings: Earnings
  readonly #wallet: WalletKeeper
  readonly #timer: NodeJS.Timeout
  #canWrite = true

  /** Opens the earnings of a state directory; `undefined` when carrying is free. Throws CONFIG_INVALID, ISSUER_UNREACHABLE. */
  static async open(config: Config, stateDir: string, log: Log): Promise<Toll | undefined> {
    const { price } = config.relay
    if (price === 0) return undefined
    if (config.credit.issuer === '' || config.credit.issuer_id === '')
      throw new HopliteError(
        'CONFIG_INVALID',
        'ask a price: no issuer is configured whose credits are taken',
        'set issuer and issuer_id in [credit], or price = 0 in [relay]',
      )
    // Everybody knows a relay's address.
    const wallet = openWallet(config, path.join(stateDir, 'wallet'), fetch)
    try {
      const earnings = await Earnings.open({ directory: stateDir, wallet, random: systemRandom }, Date.now())
      return new Toll(config, earnings, wallet, log)
    } catch (error) {
      await wallet.close()
      throw error
    }
  }

  private constructor(config: Config, earnings: Earnings, wallet: WalletKeeper, log: Log) {
    const milliCreditsPerGib = Math.max(1, Math.round(config.relay.price * 1_000))
    const freeKib = config.relay.free_mib * 1_024
    this.price = { milliCreditsPerGib, freeKib, issuerId: config.credit.issuer_id }
    this.#earnings = earnings
    this.#wallet = wallet
    this.till = new Till({
      tariff: tariffOf(milliCreditsPerGib / 1_000, freeKib * 1_024),
      take: token => {
        const refusal = earnings.take(token, Date.now())
        if (refusal === 'unwritten' && this.#canWrite) log.error('a token was not written down, nor taken')
        this.#canWrite = refusal !== 'unwritten'
        return refusal === undefined
      },
    })
    const tick = async () => {
      const failure = await earnings.handleDeadline(Date.now())
      if (failure === undefined) return
      log.warn('tokens were not handed in', {
        error: own(failure instanceof HopliteError ? failure.code : 'failed'),
        queued: earnings.counts().queued,
      })
    }
    this.#timer = setInterval(() => void tick(), TICK_MS).unref()
  }

  /** The wallet and the earnings in the relay's status. */
  status(): NonNullable<Status['credits']> {
    return { ...walletStatus(this.#wallet), ...this.#earnings.counts() }
  }

  /** What the relay's API says and does about earnings. */
  get handlers(): Handlers {
    return {
      ...walletHandlers(this.#wallet),
      earnings: async () => ({
        ...this.#earnings.counts(),
        days: this.#earnings.days().map(({ epoch, redeemed }) => ({ day: dayOf(epoch), redeemed })),
        ...(await this.#wallet.accountBalance().then(
          account => ({ account }),
          () => ({}),
        )),
        tokens: this.#wallet.balance().tokens,
      }),
      handIn: async () => {
        const before = this.#earnings.counts().redeemed
        for (let i = 0; i < MAX_HAND_INS && (await this.#earnings.handIn()); i++);
        return { handedIn: this.#earnings.counts().redeemed - before }
      },
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.#earnings.close()
    await this.#wallet.close()
  }
}

/** The day of an epoch, like 2026-01-05. */
function dayOf(epoch: number): string {
  return new Date(epoch * 86_400_000).toISOString().slice(0, 10)
}
