// `hoplite letters`: letters that a person carries. Without a word, those that are to go out; with some, those that came.

import { readFileSync, statSync } from 'node:fs'
import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import { socketPath, stateDirectory } from '#platform/state/directories.ts'
import { print } from '../output.ts'
import { ensureDaemon } from './up.ts'

interface Options {
  config?: string
  stateDir?: string
  json?: boolean
}

/** Prints the lines that wait, or hands in those of a file, of standard input (-) or of the command line. */
export async function letters(given: readonly string[], options: Options): Promise<void> {
  await ensureDaemon(options)
  const socket = socketPath(stateDirectory(options.stateDir))
  if (given.length === 0) {
    const { lines } = await callAction(socket, 'letters.take', {})
    return print(
      options.json,
      { ok: true, lines },
      lines.length === 0 ? 'Nothing is to be carried now.' : lines.join('\n'),
    )
  }
  const lines = given.flatMap(linesOf)
  for (const line of lines) {
    const { taken } = await callAction(socket, 'letters.give', { line })
    if (!taken)
      throw new HopliteError('CODE_INVALID', 'read a letter: it is cut off, or something else', 'copy it whole')
  }
  print(options.json, { ok: true, taken: lines.length }, `${lines.length} handed in.`)
}

function linesOf(word: string): string[] {
  const isFile = word === '-' || statSync(word, { throwIfNoEntry: false })?.isFile() === true
  const text = isFile ? contentOf(word) : word
  return text.split('\n').filter(line => line.trim() !== '')
}

function contentOf(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8')
  } catch (error) {
    const what = `read ${file}: ${(error as NodeJS.ErrnoException).code}`
    throw new HopliteError('CODE_INVALID', what, 'name a file that can be read', error)
  }
}
