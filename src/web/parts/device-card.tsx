// One paired device: how it is reached, how fast, and what may be done with it.

import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import type { Output } from '#api/table.ts'
import { call } from '../api.ts'
import { bytes, dateAndTime, milliseconds, speed } from '../format.ts'
import { Icon } from '../icons.tsx'
import { texts } from '../texts.ts'
import { useAction } from './action.ts'
import { useRate } from './asked.ts'
import { Copy } from './copy.tsx'
import { Offered } from './device-networks.tsx'
import { Failure } from './failure.tsx'

type Device = Output<'devices'>['devices'][number]
type Echo = Output<'device.ping'>
type Open = 'rename' | 'remove' | undefined

const ECHO_MS = 5_000

interface DeviceCardProps {
  readonly device: Device
  /** When this was told of it. */
  readonly atMs: number
  readonly onChanged: () => Promise<void>
}

export function DeviceCard({ device, atMs, onChanged }: DeviceCardProps): JSX.Element {
  const doing = useAction()
  const [echo, setEcho] = useState<Echo | undefined>(undefined)
  const [open, setOpen] = useState<Open>(undefined)
  const { id, name, path, isUp } = device
  const words = texts.devices
  const received = useRate(device.rxBytes, atMs)
  const sent = useRate(device.txBytes, atMs)
  const rttMs = useRoundTrip(id, isUp)
  const ping = () => doing.run(async () => setEcho(await call('device.ping', { device: id })))
  const rename = (event: SubmitEvent) => {
    event.preventDefault()
    const name = String(new FormData(event.currentTarget as HTMLFormElement).get('name')).trim()
    doing.run(async () => {
      await call('device.rename', { device: id, name })
      setOpen(undefined)
      await onChanged()
    })
  }
  const remove = () =>
    doing.run(async () => {
      await call('device.remove', { device: id })
      await onChanged()
    })
  const toggle = (what: Open) => setOpen(open === what ? undefined : what)
  return (
    <li class="card">
      <div class="row">
        <h2>
          <Icon name="devices" /> {name}
        </h2>
        <span class={isUp ? 'pill pill-good' : 'pill'}>{path === undefined ? words.noPath : words.paths[path]}</span>
      </div>
      <Copy text={device.ipv6} />
      <p class="facts">
        <span>
          <Icon name="down" size={16} /> <span class="sr">{texts.home.down} </span>
          {bytes(device.rxBytes)} <span class="muted">{speed(received)}</span>
        </span>
        <span>
          <Icon name="up" size={16} /> <span class="sr">{texts.home.up} </span>
          {bytes(device.txBytes)} <span class="muted">{speed(sent)}</span>
        </span>
        <span class="muted">
          {texts.home.roundTrip} <strong>{milliseconds(rttMs)}</strong>
        </span>
      </p>
      <p class="muted small">
        {words.pairedAt(dateAndTime(device.pairedMs))} {device.isConfirmed ? '' : words.unconfirmed}
      </p>
      <Offered device={device} onChanged={onChanged} />
      <div class="buttons">
        <button type="button" disabled={doing.isBusy} onClick={ping}>
          {words.ping}
          <span class="sr"> {name}</span>
        </button>
        <button type="button" aria-expanded={open === 'rename'} onClick={() => toggle('rename')}>
          {words.rename}
          <span class="sr"> {name}</span>
        </button>
        <button type="button" aria-expanded={open === 'remove'} onClick={() => toggle('remove')}>
          {words.remove}
          <span class="sr"> {name}</span>
        </button>
      </div>
      {echo !== undefined && (
        <p role="status">
          {echo.rttMs === undefined ? words.noEcho : words.echo(milliseconds(echo.rttMs), echo.to ?? '')}
        </p>
      )}
      {open === 'rename' && (
        <form class="buttons" onSubmit={rename}>
          <label class="field">
            <span>{words.newName}</span>
            <input type="text" name="name" required maxLength={32} defaultValue={name} />
          </label>
          <button type="submit" class="primary" disabled={doing.isBusy}>
            {words.renameDo}
          </button>
        </form>
      )}
      {open === 'remove' && (
        <div class="buttons">
          <p>{words.removeSure}</p>
          <button type="button" class="primary" disabled={doing.isBusy} onClick={remove}>
            {words.removeDo(name)}
          </button>
        </div>
      )}
      <Failure doing={doing} />
    </li>
  )
}

/** How long a word to the device and back takes, asked while somebody looks; nothing while there is no tunnel. */
function useRoundTrip(device: string, isUp: boolean): number | undefined {
  const [ms, setMs] = useState<number | undefined>(undefined)
  useEffect(() => {
    if (!isUp) return setMs(undefined)
    const ask = () => {
      if (document.hidden) return
      call('device.ping', { device }).then(
        ({ rttMs }) => setMs(rttMs),
        () => setMs(undefined),
      )
    }
    ask()
    const timer = setInterval(ask, ECHO_MS)
    return () => clearInterval(timer)
  }, [device, isUp])
  return ms
}
