// What the strangers before one's VPN are paid from: a wallet of its own, filled from the one of this node.

import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import { call } from '../api.ts'
import { Icon } from '../icons.tsx'
import { texts } from '../texts.ts'
import { useAction } from './action.ts'
import { Failure } from './failure.tsx'

const words = texts.vpn.credits

export function VpnCredits({ tokens, onChanged }: { tokens: number; onChanged: () => Promise<void> }): JSX.Element {
  const doing = useAction()
  const [said, setSaid] = useState<string | undefined>(undefined)
  const give = (event: SubmitEvent) => {
    event.preventDefault()
    const credits = Number(new FormData(event.currentTarget as HTMLFormElement).get('credits'))
    doing.run(async () => {
      setSaid(undefined)
      const { entry } = await call('entry.fund', { credits })
      setSaid(words.given(texts.credits.amount(credits), texts.credits.amount(entry)))
      await onChanged()
    })
  }
  const takeBack = () =>
    doing.run(async () => {
      setSaid(undefined)
      const { refunded } = await call('entry.refund', {})
      setSaid(words.back(texts.credits.amount(refunded)))
      await onChanged()
    })
  return (
    <form class="card" onSubmit={give}>
      <div class="row">
        <h2>
          <Icon name="credits" /> {words.title}
        </h2>
        <strong>{texts.credits.amount(tokens)}</strong>
      </div>
      <p class="muted">{words.text}</p>
      <div class="buttons">
        <label class="field">
          <span>{words.count}</span>
          <input type="number" name="credits" min={1} max={4_096} required defaultValue="10" />
        </label>
        <button type="submit" disabled={doing.isBusy}>
          {words.give}
        </button>
        <button type="button" disabled={doing.isBusy || tokens === 0} onClick={takeBack}>
          {words.takeBack}
        </button>
      </div>
      {said !== undefined && <p role="status">{said}</p>}
      <Failure doing={doing} />
    </form>
  )
}
