// What commands print: readable text on a terminal, one line of JSON when asked.

import { HopliteError } from '#api/errors.ts'

/** Prints `value` as one line of JSON, or `text` for a person. */
export function print(isJson: boolean | undefined, value: unknown, text: string): void {
  process.stdout.write(isJson ? `${JSON.stringify(value)}\n` : text.endsWith('\n') ? text : `${text}\n`)
}

/** Prints an error and what to do about it; never a stack trace of an expected one. */
export function printError(error: unknown, isJson: boolean): void {
  const known = error instanceof HopliteError ? error : undefined
  const message =
    known?.message ??
    (error instanceof Error ? (process.env['HOPLITE_DEBUG'] ? error.stack : error.message) : 'unknown error')
  if (isJson) {
    const code = known?.code ?? 'INTERNAL'
    process.stdout.write(`${JSON.stringify({ ok: false, error: { code, message, advice: known?.advice } })}\n`)
  } else {
    process.stderr.write(`hoplite: ${message}\n${known === undefined ? '' : `  ${known.advice}\n`}`)
  }
}
