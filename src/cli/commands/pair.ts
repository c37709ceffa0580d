// `hoplite pair` and `hoplite join`: one device shows a code, the other takes it, and both show the same four words.

import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { renderUnicodeCompact } from 'uqr'
import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import type { Output } from '#api/table.ts'
import { socketPath, stateDirectory } from '#platform/state/directories.ts'
import { print } from '../output.ts'
import { stopSignal } from '../stop-signal.ts'
import { ensureDaemon } from './up.ts'

const POLL_MS = 200
const MAX_CODE_BYTES = 1_000

interface Options {
  config?: string
  stateDir?: string
  json?: boolean
}

/** Shows a code and waits until a device has paired. With --json, a line for the code and one for the end. */
export async function pair(
  options: Options & { qr?: boolean; line?: boolean; file?: string; end?: boolean },
): Promise<void> {
  const socket = socketPath(stateDirectory(options.stateDir))
  if (options.end) {
    const { ended } = await callAction(socket, 'pair.end', {})
    return print(options.json, { ok: true, ended }, ended ? 'The pairing was ended.' : 'No pairing was under way.')
  }
  await ensureDaemon(options)
  const isLong = options.qr || options.line || options.file !== undefined
  const { code, expiresMs } = await callAction(socket, 'pair', { kind: isLong ? 'long' : 'short' })
  if (options.file !== undefined) await writeCode(options.file, code, socket)
  print(options.json, { ok: true, state: 'waiting', code, expiresMs }, instruction(code, options))
  await finish(socket, options)
}

/** Pairs with the device that shows the code, and waits until it is done. */
export async function join(words: readonly string[], options: Options): Promise<void> {
  const code = readCode(words)
  await ensureDaemon(options)
  const socket = socketPath(stateDirectory(options.stateDir))
  await callAction(socket, 'pair.join', { code })
  if (options.json !== true) print(false, {}, 'Looking for the device that shows the code: half a minute or so.')
  await finish(socket, options)
}

async function finish(socket: string, { json }: Options): Promise<void> {
  const pairing = await outcome(socket)
  if (pairing.state === 'none')
    throw new HopliteError('PAIRING_FAILED', 'pair: it was ended', 'begin anew with: hoplite pair')
  if (pairing.state !== 'paired') {
    const { problem = 'it did not work', advice = 'make a new code with: hoplite pair' } = pairing
    throw new HopliteError('PAIRING_FAILED', `pair: ${problem}`, advice)
  }
  const { device, words = [] } = pairing
  const text = [
    `Paired with ${device?.name} (${device?.id.slice(0, 8)}).`,
    `The other device must show the same words:  ${words.join(' ')}`,
    `If it does not, remove it: hoplite devices remove ${device?.name}`,
  ]
  print(json, { ok: true, state: 'paired', device, words }, text.join('\n'))
}

/** Ctrl-C takes the code back. */
async function outcome(socket: string): Promise<Output<'pair.status'>> {
  const stop = stopSignal()
  for (;;) {
    const pairing = await callAction(socket, 'pair.status', {})
    if (pairing.state !== 'waiting' && pairing.state !== 'answered') return pairing
    if (stop.aborted) {
      await callAction(socket, 'pair.end', {})
      return { state: 'none' }
    }
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
}

function instruction(code: string, { qr, file }: { qr?: boolean; file?: string }): string {
  if (file !== undefined)
    return `On the other device, within ten minutes: hoplite join FILE, with ${file} carried over.`
  const picture = qr ? `${renderUnicodeCompact(code)}\n` : ''
  return `${picture}On the other device, within ten minutes:\n\n  hoplite join ${code}\n`
}

/** Nobody else may read the file, whatever was there before. */
async function writeCode(file: string, code: string, socket: string): Promise<void> {
  try {
    if (statSync(file, { throwIfNoEntry: false })?.isFile() === true) chmodSync(file, 0o600)
    writeFileSync(file, `${code}\n`, { mode: 0o600 })
  } catch (error) {
    await callAction(socket, 'pair.end', {})
    const what = `write ${file}: ${(error as NodeJS.ErrnoException).code}`
    throw new HopliteError('STATE_UNREADABLE', what, 'name another file; this code was taken back', error)
  }
}

/** The code that was typed, or what stands in the file of that name, or on standard input. */
function readCode(words: readonly string[]): string {
  const [first = ''] = words
  if (words.length > 1) return words.join(' ')
  if (first !== '-' && statSync(first, { throwIfNoEntry: false })?.isFile() !== true) {
    if (!/[/.\\]/.test(first)) return first
    throw new HopliteError('CODE_INVALID', `read ${first}: there is no such file`, 'type the code, or name its file')
  }
  try {
    const text = readFileSync(first === '-' ? 0 : first, 'utf8')
    if (text.length <= MAX_CODE_BYTES) return text.trim()
  } catch (error) {
    const what = `read ${first}: ${(error as NodeJS.ErrnoException).code}`
    throw new HopliteError('CODE_INVALID', what, 'type the code, or name a file that can be read', error)
  }
  throw new HopliteError('CODE_INVALID', `read ${first}: it is too long to be a code`, 'name the file of a code')
}
