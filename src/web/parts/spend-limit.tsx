// What is paid to relays at most.

import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import { call } from '../api.ts'
import { texts } from '../texts.ts'
import { useAction } from './action.ts'
import { useAsked } from './asked.ts'
import { Failure } from './failure.tsx'
import { Trouble } from './trouble.tsx'

const KEY = 'credit.spend_limit'
const words = texts.credits

export function SpendLimit({ spent }: { spent: number }): JSX.Element {
  const doing = useAction()
  const { value: settings } = useAsked('settings')
  const [isSaved, setSaved] = useState(false)
  const field = settings?.fields.find(({ key }) => key === KEY)
  const limit = field === undefined ? undefined : Number(field.inFile ?? field.default)
  const isReadOnly = settings === undefined || settings.problem !== undefined
  const save = (event: SubmitEvent) => {
    event.preventDefault()
    const value = Number(new FormData(event.currentTarget as HTMLFormElement).get('limit'))
    doing.run(async () => {
      await call('settings.save', { values: { [KEY]: value } })
      setSaved(true)
    })
  }
  return (
    <form class="card" onSubmit={save}>
      <h2>{words.limit}</h2>
      <p class="muted">{words.limitText}</p>
      <Trouble title={texts.settings.readOnly} wrong={settings ?? {}} />
      <label class="field">
        <span>{words.limitField}</span>
        <input
          type="number"
          name="limit"
          min={0}
          max={1_000_000_000}
          required
          disabled={isReadOnly}
          defaultValue={String(limit ?? 0)}
          key={limit}
          onInput={() => setSaved(false)}
        />
      </label>
      <p class="muted">{words.limitSpent(spent)}</p>
      <button type="submit" disabled={doing.isBusy || isReadOnly}>
        {words.limitSave}
      </button>
      {isSaved && <p role="status">{words.limitSaved}</p>}
      <Failure doing={doing} />
    </form>
  )
}
