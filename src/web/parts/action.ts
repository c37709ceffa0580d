// Doing something at the daemon from a button: whether it is under way, and what went wrong.

import { useState } from 'preact/hooks'
import { type Wrong, wrongOf } from './trouble.tsx'

export interface Doing {
  readonly isBusy: boolean
  readonly wrong: Wrong | undefined
  run(what: () => Promise<unknown>): void
  forget(): void
}

export function useAction(): Doing {
  const [isBusy, setBusy] = useState(false)
  const [wrong, setWrong] = useState<Wrong | undefined>(undefined)
  return {
    isBusy,
    wrong,
    run: what => {
      const giveBack = keepFocus()
      setBusy(true)
      setWrong(undefined)
      what()
        .catch((error: unknown) => setWrong(wrongOf(error)))
        .finally(() => {
          setBusy(false)
          giveBack()
        })
    },
    forget: () => setWrong(undefined),
  }
}

/** What is disabled while it works, or gone after it, loses the keyboard: it is given back, or to the page. */
function keepFocus(): () => void {
  const focused = document.activeElement
  return () =>
    requestAnimationFrame(() => {
      if (document.activeElement !== document.body || !(focused instanceof HTMLElement)) return
      if (focused === document.body) return
      if (focused.isConnected) focused.focus({ preventScroll: true })
      if (document.activeElement === document.body) document.getElementById('main')?.focus({ preventScroll: true })
    })
}
