import type { JSX } from 'preact'
import { texts } from '../texts.ts'
import type { Doing } from './action.ts'
import { Notice } from './notice.tsx'

/** What went wrong with the last thing that was done; nothing when nothing did. */
export function Failure({ doing }: { doing: Doing }): JSX.Element | null {
  if (doing.error === undefined) return null
  return (
    <Notice kind="bad" title={texts.failed} onDismiss={doing.forget}>
      <p>
        {doing.error.message}. {doing.error.advice}
      </p>
    </Notice>
  )
}
