// A message that stays until what it says is over, or until it is dismissed.

import type { ComponentChildren, JSX } from 'preact'
import { Icon } from '../icons.tsx'
import { texts } from '../texts.ts'

interface NoticeProps {
  readonly kind: 'warn' | 'bad' | 'good'
  readonly title: string
  readonly children?: ComponentChildren
  readonly onDismiss?: () => void
}

export function Notice({ kind, title, children, onDismiss }: NoticeProps): JSX.Element {
  return (
    <div class={`notice notice-${kind}`} role={kind === 'good' ? 'status' : 'alert'}>
      <Icon name={kind === 'good' ? 'check' : 'warning'} />
      <div class="notice-body">
        <strong>{title}</strong>
        {children}
      </div>
      {onDismiss && (
        <button type="button" class="quiet icon-only" aria-label={texts.dismiss} onClick={onDismiss}>
          <Icon name="cross" size={16} />
        </button>
      )}
    </div>
  )
}
