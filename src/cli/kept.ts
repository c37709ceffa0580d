// What a node that is kept (commands/keep.ts) says to whoever keeps it.

import { giveSigns } from '#platform/heartbeat.ts'

/** How often a node that somebody keeps gives a sign of life, in milliseconds. */
export const KEPT_VARIABLE = 'HOPLITE_KEPT'

export type FromKept = { readonly kind: 'alive' } | { readonly kind: 'up' }

/** Gives signs of life where they are waited for; call the result when the node is up. */
export function giveSignsToKeeper(): () => void {
  const everyMs = Number(process.env[KEPT_VARIABLE] ?? 0)
  if (!(everyMs > 0)) return () => undefined
  // What the node starts itself is not kept by the same.
  delete process.env[KEPT_VARIABLE]
  const tell = (message: FromKept, done: () => void) => {
    if (process.connected) process.send?.(message, done)
  }
  giveSigns(done => tell({ kind: 'alive' }, done), everyMs)
  return () => tell({ kind: 'up' }, () => undefined)
}
