// The answer of an action that no event tells about: asked again and again while somebody looks.

import { useCallback, useEffect, useRef, useState } from 'preact/hooks'
import type { ActionName, Output } from '#api/table.ts'
import { call } from '../api.ts'

/** Actions that are asked for with nothing. */
type Question = {
  [N in ActionName]: Record<string, never> extends Parameters<typeof call<N>>[1] ? N : never
}[ActionName]

export interface Asked<Answer> {
  /** The last answer; `undefined` before the first. */
  readonly value: Answer | undefined
  /** Why there is none, when the last question failed. */
  readonly problem: string | undefined
  /** When it came, ms of the page's clock. */
  readonly atMs: number
  /** Asks at once; resolves when the answer is here. */
  ask(): Promise<void>
}

const NOTHING = { value: undefined, atMs: 0 }

export function useAsked<N extends Question>(name: N, everyMs: number): Asked<Output<N>> {
  const [{ value, atMs }, setAnswer] = useState<{ value: Output<N> | undefined; atMs: number }>(NOTHING)
  const [problem, setProblem] = useState<string | undefined>(undefined)
  const ask = useCallback(() => {
    return call(name, {} as Parameters<typeof call<N>>[1]).then(
      value => (setAnswer({ value, atMs: performance.now() }), setProblem(undefined)),
      (error: unknown) => setProblem(error instanceof Error ? error.message : String(error)),
    )
  }, [name])
  useEffect(() => {
    void ask()
    const timer = setInterval(() => void ask(), everyMs)
    return () => clearInterval(timer)
  }, [ask, everyMs])
  return { value, problem, atMs, ask }
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
