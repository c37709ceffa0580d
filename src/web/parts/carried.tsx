// A text that is meant for another machine: to copy, and as a picture where a camera could read it.

import type { JSX } from 'preact'
import { useMemo } from 'preact/hooks'
import { renderSVG } from 'uqr'
import { texts } from '../texts.ts'
import { Copy } from './copy.tsx'

/** More makes a picture too fine for a camera. */
const MAX_QR_CHARACTERS = 1_200

export function Carried({ text, hidesText = false }: { text: string; hidesText?: boolean }): JSX.Element {
  const picture = useMemo(() => {
    if (text.length > MAX_QR_CHARACTERS) return undefined
    return `data:image/svg+xml,${encodeURIComponent(renderSVG(text, { border: 2 }))}`
  }, [text])
  return (
    <div class="carried">
      {!hidesText && <Copy text={text} />}
      {picture !== undefined && <img src={picture} alt={texts.qr} width="220" height="220" />}
    </div>
  )
}
