// Networks that devices reach through each other: what this one offers, and what a paired one offers to it.

import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import type { Output } from '#api/table.ts'
import { call } from '../api.ts'
import { texts } from '../texts.ts'
import { useAction } from './action.ts'
import { Failure } from './failure.tsx'

type Book = Output<'devices'>
type Device = Book['devices'][number]

const INTERNET = 'internet'
const words = texts.devices.networks

function nameOf(network: string): string {
  return network === INTERNET ? words.internet : network
}

/** What a paired device offers to this one. */
export function Offered({ device, onChanged }: { device: Device; onChanged: () => Promise<void> }): JSX.Element | null {
  const doing = useAction()
  if (device.offered.length === 0) return null
  const change = (network: string, isAccepted: boolean) =>
    doing.run(async () => {
      await call(isAccepted ? 'device.decline' : 'device.accept', { device: device.id, network })
      await onChanged()
    })
  return (
    <div class="group">
      <h3>{words.offered}</h3>
      {device.offered.map(({ network, isAccepted, isInUse, problem }) => (
        <div key={network}>
          <p class="row">
            <strong>{nameOf(network)}</strong>
            <span class={isInUse ? 'pill pill-good' : 'pill'}>{isInUse ? words.inUse : words.notInUse}</span>
            <button type="button" class="quiet" disabled={doing.isBusy} onClick={() => change(network, isAccepted)}>
              {isAccepted ? words.decline : words.accept}
              <span class="sr">
                {' '}
                {nameOf(network)}, {device.name}
              </span>
            </button>
          </p>
          {problem !== undefined && <p class="problem">{problem}</p>}
        </div>
      ))}
      {device.offered.some(({ network, isAccepted }) => network === INTERNET && !isAccepted) && (
        <p class="muted small">{words.internetText(device.name)}</p>
      )}
      <Failure doing={doing} />
    </div>
  )
}

/** What this device offers to others. */
export function Offers({ book, onChanged }: { book: Book; onChanged: () => Promise<void> }): JSX.Element {
  const doing = useAction()
  const [what, setWhat] = useState<'lan' | 'internet'>('lan')
  const { offers, problem } = book.own
  const offer = (event: SubmitEvent) => {
    event.preventDefault()
    const form = event.currentTarget as HTMLFormElement
    const data = new FormData(form)
    const network = what === 'internet' ? INTERNET : String(data.get('network')).trim()
    doing.run(async () => {
      await call('device.offer', { network, to: [String(data.get('to'))] })
      form.reset()
      await onChanged()
    })
  }
  const withdraw = (network: string) =>
    doing.run(async () => {
      await call('device.withdraw', { network })
      await onChanged()
    })
  return (
    <form class="card" onSubmit={offer}>
      <h2>{words.offer}</h2>
      <p class="muted">{words.offerText}</p>
      {problem !== undefined && <p class="problem">{problem}</p>}
      {offers.map(({ network, to, isSetting }) => (
        <p class="row" key={network}>
          <strong>{nameOf(network)}</strong>
          <span class="muted">{to.includes('*') ? texts.devices.allDevices : to.join(', ')}</span>
          {isSetting ? (
            <span class="muted small">{words.isSetting}</span>
          ) : (
            <button type="button" class="quiet" disabled={doing.isBusy} onClick={() => withdraw(network)}>
              {words.withdraw}
              <span class="sr"> {nameOf(network)}</span>
            </button>
          )}
        </p>
      ))}
      <label class="field">
        <span>{words.what}</span>
        <select value={what} onChange={event => setWhat(event.currentTarget.value as 'lan' | 'internet')}>
          <option value="lan">{words.lan}</option>
          <option value="internet">{words.internet}</option>
        </select>
      </label>
      {what === 'lan' && (
        <label class="field">
          <span>{words.network}</span>
          <input type="text" name="network" required maxLength={64} placeholder="192.168.1.0/24" autocomplete="off" />
        </label>
      )}
      <label class="field">
        <span>{texts.devices.forWhom}</span>
        <select name="to">
          <option value="*">{texts.devices.allDevices}</option>
          {book.devices.map(({ id, name }) => (
            <option value={id} key={id}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <button type="submit" disabled={doing.isBusy}>
        {words.do}
      </button>
      <Failure doing={doing} />
    </form>
  )
}
