// In the place of what was asked for: that it is on its way, or why it did not come.

import type { JSX } from 'preact'
import { texts } from '../texts.ts'
import { Trouble, type Wrong } from './trouble.tsx'

export function Waiting({ wrong }: { wrong?: Wrong | undefined }): JSX.Element {
  if (wrong !== undefined) return <Trouble kind="bad" title={texts.failed} wrong={wrong} />
  return (
    <div class="waiting" role="status">
      <span class="sr">{texts.loading}</span>
      <div class="ghost" />
      <div class="ghost" />
    </div>
  )
}
