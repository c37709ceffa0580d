// What commands print: readable text on a terminal, one line of JSON when asked.

import { HopliteError } from '#api/errors.ts'

/** Prints `value` as one line of JSON, or `text` for a person. */
export function print(isJson: boolean | undefined, value: unknown, text: string): void {
  process.stdout.write(isJson ? `${JSON.stringify(value)}\n` : text.endsWith('\n') ? text : `${text}\n`)
}

const OUT_OF_FILES = 'the process has all the files that it may: ulimit -n 65536, or LimitNOFILE=65536 in the service'

/** Prints an error and what to do about it; never a stack trace of an expected one. */
export function printError(error: unknown, isJson: boolean): void {
  const known = error instanceof HopliteError ? error : undefined
  const message =
    known?.message ??
    (error instanceof Error ? (process.env['HOPLITE_DEBUG'] ? error.stack : error.message) : 'unknown error')
  // Whatever was to be opened, its own advice would lead elsewhere.
  const advice = /\bE[MN]FILE\b/.test(message ?? '') ? OUT_OF_FILES : known?.advice
  if (isJson) {
    const code = known?.code ?? 'INTERNAL'
    process.stdout.write(`${JSON.stringify({ ok: false, error: { code, message, advice } })}\n`)
  } else {
    process.stderr.write(`hoplite: ${message}\n${advice === undefined ? '' : `  ${advice}\n`}`)
  }
}
