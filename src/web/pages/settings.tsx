// Settings: every key of the configuration file, checked by the daemon while it is typed.

import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import type { Input, Output } from '#api/table.ts'
import { call } from '../api.ts'
import { changed } from '../changed.ts'
import { spoken } from '../format.ts'
import { Icon } from '../icons.tsx'
import { useAction } from '../parts/action.ts'
import { Failure } from '../parts/failure.tsx'
import { Notice } from '../parts/notice.tsx'
import { SettingField } from '../parts/setting-field.tsx'
import { texts } from '../texts.ts'

type Values = Input<'settings.save'>['values']
type Settings = Output<'settings'>

const CHECK_MS = 300

export function SettingsPage(): JSX.Element {
  const doing = useAction()
  const [settings, setSettings] = useState<Settings | undefined>(undefined)
  const [changes, setChanges] = useState<Values>({})
  const [problems, setProblems] = useState<ReadonlyMap<string, string>>(new Map())
  /** What waits for the next start, of what was saved. */
  const [later, setLater] = useState<readonly string[]>()
  useEffect(() => void call('settings', {}).then(setSettings, () => {}), [])
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
  if (settings === undefined) return <p role="status">{texts.loading}</p>
  const change = (key: string, value: Values[string] | undefined) => {
    setLater(undefined)
    setChanges(before => changed(before, key, value))
  }
  const save = () =>
    doing.run(async () => {
      const { problems, later = [] } = await call('settings.save', { values: changes })
      setProblems(new Map(problems.map(({ key, message }) => [key, message])))
      if (problems.length > 0) return
      setSettings(await call('settings', {}))
      setChanges({})
      setLater(later)
    })
  const count = Object.keys(changes).length
  return (
    <>
      <h1>{texts.pages.settings}</h1>
      <p class="intro">
        {texts.settings.intro}{' '}
        <span class="wrap">
          {settings.exists ? texts.settings.file(settings.file) : texts.settings.noFile(settings.file)}
        </span>
      </p>
      {later !== undefined && (
        <Notice kind="good" title={texts.settings.save}>
          <p>{texts.settings.saved(later)}</p>
        </Notice>
      )}
      {[...sectionsOf(settings)].map(([section, fields], i) => (
        <details class="card section" open={i < 2} key={section}>
          <summary>
            <h2>{texts.settings.sections[section] ?? spoken(section)}</h2>
            <code>[{section}]</code>
          </summary>
          {fields.map(field => (
            <SettingField
              field={field}
              change={changes[field.key]}
              problem={problems.get(field.key)}
              onChange={value => change(field.key, value)}
              key={`${field.key} ${settings.fields === undefined ? '' : JSON.stringify(field.inFile ?? null)}`}
            />
          ))}
        </details>
      ))}
      <Failure doing={doing} />
      {count > 0 && (
        <div class="save-bar" role="status">
          <span>{problems.size > 0 ? texts.settings.wrong(problems.size) : texts.settings.changed(count)}</span>
          <button type="button" onClick={() => setChanges({})}>
            {texts.settings.discard}
          </button>
          <button type="button" class="primary" disabled={doing.isBusy || problems.size > 0} onClick={save}>
            <Icon name="check" size={18} /> {texts.settings.save}
          </button>
        </div>
      )}
    </>
  )
}

function sectionsOf({ fields }: Settings): Map<string, Settings['fields']> {
  return Map.groupBy(fields, ({ key }) => key.split('.')[0] ?? '')
}
