import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import { Icon } from '../icons.tsx'
import { texts } from '../texts.ts'

/** A piece of text that one click puts on the clipboard. */
export function Copy({ text }: { text: string }): JSX.Element {
  const [isCopied, setCopied] = useState(false)
  const copy = async () => {
    await navigator.clipboard.writeText(text)
    setCopied(true)
    setTimeout(() => setCopied(false), 2_000)
  }
  return (
    <span class="copy">
      <code>{text}</code>
      <button type="button" class="quiet" onClick={() => void copy().catch(() => {})}>
        <Icon name={isCopied ? 'check' : 'copy'} size={16} />
        <span aria-live="polite">{isCopied ? texts.copied : texts.copy}</span>
        <span class="sr"> {text}</span>
      </button>
    </span>
  )
}
