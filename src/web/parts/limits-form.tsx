// The limits of what is lent, to change, with what they come to as they are changed.

import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { texts } from '../texts.ts'
import type { LimitsOfPeer } from './limits.ts'
import { preview } from './limits.ts'

const words = texts.share.limit
const NIGHT = { from: 22, to: 6 }
const HOURS = Array.from({ length: 24 }, (_, hour) => hour)
const MOST_MBIT = 100_000
const MOST_GIB = 1_000_000
const MOST_CLIENTS = 100_000
const MOST_PRICE = 1_000_000

interface LimitsFieldsProps {
  readonly limits: LimitsOfPeer
  readonly onChange: (limits: LimitsOfPeer) => void
  readonly isReadOnly: boolean
}

export function LimitsFields({ limits, onChange, isReadOnly }: LimitsFieldsProps): JSX.Element {
  const { mbit, gib, clients, hours, price } = limits
  return (
    <>
      <fieldset class="bare change" disabled={isReadOnly}>
        <Figure
          name={words.rate}
          value={mbit}
          min={0.1}
          max={MOST_MBIT}
          step="any"
          onValue={mbit => onChange({ ...limits, mbit })}
        />
        <Figure
          name={words.volume}
          value={gib}
          min={0.01}
          max={MOST_GIB}
          step="any"
          onValue={gib => onChange({ ...limits, gib })}
        />
        <Figure
          name={words.clients}
          value={clients}
          min={1}
          max={MOST_CLIENTS}
          step={1}
          onValue={clients => onChange({ ...limits, clients })}
        />
        <label class="field">
          <span>{words.when}</span>
          <select
            value={hours === undefined ? 'always' : 'between'}
            onChange={event =>
              onChange({ ...limits, hours: event.currentTarget.value === 'always' ? undefined : NIGHT })
            }
          >
            <option value="always">{words.always}</option>
            <option value="between">{words.between}</option>
          </select>
        </label>
        {price !== undefined && (
          <Figure
            name={words.price}
            value={price}
            min={0}
            max={MOST_PRICE}
            step="any"
            onValue={price => onChange({ ...limits, price })}
          />
        )}
        {hours !== undefined && (
          <>
            <Hour
              name={words.from}
              value={hours.from}
              not={hours.to}
              onValue={from => onChange({ ...limits, hours: { ...hours, from } })}
            />
            <Hour
              name={words.to}
              value={hours.to}
              not={hours.from}
              onValue={to => onChange({ ...limits, hours: { ...hours, to } })}
            />
          </>
        )}
      </fieldset>
      <p class="preview" role="status">
        {isSound(limits) && preview(limits)}
      </p>
    </>
  )
}

export function isSound({ mbit, gib, clients }: LimitsOfPeer): boolean {
  return mbit >= 0.1 && gib >= 0.01 && Number.isInteger(clients) && clients >= 1
}

interface FigureProps {
  readonly name: string
  readonly value: number
  readonly min: number
  readonly max: number
  readonly step: number | 'any'
  readonly onValue: (value: number) => void
}

function Figure({ name, value, min, max, step, onValue }: FigureProps): JSX.Element {
  // What is being typed may be no number yet.
  const [typed, setTyped] = useState(String(value))
  useEffect(() => {
    if (Number(typed) !== value) setTyped(String(value))
  }, [value])
  return (
    <label class="field">
      <span>{name}</span>
      <input
        type="number"
        required
        min={min}
        max={max}
        step={step}
        value={typed}
        onInput={event => {
          setTyped(event.currentTarget.value)
          onValue(Number(event.currentTarget.value))
        }}
      />
    </label>
  )
}

interface HourProps {
  readonly name: string
  readonly value: number
  /** The hour at the other end: from it to itself would be no time at all. */
  readonly not: number
  readonly onValue: (hour: number) => void
}

function Hour({ name, value, not, onValue }: HourProps): JSX.Element {
  return (
    <label class="field">
      <span>{name}</span>
      <select value={value} onChange={event => onValue(Number(event.currentTarget.value))}>
        {HOURS.map(hour => (
          <option value={hour} disabled={hour === not} key={hour}>
            {words.hour(hour)}
          </option>
        ))}
      </select>
    </label>
  )
}
