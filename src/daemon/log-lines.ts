// The last lines of the log, kept for the dashboard. The oldest go first.

import type { EventData } from '#api/table.ts'

export type LogLine = EventData<'log'>

const MAX_LINES = 500

export class LogLines {
  readonly #lines: LogLine[] = []
  #written = 0
  /** Called with each new line. */
  onLine: (line: LogLine) => void = () => {}

  add(line: Omit<LogLine, 'number'>): void {
    this.#written++
    const numbered = { number: this.#written, ...line }
    this.#lines.push(numbered)
    if (this.#lines.length > MAX_LINES) this.#lines.shift()
    this.onLine(numbered)
  }

  /** Lines with a greater number, oldest first. */
  after(number: number): LogLine[] {
    return this.#lines.filter(line => line.number > number)
  }
}
