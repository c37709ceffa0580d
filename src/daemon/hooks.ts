// The shell commands of a wg-quick file, run only where the user has asked for it.

import { spawn } from 'node:child_process'
import type { WgQuickHook } from '#wire/wg-quick.ts'
import { type Log, own } from './log.ts'

const MAX_MS = 60_000

/** Runs the commands of one moment in their order, `%i` being the interface; one that fails is told and the next is run. */
export async function runHooks(
  hooks: readonly WgQuickHook[],
  when: WgQuickHook['when'],
  name: string,
  log: Log,
): Promise<void> {
  for (const hook of hooks) {
    if (hook.when !== when) continue
    const code = await runShell(hook.command.replaceAll('%i', name))
    if (code !== 0) log.warn('hook failed', { when: own(when), code: own(String(code)) })
  }
}

function runShell(command: string): Promise<number | string> {
  return new Promise(resolve => {
    const child = spawn('/bin/sh', ['-c', command], { stdio: 'ignore', timeout: MAX_MS })
    child.once('error', error => resolve(error.message))
    child.once('close', (code, signal) => resolve(code ?? signal ?? 0))
  })
}
