// The head of a page: its name, and in a sentence what it is for.

import type { ComponentChildren, JSX } from 'preact'
import { texts } from '../texts.ts'

interface PageHeadProps {
  readonly page: keyof typeof texts.pages
  readonly children: ComponentChildren
}

export function PageHead({ page, children }: PageHeadProps): JSX.Element {
  return (
    <header class="page-head">
      <h1>{texts.pages[page]}</h1>
      <p class="intro">{children}</p>
    </header>
  )
}
