// So much of so much, in words and as a bar.

import type { JSX } from 'preact'
import { texts } from '../texts.ts'

interface ShareOfProps {
  readonly name: string
  readonly part: number
  readonly whole: number
  readonly format: (value: number) => string
}

export function ShareOf({ name, part, whole, format }: ShareOfProps): JSX.Element {
  return (
    <div class="share-of">
      <p class="row">
        <span>{name}</span>
        <strong>{texts.node.of(format(part), format(whole))}</strong>
      </p>
      <progress value={Math.min(part, whole)} max={Math.max(whole, 1)} aria-label={name} />
    </div>
  )
}
