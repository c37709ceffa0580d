import type { JSX } from 'preact'
import { texts } from '../texts.ts'
import type { Doing } from './action.ts'
import { Trouble } from './trouble.tsx'

/** What went wrong with the last thing that was done; nothing when nothing did. */
export function Failure({ doing }: { doing: Doing }): JSX.Element | null {
  return doing.wrong === undefined ? null : (
    <Trouble kind="bad" title={texts.failed} wrong={doing.wrong} onDismiss={doing.forget} />
  )
}
