// How a program that runs in the foreground is told to stop: Ctrl-C, SIGTERM, or the end of the program that started it.

import { constants } from 'node:os'

/** One signal may arrive twice at the same moment: from the terminal, and passed on by the launcher. */
const SAME_MS = 1_000

/** Aborted by the first signal. One that comes more than a second later ends the process at once. */
export function stopSignal(): AbortSignal {
  const stop = new AbortController()
  let firstMs: number | undefined
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      firstMs ??= performance.now()
      if (performance.now() - firstMs > SAME_MS) process.exit(128 + constants.signals[signal])
      stop.abort()
    })
  }
  process.once('disconnect', () => stop.abort())
  return stop.signal
}
