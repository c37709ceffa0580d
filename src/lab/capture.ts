// What a link carries, seen by tcpdump on one of its interfaces: one line of text for each packet that comes in there.

import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Host } from './netns.ts'

const MAX_LINES = 100_000

export class Capture {
  readonly #child: ChildProcess
  readonly #lines: string[] = []
  readonly #waiting = new Set<() => void>()

  private constructor(child: ChildProcess) {
    this.#child = child
    if (child.stdout === null) throw new Error('tcpdump has no output')
    createInterface({ input: child.stdout }).on('line', line => {
      if (this.#lines.length < MAX_LINES) this.#lines.push(line)
      for (const look of this.#waiting) look()
    })
  }

  /** Starts to look at what arrives at an interface; `filter` is one of tcpdump. It sees what is sent after this returns. */
  static async start(host: Host, interfaceName: string, filter: string): Promise<Capture> {
    const words = ['-n', '-l', '-t', '--immediate-mode', '-Q', 'in', '-i', interfaceName, filter]
    const child = host.start('tcpdump', words, { stdio: ['ignore', 'pipe', 'pipe'] })
    const capture = new Capture(child)
    if (child.stderr === null) throw new Error('tcpdump has no errors')
    for await (const line of createInterface({ input: child.stderr })) {
      if (line.startsWith('listening on')) break
    }
    return capture
  }

  /** Waits for a line that matches, and gives all lines before it. They are forgotten. */
  async until(pattern: RegExp): Promise<string[]> {
    for (;;) {
      const at = this.#lines.findIndex(line => pattern.test(line))
      if (at >= 0) return this.#lines.splice(0, at + 1).slice(0, -1)
      await new Promise<void>(resolve => {
        const look = () => {
          this.#waiting.delete(look)
          resolve()
        }
        this.#waiting.add(look)
      })
    }
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill('SIGTERM')
    await once(this.#child, 'exit')
  }
}
