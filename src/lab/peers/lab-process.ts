import type { ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { waitFor } from '../testnet.ts'
import type { SubjectProcess } from './subject.ts'

/** Of what a program says, as much as an error repeats. */
export const MAX_TOLD_CHARACTERS = 2_000

/** A program that runs in the laboratory and writes into a log. */
export class LabProcess implements SubjectProcess {
  readonly name: string
  readonly pid: number
  readonly #child: ChildProcess
  readonly #log: string

  constructor(name: string, child: ChildProcess, pid: number, log: string) {
    this.name = name
    this.pid = pid
    this.#child = child
    this.#log = log
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Waits until it has written something that matches; throws with its last words when it ends or is late. */
  async says(pattern: RegExp, limitMs: number): Promise<void> {
    const matches = async () => {
      if (pattern.test(readFileSync(this.#log, 'utf8'))) return true
      if (!this.isRunning) throw new Error(`start ${this.name}: ${this.said()}`)
      return undefined
    }
    await waitFor(matches, `${this.name} to say ${pattern.source}`, limitMs)
  }

  /** Waits for its end and gives its last line; throws with its last words when it fails or is late. */
  async lastLine(limitMs: number): Promise<string> {
    await waitFor(async () => (this.isRunning ? undefined : true), `${this.name} to end`, limitMs)
    if (this.#child.exitCode !== 0) throw new Error(`run ${this.name}: ${this.said()}`)
    const said = this.said()
    return said.slice(said.lastIndexOf('\n') + 1)
  }

  /** Its last words. */
  said(): string {
    return readFileSync(this.#log, 'utf8').slice(-MAX_TOLD_CHARACTERS).trim()
  }

  /** Ends it at once, as a power cut would, and waits until it is gone. */
  async kill(): Promise<void> {
    if (!this.isRunning) return
    const exited = new Promise<void>(resolve => this.#child.once('exit', () => resolve()))
    this.#child.kill('SIGKILL')
    await exited
  }
}
