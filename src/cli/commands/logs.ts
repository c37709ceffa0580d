// `hoplite logs [-f]`: the daemon's log for a person, also when the daemon does not run any more.

import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs'
import { StringDecoder } from 'node:string_decoder'
import { HopliteError } from '#api/errors.ts'
import { logFile } from '#daemon/log-file.ts'
import { stateDirectory } from '#platform/state/directories.ts'
import { isStateLocked } from '#platform/state/state-lock.ts'
import { stopSignal } from '../stop-signal.ts'

const POLL_MS = 250
const CHUNK_BYTES = 256 * 1024

export interface LogsOptions {
  stateDir?: string
  json?: boolean
  follow?: boolean
  lines?: number
}

/** Prints the last lines and, with `follow`, each new one until Ctrl-C. */
export async function logs(options: LogsOptions): Promise<void> {
  const stateDir = stateDirectory(options.stateDir)
  const file = logFile(stateDir)
  if (!existsSync(file)) {
    const found = `read ${file}: there is no log`
    if (!isStateLocked(stateDir))
      throw new HopliteError('DAEMON_NOT_RUNNING', found, 'start the daemon with: hoplite up')
    const advice = 'it writes to where it was started: a terminal, or for a service journalctl -u "hoplite*" -f'
    throw new HopliteError('DAEMON_NOT_RUNNING', `${found}: the node runs in the foreground`, advice)
  }
  const reader = new LineReader(file)
  const show = (lines: readonly string[]) => {
    for (const line of lines) process.stdout.write(`${options.json ? line : readable(line)}\n`)
  }
  const written = reader.read()
  show(written.slice(Math.max(0, written.length - (options.lines ?? 100))))
  if (!options.follow) return
  const stop = stopSignal()
  while (!stop.aborted) {
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
    show(reader.read())
  }
}

/** Reads what was added since the last time; begins anew when the file was emptied. */
class LineReader {
  readonly #file: string
  #at = 0
  #rest = ''
  /** A character may be cut by the end of what is there. */
  readonly #decoder = new StringDecoder('utf8')

  constructor(file: string) {
    this.#file = file
  }

  read(): string[] {
    const size = statSync(this.#file, { throwIfNoEntry: false })?.size ?? 0
    if (size < this.#at) {
      this.#at = 0
      this.#rest = ''
    }
    if (size === this.#at) return []
    const handle = openSync(this.#file, 'r')
    try {
      const buffer = Buffer.alloc(CHUNK_BYTES)
      const lines: string[] = []
      for (;;) {
        const length = readSync(handle, buffer, 0, buffer.length, this.#at)
        if (length === 0) return lines
        this.#at += length
        const parts = (this.#rest + this.#decoder.write(buffer.subarray(0, length))).split('\n')
        this.#rest = parts.pop() ?? ''
        lines.push(...parts)
      }
    } finally {
      closeSync(handle)
    }
  }
}

/** `07:41:02 warn client: hop failed id=…`; what is no line of the log stays as it is. */
function readable(line: string): string {
  try {
    const { time, level, component, event, ...fields } = JSON.parse(line) as Record<string, unknown>
    const told = Object.entries(fields).map(([name, value]) => ` ${name}=${String(value)}`)
    const at = new Date(String(time)).toLocaleTimeString('en-GB')
    return plain(`${at} ${String(level).padEnd(5)} ${component}: ${event}${told.join('')}`)
  } catch {
    return plain(line)
  }
}

/** Control characters would move the cursor. */
function plain(text: string): string {
  return text.replace(/\p{C}/gu, '\uFFFD')
}
