// Doing something at the daemon from a button: whether it is under way, and what went wrong.

import { useState } from 'preact/hooks'
import { ApiError } from '../api.ts'

export interface Doing {
  readonly isBusy: boolean
  readonly error: { readonly message: string; readonly advice: string } | undefined
  run(what: () => Promise<unknown>): void
  forget(): void
}

export function useAction(): Doing {
  const [isBusy, setBusy] = useState(false)
  const [error, setError] = useState<Doing['error']>(undefined)
  return {
    isBusy,
    error,
    run: what => {
      setBusy(true)
      setError(undefined)
      what()
        .catch((error: unknown) =>
          setError({
            message: error instanceof Error ? error.message : String(error),
            advice: error instanceof ApiError ? error.advice : '',
          }),
        )
        .finally(() => setBusy(false))
    },
    forget: () => setError(undefined),
  }
}
