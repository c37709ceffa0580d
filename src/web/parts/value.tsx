// Any JSON value for a person: tables of names and values, and a QR picture where a phone might want to read it.

import type { JSX } from 'preact'
import { useMemo } from 'preact/hooks'
import { renderSVG } from 'uqr'
import { texts } from '../texts.ts'
import { Copy } from './copy.tsx'

/** Names of fields that are meant to be carried to another machine. */
const CARRIED = /^(link|invite|invitation|code|uri|url|qr)$/i
const MAX_QR_CHARACTERS = 1_200

export function Value({ value, name = '' }: { value: unknown; name?: string }): JSX.Element {
  if (value === null || value === undefined || value === '') return <span class="muted">–</span>
  if (typeof value === 'boolean') return <span>{value ? texts.panel.yes : texts.panel.no}</span>
  if (typeof value === 'string' && CARRIED.test(name)) return <Carried text={value} />
  if (typeof value !== 'object') return <span class="wrap">{String(value)}</span>
  if (Array.isArray(value)) {
    if (value.length === 0) return <span class="muted">{texts.panel.nothing}</span>
    return (
      <ul class="values">
        {value.map((item, i) => (
          <li key={i}>
            <Value value={item} />
          </li>
        ))}
      </ul>
    )
  }
  return (
    <dl class="values">
      {Object.entries(value).map(([key, inner]) => (
        <div key={key}>
          <dt>{spoken(key)}</dt>
          <dd>
            <Value value={inner} name={key} />
          </dd>
        </div>
      ))}
    </dl>
  )
}

function Carried({ text }: { text: string }): JSX.Element {
  const picture = useMemo(() => {
    if (text.length > MAX_QR_CHARACTERS) return undefined
    return `data:image/svg+xml,${encodeURIComponent(renderSVG(text, { border: 2 }))}`
  }, [text])
  return (
    <div class="carried">
      <Copy text={text} />
      {picture !== undefined && <img src={picture} alt={texts.panel.qr} width="200" height="200" />}
    </div>
  )
}

/** bytesCarried → "Bytes carried" */
export function spoken(name: string): string {
  const words = name
    .replace(/[._]/g, ' ')
    .replace(/([a-z0-9])([A-Z])/g, (_, end: string, start: string) => `${end} ${start.toLowerCase()}`)
  return words.charAt(0).toUpperCase() + words.slice(1)
}
