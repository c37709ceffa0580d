// My VPN: a WireGuard file of a provider, through one peer, so that the provider does not learn one's address.

import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { callAny } from '../api.ts'
import { Icon } from '../icons.tsx'
import type { Live } from '../live.ts'
import { useAction } from '../parts/action.ts'
import { Failure } from '../parts/failure.tsx'
import { Value } from '../parts/value.tsx'
import { texts } from '../texts.ts'

const MAX_FILE_BYTES = 64 * 1024

export function VpnPage({ live }: { live: Live }): JSX.Element {
  const doing = useAction()
  const [status, setStatus] = useState<unknown>(undefined)
  const [isOver, setOver] = useState(false)
  const ask = () => void callAny('entry.status', {}).then(setStatus, () => {})
  useEffect(ask, [live.status?.uptimeMs])
  const start = (file: File | null | undefined) => {
    if (file === null || file === undefined) return
    doing.run(async () => {
      if (file.size > MAX_FILE_BYTES) throw new Error(texts.vpn.tooLong)
      const text = await file.text()
      if (!/^\s*\[Interface\]/im.test(text)) throw new Error(texts.vpn.wrongFile)
      await callAny('entry.start', { config: text })
      ask()
    })
  }
  return (
    <>
      <h1>{texts.pages.vpn}</h1>
      <p class="intro">{texts.vpn.intro}</p>
      <label
        class={isOver ? 'card drop is-over' : 'card drop'}
        onDragOver={event => (event.preventDefault(), setOver(true))}
        onDragLeave={() => setOver(false)}
        onDrop={event => {
          event.preventDefault()
          setOver(false)
          start(event.dataTransfer?.files[0])
        }}
      >
        <Icon name="vpn" size={44} />
        <strong>{texts.vpn.drop}</strong>
        <span class="muted">{texts.vpn.choose}</span>
        <input
          type="file"
          accept=".conf"
          class="sr"
          disabled={doing.isBusy}
          onChange={event => start(event.currentTarget.files?.[0])}
        />
      </label>
      <Failure doing={doing} />
      {status !== undefined && (
        <section class="card">
          <Value value={status} />
          <button
            type="button"
            disabled={doing.isBusy}
            onClick={() => doing.run(() => callAny('entry.stop', {}).then(ask))}
          >
            {texts.vpn.stop}
          </button>
        </section>
      )}
    </>
  )
}
