// Devices: one's own machines. Pairing by words or a picture, how each is reached, phones with a plain WireGuard app.

import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import type { Output } from '#api/table.ts'
import { call } from '../api.ts'
import { Icon } from '../icons.tsx'
import { has, type Live } from '../live.ts'
import { useAction } from '../parts/action.ts'
import { useAsked } from '../parts/asked.ts'
import { Carried } from '../parts/carried.tsx'
import { Copy } from '../parts/copy.tsx'
import { DeviceCard } from '../parts/device-card.tsx'
import { Offers } from '../parts/device-networks.tsx'
import { Failure } from '../parts/failure.tsx'
import { PageHead } from '../parts/page-head.tsx'
import { Pairing } from '../parts/pairing.tsx'
import { Waiting } from '../parts/waiting.tsx'
import { texts } from '../texts.ts'

type Book = Output<'devices'>
const ASK_MS = 2_000
const HOUR_MS = 3_600_000

export function DevicesPage({ live }: { live: Live }): JSX.Element {
  const { value: book, wrong, atMs, ask } = useAsked('devices', ASK_MS)
  return (
    <>
      <PageHead page="devices">{texts.devices.intro}</PageHead>
      <Pairing onPaired={ask} />
      {book === undefined ? (
        <Waiting wrong={wrong} />
      ) : (
        <>
          {book.devices.length === 0 ? (
            <section class="card empty">
              <Icon name="devices" size={40} />
              <p>{texts.devices.none}</p>
              <p class="small">{texts.devices.noneText}</p>
            </section>
          ) : (
            <ul class="device-list" aria-label={texts.devices.paired}>
              {book.devices.map(device => (
                <DeviceCard device={device} atMs={atMs} onChanged={ask} key={device.id} />
              ))}
            </ul>
          )}
          <div class="grid">
            <Own book={book} />
            <Allow book={book} />
            {has(live, 'device.offer') && <Offers book={book} onChanged={ask} />}
            <Phones book={book} onChanged={ask} />
          </div>
        </>
      )}
    </>
  )
}

function Own({ book }: { book: Book }): JSX.Element {
  const { name, ipv6, ipv4 } = book.own
  const doing = useAction()
  return (
    <section class="card card-wide">
      <h2>
        {texts.devices.own}: {name}
      </h2>
      <p class="muted">{book.interface === undefined ? texts.devices.noInterface : texts.devices.reach(name)}</p>
      <div class="copies">
        <Copy text={ipv6} />
        {ipv4 !== undefined && <Copy text={ipv4} />}
      </div>
      <div class="row">
        <p class="muted small">{texts.devices.rotateText}</p>
        <button
          type="button"
          class="quiet"
          disabled={doing.isBusy}
          onClick={() => doing.run(() => call('device.rotate', {}))}
        >
          <Icon name="refresh" size={16} /> {texts.devices.rotate}
        </button>
      </div>
      <Failure doing={doing} />
    </section>
  )
}

/** A port of this device, opened to others for a while. */
function Allow({ book }: { book: Book }): JSX.Element {
  const doing = useAction()
  const [said, setSaid] = useState<string | undefined>(undefined)
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    const data = new FormData(event.currentTarget as HTMLFormElement)
    const port = Number(data.get('port'))
    const hours = Number(data.get('hours'))
    const device = String(data.get('device'))
    doing.run(async () => {
      await call('device.allow', { device, port, forMs: hours * HOUR_MS })
      setSaid(hours === 0 ? texts.devices.closedPort(port) : texts.devices.openedPort(port, hours))
    })
  }
  return (
    <form class="card" onSubmit={submit}>
      <h2>{texts.devices.allow}</h2>
      <p class="muted">{texts.devices.allowText}</p>
      <label class="field">
        <span>{texts.devices.port}</span>
        <input type="number" name="port" min={1} max={65_535} required />
      </label>
      <label class="field">
        <span>{texts.devices.forWhom}</span>
        <select name="device">
          <option value="*">{texts.devices.allDevices}</option>
          {[...book.devices, ...book.phones].map(({ id, name }) => (
            <option value={id} key={id}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label class="field">
        <span>{texts.devices.forHowLong}</span>
        <select name="hours">
          {([1, 8, 24, 0] as const).map(hours => (
            <option value={hours} key={hours}>
              {texts.devices.hours(hours)}
            </option>
          ))}
        </select>
      </label>
      <button type="submit" disabled={doing.isBusy}>
        {texts.devices.allowDo}
      </button>
      {said !== undefined && <p role="status">{said}</p>}
      <Failure doing={doing} />
    </form>
  )
}

function Phones({ book, onChanged }: { book: Book; onChanged: () => Promise<void> }): JSX.Element {
  const doing = useAction()
  const [file, setFile] = useState<string | undefined>(undefined)
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    const form = event.currentTarget as HTMLFormElement
    const data = new FormData(form)
    doing.run(async () => {
      const name = String(data.get('name')).trim()
      const made = await call('device.addPhone', { name, endpoint: String(data.get('endpoint')).trim() })
      setFile(made.file)
      form.reset()
      await onChanged()
    })
  }
  return (
    <form class="card card-wide" onSubmit={submit}>
      <h2>{texts.devices.phones}</h2>
      <p class="muted">{texts.devices.phonesText}</p>
      {book.phones.map(({ id, name, isUp, ipv6 }) => (
        <p class="row" key={id}>
          <strong>{name}</strong>
          <span class="muted wrap">{ipv6}</span>
          <span class={isUp ? 'pill pill-good' : 'pill'}>{isUp ? texts.devices.phoneUp : texts.devices.phoneDown}</span>
          <button
            type="button"
            class="quiet"
            disabled={doing.isBusy}
            onClick={() => doing.run(() => call('device.remove', { device: id }).then(onChanged))}
          >
            {texts.devices.remove}
            <span class="sr"> {name}</span>
          </button>
        </p>
      ))}
      <div class="change">
        <label class="field">
          <span>{texts.devices.phoneName}</span>
          <input type="text" name="name" required maxLength={32} pattern="[a-z0-9\-]{1,32}" />
        </label>
        <label class="field">
          <span>{texts.devices.endpoint}</span>
          <input type="text" name="endpoint" required maxLength={260} placeholder="home.example.org" />
        </label>
      </div>
      <button type="submit" disabled={doing.isBusy}>
        {texts.devices.addPhone}
      </button>
      <Failure doing={doing} />
      {file !== undefined && (
        <div role="status">
          <p>{texts.devices.phoneFile}</p>
          <Carried text={file} hidesText />
          <button type="button" onClick={() => setFile(undefined)}>
            {texts.devices.phoneDone}
          </button>
        </div>
      )}
    </form>
  )
}
