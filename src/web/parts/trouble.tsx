// What is wrong and what to do about it, as the daemon says it.

import type { JSX } from 'preact'
import { ApiError } from '../api.ts'
import { sentence } from '../format.ts'
import { texts } from '../texts.ts'
import { Notice } from './notice.tsx'

export interface Wrong {
  readonly problem?: string | undefined
  readonly advice?: string | undefined
}

interface TroubleProps {
  readonly wrong: Wrong
  readonly kind?: 'warn' | 'bad'
  readonly title?: string
  readonly onDismiss?: () => void
}

/** Nothing where nothing is wrong. */
export function Trouble({
  wrong,
  title = texts.home.problem,
  kind = 'warn',
  onDismiss,
}: TroubleProps): JSX.Element | null {
  const { problem, advice = '' } = wrong
  if (problem === undefined) return null
  return (
    <Notice kind={kind} title={title} {...(onDismiss && { onDismiss })}>
      <p>
        {sentence(problem)} {sentence(advice)}
      </p>
    </Notice>
  )
}

/** Why something failed, whoever says so: the daemon, or the browser that did not reach it. */
export function wrongOf(error: unknown): Wrong {
  if (error instanceof ApiError) return { problem: error.message, advice: error.advice }
  if (error instanceof TypeError) return { problem: texts.offline.title }
  return { problem: error instanceof Error ? error.message : String(error) }
}
