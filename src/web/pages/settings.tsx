// Settings: every key of the configuration file, checked by the daemon while it is typed.

import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import type { Input, Output } from '#api/table.ts'
import { call } from '../api.ts'
import { changed } from '../changed.ts'
import { spoken } from '../format.ts'
import { Icon } from '../icons.tsx'
import { useAction } from '../parts/action.ts'
import { useAsked } from '../parts/asked.ts'
import { Failure } from '../parts/failure.tsx'
import { Notice } from '../parts/notice.tsx'
import { PageHead } from '../parts/page-head.tsx'
import { SettingField } from '../parts/setting-field.tsx'
import { Trouble } from '../parts/trouble.tsx'
import { Waiting } from '../parts/waiting.tsx'
import { texts } from '../texts.ts'

type Values = Input<'settings.save'>['values']
type Settings = Output<'settings'>

const CHECK_MS = 300

export function SettingsPage(): JSX.Element {
  const doing = useAction()
  const { value: settings, wrong, ask } = useAsked('settings')
  const [changes, setChanges] = useState<Values>({})
  const [problems, setProblems] = useState<ReadonlyMap<string, string>>(new Map())
  /** Keys whose text is no value yet. */
  const [unread, setUnread] = useState<ReadonlySet<string>>(new Set())
  /** Fields are made anew in the next round: what was typed into them is gone. */
  const [round, setRound] = useState(0)
  /** What waits for the next start, of what was saved. */
  const [later, setLater] = useState<readonly string[]>()
  useEffect(() => {
    if (Object.keys(changes).length === 0) return setProblems(new Map())
    const timer = setTimeout(() => {
      call('settings.check', { values: changes }).then(
        ({ problems }) => setProblems(new Map(problems.map(({ key, message }) => [key, message]))),
        () => {},
      )
    }, CHECK_MS)
    return () => clearTimeout(timer)
  }, [changes])
  const head = <PageHead page="settings">{texts.settings.intro}</PageHead>
  if (settings === undefined)
    return (
      <>
        {head}
        <Waiting wrong={wrong} />
      </>
    )
  const change = (key: string, value: Values[string] | undefined) => {
    setLater(undefined)
    setChanges(before => changed(before, key, value))
  }
  const mark = (key: string, isRead: boolean) =>
    setUnread(before => new Set(isRead ? [...before].filter(other => other !== key) : [...before, key]))
  const begin = () => {
    setChanges({})
    setUnread(new Set())
    setRound(round => round + 1)
  }
  const save = () =>
    doing.run(async () => {
      const { problems, later = [] } = await call('settings.save', { values: changes })
      setProblems(new Map(problems.map(({ key, message }) => [key, message])))
      if (problems.length > 0) return
      await ask()
      begin()
      setLater(later)
    })
  const count = Object.keys(changes).length
  const wrongs = new Set([...problems.keys(), ...unread]).size
  const isReadOnly = settings.problem !== undefined
  return (
    <>
      {head}
      {isReadOnly ? (
        <Trouble title={texts.settings.readOnly} wrong={settings} />
      ) : (
        <p class="muted small wrap">
          {settings.exists ? texts.settings.file(settings.file) : texts.settings.noFile(settings.file)}
        </p>
      )}
      {later !== undefined && (
        <Notice kind="good" title={texts.settings.save}>
          <p>{texts.settings.saved(later)}</p>
        </Notice>
      )}
      <div class="sections">
        {[...sectionsOf(settings)].map(([section, fields], i) => (
          <details class="card section" open={i < 2} key={section}>
            <summary>
              <h2>{texts.settings.sections[section] ?? spoken(section)}</h2>
              <SetHere count={fields.filter(({ inFile }) => inFile !== undefined).length} />
              <code>[{section}]</code>
            </summary>
            {fields.map(field => (
              <SettingField
                field={field}
                change={changes[field.key]}
                problem={problems.get(field.key)}
                isReadOnly={isReadOnly}
                onChange={value => change(field.key, value)}
                onRead={isRead => mark(field.key, isRead)}
                key={`${field.key} ${round}`}
              />
            ))}
          </details>
        ))}
      </div>
      <Failure doing={doing} />
      {count + wrongs > 0 && (
        <div class="save-bar" role="status">
          <span>{wrongs > 0 ? texts.settings.wrong(wrongs) : texts.settings.changed(count)}</span>
          <button type="button" onClick={begin}>
            {texts.settings.discard}
          </button>
          <button type="button" class="primary" disabled={doing.isBusy || wrongs > 0} onClick={save}>
            <Icon name="check" size={18} /> {texts.settings.save}
          </button>
        </div>
      )}
    </>
  )
}

/** How many keys of a section the file has. */
function SetHere({ count }: { count: number }): JSX.Element | null {
  return count === 0 ? null : <span class="pill">{texts.settings.set(count)}</span>
}

function sectionsOf({ fields }: Settings): Map<string, Settings['fields']> {
  return Map.groupBy(fields, ({ key }) => key.split('.')[0] ?? '')
}
