// Pairing with another device: this one shows a code, or takes one; both then show the same words.
//
//   nothing ──► waiting ──► answered ──► paired | failed

import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { call } from '../api.ts'
import { texts } from '../texts.ts'
import { useAction } from './action.ts'
import { useAsked } from './asked.ts'
import { Carried } from './carried.tsx'
import { Copy } from './copy.tsx'
import { Failure } from './failure.tsx'
import { Notice } from './notice.tsx'
import { Trouble } from './trouble.tsx'

const ASK_MS = 800

/** What this page began; another page or a terminal may have begun something too. */
type Begun = { readonly kind: 'short' | 'long'; readonly code: string } | { readonly kind: 'join' }

export function Pairing({ onPaired }: { onPaired: () => void }): JSX.Element {
  const doing = useAction()
  const { value: status, ask } = useAsked('pair.status', ASK_MS)
  const [begun, setBegun] = useState<Begun | undefined>(undefined)
  const state = status?.state ?? 'none'
  const isUnderWay = state === 'waiting' || state === 'answered'
  useEffect(() => {
    if (state === 'paired') onPaired()
  }, [state])
  const show = (kind: 'short' | 'long') =>
    doing.run(async () => {
      const { code } = await call('pair', { kind })
      setBegun({ kind, code })
      await ask()
    })
  const join = (event: SubmitEvent) => {
    event.preventDefault()
    const code = String(new FormData(event.currentTarget as HTMLFormElement).get('code')).trim()
    doing.run(async () => {
      await call('pair.join', { code })
      setBegun({ kind: 'join' })
      await ask()
    })
  }
  const end = () =>
    doing.run(async () => {
      await call('pair.end', {})
      setBegun(undefined)
      await ask()
    })
  const words = texts.pairing
  return (
    <section class="card">
      <h2>{words.title}</h2>
      {isUnderWay ? (
        <div class="pairing" role="status">
          {begun !== undefined && begun.kind !== 'join' && (
            <>
              <p>{words.showing[begun.kind]}</p>
              {begun.kind === 'long' ? <Carried text={begun.code} /> : <Copy text={begun.code} />}
            </>
          )}
          <p class="muted">{state === 'answered' ? words.answered : words.waiting}</p>
          <button type="button" disabled={doing.isBusy} onClick={end}>
            {words.end}
          </button>
        </div>
      ) : (
        <div class="change">
          <div class="field">
            <span>{words.here}</span>
            <div class="buttons">
              <button type="button" class="primary" disabled={doing.isBusy} onClick={() => show('short')}>
                {words.short}
              </button>
              <button type="button" disabled={doing.isBusy} onClick={() => show('long')}>
                {words.long}
              </button>
            </div>
          </div>
          <form class="field" onSubmit={join}>
            <label for="pair-code">{words.there}</label>
            <div class="buttons">
              <input id="pair-code" type="text" name="code" required maxLength={1_000} autocomplete="off" />
              <button type="submit" disabled={doing.isBusy}>
                {words.join}
              </button>
            </div>
          </form>
        </div>
      )}
      {begun !== undefined && state === 'paired' && (
        <Notice kind="good" title={words.paired(status?.device?.name ?? '')} onDismiss={() => setBegun(undefined)}>
          <p>{words.compare}</p>
          <p class="pair-words">{status?.words?.join(' ')}</p>
        </Notice>
      )}
      {begun !== undefined && state === 'failed' && (
        <Trouble kind="bad" title={words.failed} wrong={status ?? {}} onDismiss={() => setBegun(undefined)} />
      )}
      <Failure doing={doing} />
    </section>
  )
}
