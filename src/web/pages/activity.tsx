// Activity: what happened in plain words, and the log itself one click deeper.

import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import type { EventData } from '#api/table.ts'
import { timeOfDay } from '../format.ts'
import { Icon } from '../icons.tsx'
import type { Live } from '../live.ts'
import { texts } from '../texts.ts'

type Line = EventData<'log'>
const isProblem = ({ level }: Line) => level === 'warn' || level === 'error'

export function ActivityPage({ live }: { live: Live }): JSX.Element {
  const [isLog, setLog] = useState(false)
  const [onlyProblems, setOnlyProblems] = useState(false)
  const lines = live.lines.filter(line => !onlyProblems || isProblem(line)).toReversed()
  return (
    <>
      <h1>{texts.pages.activity}</h1>
      <p class="intro">{texts.activity.intro}</p>
      <div class="row toolbar">
        <label class="inline">
          <span>{texts.activity.filter}</span>
          <select
            value={String(onlyProblems)}
            onChange={event => setOnlyProblems(event.currentTarget.value === 'true')}
          >
            <option value="false">{texts.activity.all}</option>
            <option value="true">{texts.activity.problems}</option>
          </select>
        </label>
        <button type="button" aria-pressed={isLog} onClick={() => setLog(!isLog)}>
          {isLog ? texts.activity.hideLog : texts.activity.showLog}
        </button>
      </div>
      {lines.length === 0 ? (
        <section class="card empty">
          <Icon name="activity" size={40} />
          <p>{texts.activity.none}</p>
        </section>
      ) : (
        <ol class={isLog ? 'card lines log' : 'card lines'} tabIndex={0} aria-label={texts.pages.activity}>
          {lines.map(line => (isLog ? <LogLine line={line} key={line.number} /> : <Told line={line} key={line.number} />))}
        </ol>
      )}
    </>
  )
}

function Told({ line }: { line: Line }): JSX.Element {
  const words = texts.events[line.event]?.(line.fields) ?? `${line.event}.`
  return (
    <li class={`line line-${line.level}`}>
      <span class="line-mark">
        <Icon name={isProblem(line) ? 'warning' : 'check'} size={18} />
        <span class="sr">{texts.activity.levels[line.level]}: </span>
      </span>
      <span class="line-words">{words}</span>
      <time dateTime={new Date(line.at).toISOString()}>{timeOfDay(line.at)}</time>
    </li>
  )
}

function LogLine({ line }: { line: Line }): JSX.Element {
  const fields = Object.entries(line.fields).map(([name, value]) => ` ${name}=${value}`)
  return (
    <li class={`line-${line.level}`}>
      {timeOfDay(line.at)} {line.level} {line.component}: {line.event}
      {fields}
    </li>
  )
}
