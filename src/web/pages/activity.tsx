// Activity: what happened in plain words, and the log itself one click deeper.

import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import type { EventData } from '#api/table.ts'
import { timeOfDay } from '../format.ts'
import { Icon } from '../icons.tsx'
import type { Live } from '../live.ts'
import { PageHead } from '../parts/page-head.tsx'
import { texts } from '../texts.ts'

type Line = EventData<'log'>
const isProblem = ({ level }: Line) => level === 'warn' || level === 'error'

export function ActivityPage({ live }: { live: Live }): JSX.Element {
  const [isLog, setLog] = useState(false)
  const [onlyProblems, setOnlyProblems] = useState(false)
  const lines = live.lines.filter(line => !onlyProblems || isProblem(line)).toReversed()
  return (
    <>
      <PageHead page="activity">{texts.activity.intro}</PageHead>
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
          {isLog
            ? lines.map(line => <LogLine line={line} key={line.number} />)
            : gathered(lines).map(({ line, count }) => <Told line={line} count={count} key={line.number} />)}
        </ol>
      )}
    </>
  )
}

function wordsOf({ event, fields }: Line): string {
  return texts.events[event]?.(fields) ?? `${event}.`
}

/** The same thing said several times in a row is said once, with how often. */
function gathered(lines: readonly Line[]): { readonly line: Line; count: number }[] {
  const groups: { readonly line: Line; count: number }[] = []
  for (const line of lines) {
    const last = groups.at(-1)
    if (last !== undefined && wordsOf(last.line) === wordsOf(line)) last.count++
    else groups.push({ line, count: 1 })
  }
  return groups
}

function Told({ line, count }: { line: Line; count: number }): JSX.Element {
  return (
    <li class={`line line-${line.level}`}>
      <span class="line-mark">
        <Icon name={isProblem(line) ? 'warning' : 'check'} size={18} />
        <span class="sr">{texts.activity.levels[line.level]}: </span>
      </span>
      <span class="line-words">
        {wordsOf(line)}
        {count > 1 && <span class="line-count">{texts.activity.times(count)}</span>}
      </span>
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
