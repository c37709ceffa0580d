// The shell commands of a wg-quick file, run only where the user has asked for it.

import { spawn } from 'node:child_process'
import type { WgQuickHook } from '#wire/wg-quick.ts'

const MAX_MS = 60_000

/**
 * Runs the commands of one moment in their order, `%i` being the interface, whatever becomes of one of them. One that takes
 * longer than `maxMs` is ended, with everything that it started. Gives the exit codes that were not 0, or what ended the command.
 */
export async function runHooks(
  hooks: readonly WgQuickHook[],
  when: WgQuickHook['when'],
  name: string,
  maxMs = MAX_MS,
): Promise<string[]> {
  const failures: string[] = []
  for (const hook of hooks) {
    if (hook.when !== when) continue
    const code = await runShell(hook.command.replaceAll('%i', name), maxMs)
    if (code !== 0) failures.push(String(code))
  }
  return failures
}

/** The exit code, or the name of what ended it. */
function runShell(command: string, maxMs: number): Promise<number | string> {
  return new Promise(resolve => {
    // Detached: a group of its own, which can be ended whole.
    const child = spawn('/bin/sh', ['-c', command], { stdio: 'ignore', detached: true })
    const timer = setTimeout(() => killGroup(child.pid), maxMs)
    const end = (code: number | string) => {
      clearTimeout(timer)
      resolve(code)
    }
    child.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? 'failed'))
    child.once('close', (code, signal) => end(code ?? signal ?? 0))
  })
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It has ended in the meantime.
  }
}
