// A page for actions that this dashboard knows by their schemas alone: what may be read is shown, what may be done is a form.

import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { callAny, type JsonSchema, type Offered } from '../api.ts'
import { changed } from '../changed.ts'
import type { Live } from '../live.ts'
import { useAction } from '../parts/action.ts'
import { Failure } from '../parts/failure.tsx'
import { spoken, Value } from '../parts/value.tsx'
import { texts } from '../texts.ts'

interface PanelProps {
  readonly live: Live
  readonly name: 'share' | 'credits' | 'devices'
  /** What the names of its actions begin with. */
  readonly groups: readonly string[]
}

export function PanelPage({ live, name, groups }: PanelProps): JSX.Element {
  const isOurs = (action: Offered) =>
    groups.some(group => action.name === group || action.name.startsWith(`${group}.`)) && action.permission !== 'owner'
  const actions = live.offered.filter(isOurs)
  const shown = actions.filter(({ permission, input }) => permission === 'read' && !needsInput(input))
  const done = actions.filter(action => !shown.includes(action))
  return (
    <>
      <h1>{texts.pages[name]}</h1>
      <p class="intro">{texts.panel.intro[name]}</p>
      {shown.map(action => (
        <Shown action={action} beat={live.status?.uptimeMs ?? 0} key={action.name} />
      ))}
      <div class="grid">
        {done.map(action => (
          <Done action={action} key={action.name} />
        ))}
      </div>
    </>
  )
}

function needsInput({ required = [] }: JsonSchema): boolean {
  return required.length > 0
}

/** @param beat changes when it is time to ask again */
function Shown({ action, beat }: { action: Offered; beat: number }): JSX.Element {
  const [value, setValue] = useState<unknown>(undefined)
  useEffect(() => void callAny(action.name, {}).then(setValue, () => {}), [action.name, beat])
  return (
    <section class="card">
      <h2>{action.summary}</h2>
      {value === undefined ? <p class="muted">{texts.loading}</p> : <Value value={value} />}
    </section>
  )
}

function Done({ action }: { action: Offered }): JSX.Element {
  const doing = useAction()
  const [values, setValues] = useState<Record<string, unknown>>({})
  const [answer, setAnswer] = useState<unknown>(undefined)
  const { properties = {}, required = [] } = action.input
  const submit = (event: Event) => {
    event.preventDefault()
    doing.run(async () => setAnswer(await callAny(action.name, values)))
  }
  return (
    <form class="card" onSubmit={submit}>
      <h2>{action.summary}</h2>
      {Object.entries(properties).map(([name, schema]) => (
        <Field
          name={name}
          schema={schema}
          isRequired={required.includes(name)}
          onValue={value => setValues(values => changed(values, name, value))}
          key={name}
        />
      ))}
      <button type="submit" class={action.permission === 'write' ? 'primary' : ''} disabled={doing.isBusy}>
        {action.permission === 'write' ? texts.panel.run : texts.panel.show}
      </button>
      <Failure doing={doing} />
      {answer !== undefined && <Value value={answer} />}
    </form>
  )
}

interface FieldProps {
  readonly name: string
  readonly schema: JsonSchema
  readonly isRequired: boolean
  readonly onValue: (value: unknown) => void
}

function Field({ name, schema, isRequired, onValue }: FieldProps): JSX.Element {
  const given = (text: string, make: (text: string) => unknown) => onValue(text === '' ? undefined : make(text))
  if (schema.type === 'boolean')
    return (
      <label class="inline">
        <input type="checkbox" onChange={event => onValue(event.currentTarget.checked)} /> <span>{spoken(name)}</span>
      </label>
    )
  if (schema.enum !== undefined)
    return (
      <label class="field">
        <span>{spoken(name)}</span>
        <select required={isRequired} onChange={event => given(event.currentTarget.value, text => text)}>
          <option value="">–</option>
          {schema.enum.map(choice => (
            <option value={choice} key={choice}>
              {choice}
            </option>
          ))}
        </select>
      </label>
    )
  return (
    <label class="field">
      <span>{spoken(name)}</span>
      {schema.type === 'number' || schema.type === 'integer' ? (
        <input
          type="number"
          min={schema.minimum}
          max={schema.maximum}
          step={schema.type === 'integer' ? 1 : 'any'}
          required={isRequired}
          onInput={event => given(event.currentTarget.value, Number)}
        />
      ) : (
        <input type="text" required={isRequired} onInput={event => given(event.currentTarget.value, text => text)} />
      )}
    </label>
  )
}
