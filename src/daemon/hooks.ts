// The shell commands of a wg-quick file, run only where the user has asked for it.

import { spawn } from 'node:child_process'
import type { WgQuickHook } from '#wire/wg-quick.ts'
import { type Log, own } from './log.ts'

const MAX_MS = 60_000

/**
 * Runs the commands of one moment in their order, `%i` being the interface; one that fails is told and the next is run. One that
 * takes longer than `maxMs` is ended, with everything that it started.
 */
export async function runHooks(
  hooks: readonly WgQuickHook[],
  when: WgQuickHook['when'],
  name: string,
  log: Log,
  maxMs = MAX_MS,
): Promise<void> {
  for (const hook of hooks) {
    if (hook.when !== when) continue
    const code = await runShell(hook.command.replaceAll('%i', name), maxMs)
    if (code !== 0) log.warn('hook failed', { when: own(when), code: own(String(code)) })
  }
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
