// The answer of an action that no event tells about: asked once, or again and again while somebody looks.

import { useCallback, useEffect, useRef, useState } from 'preact/hooks'
import type { ActionName, Output } from '#api/table.ts'
import { call } from '../api.ts'
import { type Wrong, wrongOf } from './trouble.tsx'

/** After a question that failed. */
const RETRY_MS = 1_000

/** Actions that are asked for with nothing. */
type Question = {
  [N in ActionName]: Record<string, never> extends Parameters<typeof call<N>>[1] ? N : never
}[ActionName]

export interface Asked<Answer> {
  /** The last answer; `undefined` before the first. */
  readonly value: Answer | undefined
  /** Why there is none, when the last question failed. */
  readonly wrong: Wrong | undefined
  /** When it came, ms of the page's clock. */
  readonly atMs: number
  /** Asks at once; resolves when the answer is here. */
  ask(): Promise<void>
}

const NOTHING = { value: undefined, atMs: 0 }

/** Without `everyMs` one answer is enough, until one of `changing` does. */
export function useAsked<N extends Question>(
  name: N,
  everyMs?: number,
  changing: readonly unknown[] = [],
): Asked<Output<N>> {
  const [{ value, atMs }, setAnswer] = useState<{ value: Output<N> | undefined; atMs: number }>(NOTHING)
  const [wrong, setWrong] = useState<Wrong | undefined>(undefined)
  const ask = useCallback(() => {
    return call(name, {} as Parameters<typeof call<N>>[1]).then(
      value => (setAnswer({ value, atMs: performance.now() }), setWrong(undefined)),
      (error: unknown) => setWrong(wrongOf(error)),
    )
  }, [name])
  const waitMs = wrong === undefined ? everyMs : RETRY_MS
  useEffect(() => void ask(), [ask, ...changing])
  useEffect(() => {
    if (waitMs === undefined) return
    const timer = setInterval(() => {
      if (!document.hidden) void ask()
    }, waitMs)
    return () => clearInterval(timer)
  }, [ask, waitMs])
  return { value, wrong, atMs, ask }
}

/** How much a count grows in a second, between the last two answers; `at` is when the last came, ms of any clock. */
export function useRate(count: number, at: number): number {
  const before = useRef({ count, at, rate: 0 })
  const last = before.current
  if (at > last.at) {
    const rate = last.at === 0 ? 0 : (Math.max(0, count - last.count) * 1000) / (at - last.at)
    before.current = { count, at, rate }
  }
  return before.current.rate
}
