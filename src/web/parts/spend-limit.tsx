// What is paid to relays at most.

import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { call } from '../api.ts'
import { texts } from '../texts.ts'
import { useAction } from './action.ts'
import { Failure } from './failure.tsx'

const KEY = 'credit.spend_limit'
const words = texts.credits

export function SpendLimit({ spent }: { spent: number }): JSX.Element {
  const doing = useAction()
  const [limit, setLimit] = useState<number | undefined>(undefined)
  const [isSaved, setSaved] = useState(false)
  useEffect(() => {
    void call('settings', {}).then(
      ({ fields }) => {
        const field = fields.find(({ key }) => key === KEY)
        setLimit(Number(field?.inFile ?? field?.default ?? 0))
      },
      () => {},
    )
  }, [])
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
      <label class="field">
        <span>{words.limitField}</span>
        <input
          type="number"
          name="limit"
          min={0}
          max={1_000_000_000}
          required
          defaultValue={String(limit ?? 0)}
          key={limit}
          onInput={() => setSaved(false)}
        />
      </label>
      <p class="muted">{words.limitSpent(spent)}</p>
      <button type="submit" disabled={doing.isBusy || limit === undefined}>
        {words.limitSave}
      </button>
      {isSaved && <p role="status">{words.limitSaved}</p>}
      <Failure doing={doing} />
    </form>
  )
}
