// One key of the configuration: what it means, its value as text or as a control, and what is wrong with it.

import type { JSX } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import type { Output } from '#api/table.ts'
import { spoken } from '../format.ts'
import { texts } from '../texts.ts'

type Field = Output<'settings'>['fields'][number]
type Json = Field['value']

interface SettingFieldProps {
  readonly field: Field
  /** What it is changed to; null stands for the default, undefined for no change. */
  readonly change: Json | undefined
  readonly problem: string | undefined
  readonly isReadOnly: boolean
  readonly onChange: (value: Json | undefined) => void
  /** Whether what is typed can be read as a value at all. */
  readonly onRead: (isRead: boolean) => void
}

export function SettingField({ field, change, problem, isReadOnly, onChange, onRead }: SettingFieldProps): JSX.Element {
  const id = `setting-${field.key.replace('.', '-')}`
  const shown = change === undefined ? (field.inFile ?? field.default) : change === null ? field.default : change
  const [wrong, setWrong] = useState<string | undefined>(undefined)
  const setRead = (problem: string | undefined) => {
    setWrong(problem)
    onRead(problem === undefined)
  }
  const told = wrong ?? problem
  const isOwn = change === undefined ? field.inFile !== undefined : change !== null
  const described = told === undefined ? `${id}-meaning` : `${id}-meaning ${id}-problem`
  return (
    <div class={told === undefined ? 'setting' : 'setting is-wrong'}>
      <div class="setting-words">
        <label for={id}>{spoken(field.key.split('.')[1] ?? '')}</label>
        <p class="muted" id={`${id}-meaning`}>
          <Marked text={field.meaning} />{' '}
          {field.kind === 'list' ? texts.settings.lines : field.kind === 'structure' ? texts.settings.json : ''}
        </p>
      </div>
      <div class="setting-control">
        <fieldset class="bare" disabled={isReadOnly}>
          <Control id={id} field={field} value={shown} described={described} onChange={onChange} onWrong={setRead} />
        </fieldset>
        {told !== undefined && (
          <p class="problem" id={`${id}-problem`}>
            {told}
          </p>
        )}
        <p class="muted small row">
          <span>{texts.settings.default(plain(field.default))}</span>
          {isOwn && !isReadOnly && (
            <button type="button" class="link" onClick={() => (setRead(undefined), onChange(null))}>
              {texts.settings.reset}
              <span class="sr"> {field.key}</span>
            </button>
          )}
        </p>
      </div>
    </div>
  )
}

interface ControlProps {
  readonly id: string
  readonly field: Field
  readonly value: Json
  readonly described: string
  readonly onChange: (value: Json | undefined) => void
  readonly onWrong: (problem: string | undefined) => void
}

function Control({ id, field, value, described, onChange, onWrong }: ControlProps): JSX.Element {
  const common = { id, 'aria-describedby': described }
  switch (field.kind) {
    case 'boolean':
      return (
        <input
          {...common}
          type="checkbox"
          role="switch"
          checked={value === true}
          onChange={event => onChange(event.currentTarget.checked)}
        />
      )
    case 'choice':
      return (
        <select {...common} value={String(value)} onChange={event => onChange(event.currentTarget.value)}>
          {(field.choices ?? []).map(choice => (
            <option value={choice} key={choice}>
              {choice}
            </option>
          ))}
        </select>
      )
    case 'number':
      return (
        <input
          {...common}
          type="number"
          min={field.min}
          max={field.max}
          value={String(value)}
          onInput={event => onChange(event.currentTarget.value === '' ? null : Number(event.currentTarget.value))}
        />
      )
    case 'text':
      return (
        <input {...common} type="text" value={String(value)} onInput={event => onChange(event.currentTarget.value)} />
      )
    case 'list':
      return (
        <Lines
          {...common}
          text={(value as string[]).join('\n')}
          onText={text =>
            onChange(
              text
                .split('\n')
                .map(line => line.trim())
                .filter(line => line !== ''),
            )
          }
        />
      )
    case 'structure':
      return (
        <Lines
          {...common}
          text={JSON.stringify(value, undefined, 1)}
          onText={text => {
            try {
              onChange(JSON.parse(text) as Json)
              onWrong(undefined)
            } catch {
              onWrong(texts.settings.wrongJson)
            }
          }}
        />
      )
  }
}

/** Several lines, kept as they are typed. */
function Lines({ text, onText, ...common }: { text: string; onText: (text: string) => void; id: string }): JSX.Element {
  const [typed, setTyped] = useState(text)
  const isTyping = useRef(false)
  useEffect(() => {
    if (!isTyping.current) setTyped(text)
  }, [text])
  return (
    <textarea
      {...common}
      rows={Math.min(Math.max(typed.split('\n').length, 2), 8)}
      spellcheck={false}
      value={typed}
      onFocus={() => (isTyping.current = true)}
      onBlur={() => (isTyping.current = false)}
      onInput={event => {
        setTyped(event.currentTarget.value)
        onText(event.currentTarget.value)
      }}
    />
  )
}

/** A line of Markdown with nothing but `code` in it. */
function Marked({ text }: { text: string }): JSX.Element {
  return <>{text.split('`').map((part, i) => (i % 2 === 0 ? part : <code key={i}>{part}</code>))}</>
}

function plain(value: Json): string {
  if (value === '' || (Array.isArray(value) && value.length === 0)) return texts.settings.empty
  return typeof value === 'string' ? value : JSON.stringify(value)
}
