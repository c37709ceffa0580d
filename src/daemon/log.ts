// The log: what happened, in named events with numbers and node ids. Its type has no place for an address, a name, a key or
// a token of a user: fields are numbers, booleans, and text that was wrapped by `own`.

import type { Config } from './config.ts'
import { LogLines } from './log-lines.ts'

const LEVELS = { error: 0, warn: 1, info: 2, debug: 3 } as const
export type Level = keyof typeof LEVELS

/** Text about ourselves (our own addresses, relay ids, error codes) that may stand in the log. */
export class OwnText {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** Marks text as our own. */
export function own(text: string): OwnText {
  return new OwnText(text)
}

export type Fields = Readonly<Record<string, number | boolean | OwnText | undefined>>

export interface Log {
  error(event: string, fields?: Fields): void
  warn(event: string, fields?: Fields): void
  info(event: string, fields?: Fields): void
  debug(event: string, fields?: Fields): void
  /** From now on. */
  readonly setLevel?: (level: Level) => void
  /** The last lines, for the dashboard; absent where nobody keeps them. */
  readonly lines?: LogLines
}

/** A log to `stream`: readable lines on a terminal, JSON lines elsewhere. */
export function openLog(config: Config, component: string, stream: NodeJS.WriteStream = process.stderr): Log {
  let most: number = LEVELS[config.log.level]
  const lines = new LogLines()
  const write =
    (level: Level) =>
    (event: string, fields: Fields = {}) => {
      if (LEVELS[level] > most) return
      const values = Object.entries(fields).flatMap(([name, value]) =>
        value === undefined ? [] : [[name, value instanceof OwnText ? value.text : value] as const],
      )
      const now = new Date()
      lines.add({ at: now.getTime(), level, component, event, fields: Object.fromEntries(values) })
      const time = now.toISOString()
      const line = stream.isTTY
        ? `${time.slice(11, 23)} ${level.padEnd(5)} ${component}: ${event}${values.map(([name, value]) => ` ${name}=${oneLine(value)}`).join('')}`
        : JSON.stringify({ time, level, component, event, ...Object.fromEntries(values) })
      stream.write(`${line}\n`)
    }
  const setLevel = (level: Level) => {
    most = LEVELS[level]
  }
  return { error: write('error'), warn: write('warn'), info: write('info'), debug: write('debug'), setLevel, lines }
}

/** Control characters would let text from outside write lines of its own, or move the cursor. */
function oneLine(value: number | boolean | string): string {
  return String(value).replace(/\p{C}/gu, '\uFFFD')
}
