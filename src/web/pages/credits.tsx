// Credits: what the wallet holds, how it is filled, what came and went; what a relay earned.

import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import type { Output } from '#api/table.ts'
import { call } from '../api.ts'
import { dateAndTime } from '../format.ts'
import { Icon } from '../icons.tsx'
import { has, type Live } from '../live.ts'
import { Account } from '../parts/account.tsx'
import { useAction } from '../parts/action.ts'
import { useAsked } from '../parts/asked.ts'
import { Carried } from '../parts/carried.tsx'
import { Failure } from '../parts/failure.tsx'
import { PageHead } from '../parts/page-head.tsx'
import { SpendLimit } from '../parts/spend-limit.tsx'
import { Waiting } from '../parts/waiting.tsx'
import { texts } from '../texts.ts'

type Wallet = Output<'wallet'>
type TopUp = Output<'topUp'>
type Order = TopUp['orders'][number]

const ASK_MS = 3_000
const words = texts.credits

export function CreditsPage({ live }: { live: Live }): JSX.Element {
  const { value: wallet, wrong, ask } = useAsked('wallet', ASK_MS)
  return (
    <>
      <PageHead page="credits">{words.intro}</PageHead>
      {wallet === undefined ? (
        <Waiting wrong={wrong} />
      ) : (
        <>
          <div class="grid">
            <Balance wallet={wallet} />
            <Buy onChanged={ask} />
            <Voucher onChanged={ask} />
            <GiveBack wallet={wallet} onChanged={ask} />
            <SpendLimit spent={live.status?.counters['credits.paid'] ?? 0} />
            <Account wallet={wallet} onChanged={ask} />
          </div>
          {has(live, 'earnings') && <Earnings onChanged={ask} />}
          <History wallet={wallet} />
        </>
      )}
    </>
  )
}

function Balance({ wallet }: { wallet: Wallet }): JSX.Element {
  return (
    <section class="card card-wide card-figure" aria-live="polite">
      <h2>
        <Icon name="credits" /> {words.balance}
      </h2>
      <p class="figure">{words.amount(wallet.tokens)}</p>
      {wallet.withdrawing > 0 && <p>{words.withdrawing(wallet.withdrawing)}</p>}
      {wallet.doubtful > 0 && <p>{words.doubtful(wallet.doubtful)}</p>}
      <p class="muted">{wallet.tokens === 0 ? words.empty : words.balanceText}</p>
    </section>
  )
}

function Voucher({ onChanged }: { onChanged: () => Promise<void> }): JSX.Element {
  const doing = useAction()
  const [credits, setCredits] = useState<number | undefined>(undefined)
  const redeem = (event: SubmitEvent) => {
    event.preventDefault()
    const form = event.currentTarget as HTMLFormElement
    const code = String(new FormData(form).get('code')).trim()
    doing.run(async () => {
      setCredits((await call('redeemVoucher', { code })).credits)
      form.reset()
      await onChanged()
    })
  }
  return (
    <form class="card" onSubmit={redeem}>
      <h2>{words.voucher}</h2>
      <label class="field">
        <span>{words.code}</span>
        <input type="text" name="code" required maxLength={64} autocomplete="off" />
      </label>
      <button type="submit" class="primary" disabled={doing.isBusy}>
        {words.redeem}
      </button>
      {credits !== undefined && <p role="status">{words.redeemed(credits)}</p>}
      <Failure doing={doing} />
    </form>
  )
}

/** Offers of the issuer, orders that wait for money, and what was paid. */
function Buy({ onChanged }: { onChanged: () => Promise<void> }): JSX.Element {
  const doing = useAction()
  const [answer, setAnswer] = useState<TopUp | undefined>(undefined)
  const ask = (offer?: string) =>
    doing.run(async () => {
      const told = await call('topUp', offer === undefined ? {} : { offer })
      // Taking an offer answers without the others.
      setAnswer(before => ({ ...told, offers: offer === undefined ? told.offers : (before?.offers ?? []) }))
      await onChanged()
    })
  return (
    <section class="card">
      <h2>{words.buy}</h2>
      <p class="muted">{words.buyText}</p>
      <div class="buttons">
        <button type="button" disabled={doing.isBusy} onClick={() => ask()}>
          {answer === undefined ? words.showOffers : words.checkPaid}
        </button>
      </div>
      {answer !== undefined && (
        <div role="status" class="stack">
          {answer.received > 0 && <p>{words.received(answer.received)}</p>}
          {answer.offers.length === 0 && answer.orders.length === 0 && <p class="muted">{words.noOffers}</p>}
          {answer.offers.map(({ id, credits, price, unit }) => (
            <button type="button" disabled={doing.isBusy} onClick={() => ask(id)} key={id}>
              {words.offer(words.amount(credits), price, unit)}
            </button>
          ))}
          {answer.orders.map(order => (
            <OpenOrder order={order} key={order.id} />
          ))}
        </div>
      )}
      <Failure doing={doing} />
    </section>
  )
}

function OpenOrder({ order }: { order: Order }): JSX.Element {
  return (
    <div class="stack">
      <p>{words.order(words.amount(order.credits), order.price, dateAndTime(order.expiresMs))}</p>
      <Carried text={order.address} />
    </div>
  )
}

function GiveBack({ wallet, onChanged }: { wallet: Wallet; onChanged: () => Promise<void> }): JSX.Element {
  const doing = useAction()
  const [said, setSaid] = useState<string | undefined>(undefined)
  const give = (event: SubmitEvent) => {
    event.preventDefault()
    const form = event.currentTarget as HTMLFormElement
    const count = Number(new FormData(form).get('count'))
    doing.run(async () => {
      const { taken, account } = await call('deposit', { count })
      setSaid(words.givenBack(taken, account))
      form.reset()
      await onChanged()
    })
  }
  return (
    <form class="card" onSubmit={give}>
      <h2>{words.giveBack}</h2>
      <p class="muted">{words.giveBackText}</p>
      <label class="field">
        <span>{words.count}</span>
        <input type="number" name="count" min={1} max={Math.max(1, wallet.tokens)} required />
      </label>
      <button type="submit" disabled={doing.isBusy || wallet.tokens === 0}>
        {words.giveBackDo}
      </button>
      {said !== undefined && <p role="status">{said}</p>}
      <Failure doing={doing} />
    </form>
  )
}

function Earnings({ onChanged }: { onChanged: () => Promise<void> }): JSX.Element {
  const doing = useAction()
  const { value, ask } = useAsked('earnings', ASK_MS)
  const handIn = () =>
    doing.run(async () => {
      await call('handIn', {})
      await ask()
      await onChanged()
    })
  if (value === undefined) return <Waiting />
  return (
    <section class="card">
      <div class="row">
        <h2>
          <Icon name="share" /> {words.earnings}
        </h2>
        <button type="button" disabled={doing.isBusy || value.queued === 0} onClick={handIn}>
          {words.handIn}
        </button>
      </div>
      <p class="figure">{words.amount(value.redeemed)}</p>
      <p class="row muted">
        <span>{words.queued(value.queued)}</span>
        <span>{words.account(value.account)}</span>
        {value.refused > 0 && <span>{words.refused(value.refused)}</span>}
      </p>
      {value.days.map(({ day, redeemed }) => (
        <p class="row" key={day}>
          <span>{day}</span>
          <strong>{words.amount(redeemed)}</strong>
        </p>
      ))}
      <Failure doing={doing} />
    </section>
  )
}

function History({ wallet }: { wallet: Wallet }): JSX.Element {
  const entries = wallet.history.toReversed()
  return (
    <section class="card">
      <h2>{words.history}</h2>
      {entries.length === 0 && <p class="muted">{words.noHistory}</p>}
      <ul class="plain history">
        {entries.map(({ atMs, kind, credits }, i) => (
          <li key={`${atMs}-${i}`}>
            <span>{words.kinds[kind] ?? kind}</span>
            <time class="muted" dateTime={new Date(atMs).toISOString()}>
              {dateAndTime(atMs)}
            </time>
            <strong>{words.amount(credits)}</strong>
          </li>
        ))}
      </ul>
    </section>
  )
}
