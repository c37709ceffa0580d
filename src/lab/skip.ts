// Skipping what cannot run on a machine: with its reason, and never where the tools are promised to be.

import { existsSync } from 'node:fs'
import path from 'node:path'

/**
 * Whether the test is skipped: unless `condition` holds, with `reason`. Where what is missing is a tool that can be
 * installed, CI=true makes that a failure.
 */
export function skipUnless(
  t: { skip(reason?: string): void },
  condition: boolean,
  reason: string,
  missing: { readonly tool?: string } = {},
): boolean {
  if (condition) return false
  if (process.env['CI'] === 'true' && missing.tool !== undefined) throw new Error(`${reason}, and CI=true promises it`)
  t.skip(reason)
  return true
}

/** Whether a program of this name is found. */
export function hasTool(name: string): boolean {
  const names = process.platform === 'win32' ? [`${name}.exe`, `${name}.cmd`] : [name]
  return (process.env['PATH'] ?? '')
    .split(path.delimiter)
    .some(dir => names.some(file => existsSync(path.join(dir, file))))
}
