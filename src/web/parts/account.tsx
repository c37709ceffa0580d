// The wallet's account at the issuer: made, used or recovered by a name. The recovery code is shown once.

import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import type { Input, Output } from '#api/table.ts'
import { call } from '../api.ts'
import { Icon } from '../icons.tsx'
import { texts } from '../texts.ts'
import { useAction } from './action.ts'
import { Choice } from './choice.tsx'
import { Copy } from './copy.tsx'
import { Failure } from './failure.tsx'
import { Notice } from './notice.tsx'

type How = Input<'setAccount'>['how']
type Made = Output<'setAccount'> & { readonly name: string }

const words = texts.credits.named

export function Account({
  wallet,
  onChanged,
}: {
  wallet: Output<'wallet'>
  onChanged: () => Promise<void>
}): JSX.Element {
  const doing = useAction()
  const [how, setHow] = useState<How>('create')
  const [made, setMade] = useState<Made | undefined>(undefined)
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    const form = event.currentTarget as HTMLFormElement
    const data = new FormData(form)
    const name = String(data.get('name')).trim()
    const password = String(data.get('password'))
    const recovery = data.get('recovery')
    doing.run(async () => {
      const input = { how, name, password, ...(recovery !== null && { recovery: String(recovery).trim() }) }
      setMade({ ...(await call('setAccount', input)), name })
      form.reset()
      await onChanged()
    })
  }
  const { accountName } = wallet
  return (
    <form class="card card-wide" onSubmit={submit}>
      <h2>
        <Icon name="key" /> {words.title}
      </h2>
      <p class="muted">{accountName === undefined ? words.none : words.is(accountName)}</p>
      {made?.recovery !== undefined && (
        <Notice kind="warn" title={words.once}>
          <p>{words.onceText}</p>
          <Copy text={made.recovery} />
          <button type="button" onClick={() => setMade({ ...made, recovery: undefined })}>
            {words.written}
          </button>
        </Notice>
      )}
      {made !== undefined && (
        <p role="status">
          {words.done(made.name)} {words.at(texts.credits.amount(made.account))}.
        </p>
      )}
      <Choice<How>
        name="how"
        legend={words.how}
        chosen={how}
        onChoose={setHow}
        isBusy={doing.isBusy}
        values={(['create', 'use', 'recover'] as const).map(value => ({ value, label: words.hows[value] }))}
      />
      <div class="change">
        <label class="field">
          <span>{words.name}</span>
          <input type="text" name="name" required maxLength={64} autocomplete="username" />
          <p class="muted">{words.nameText}</p>
        </label>
        {how === 'recover' && (
          <label class="field">
            <span>{words.code}</span>
            <input type="text" name="recovery" required maxLength={128} autocomplete="off" />
          </label>
        )}
        <label class="field">
          <span>{how === 'recover' ? words.passwordNew : words.password}</span>
          <input
            type="password"
            name="password"
            required
            minLength={how === 'use' ? 1 : 10}
            maxLength={128}
            autocomplete={how === 'use' ? 'current-password' : 'new-password'}
          />
        </label>
      </div>
      <button type="submit" class="primary" disabled={doing.isBusy}>
        {words.do[how]}
      </button>
      <Failure doing={doing} />
    </form>
  )
}
