// Nodes in the background: started as a process of their own, waited for, and heard when they end early.

import { spawn } from 'node:child_process'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import type { Status } from '#api/table.ts'
import type { Config } from '#daemon/config.ts'
import { logFile, rotateLog } from '#daemon/log-file.ts'
import { siblingModule } from '#platform/module-url.ts'
import { socketPath } from '#platform/state/directories.ts'
import { isRoot } from './become-helper.ts'

const READY_MS = 45_000
const POLL_MS = 100
const MAX_TOLD_BYTES = 16 * 1024

export interface Daemon {
  readonly child: { readonly exitCode: number | null; readonly signalCode: NodeJS.Signals | null }
  /** What it says begins here in its log. */
  readonly logStart: number
}

/** Starts the command `args` of this program in the background, where it is started again when it dies or hangs. */
export function startDaemon(
  args: readonly string[],
  { config, file, stateDir }: { readonly config: Config; readonly file: string | undefined; readonly stateDir: string },
): Daemon {
  rotateLog(logFile(stateDir), config.log, Date.now())
  const log = openSync(logFile(stateDir), 'a', 0o600)
  const logStart = fstatSync(log).size
  const command = [
    ...process.execArgv,
    fileURLToPath(siblingModule(import.meta.url, './main')),
    // Root's has a helper, which does the same.
    ...(isRoot() ? [] : ['keep', '--']),
    ...args,
    ...['--state-dir', stateDir],
    ...(file === undefined ? [] : ['--config', file]),
  ]
  const child = spawn(process.execPath, command, { detached: true, stdio: ['ignore', log, log], windowsHide: true })
  closeSync(log)
  child.unref()
  return { child, logStart }
}

/** Waits until the node of `stateDir` is as `isThere` wants it. Throws DAEMON_FAILED or NO_ROUTE. */
export async function waitFor(
  isThere: (status: Status) => boolean,
  stateDir: string,
  daemon: Daemon | undefined,
  onState: (state: string) => void,
): Promise<Status> {
  const until = performance.now() + READY_MS
  let last: Status | undefined
  while (performance.now() < until) {
    last = (await callAction(socketPath(stateDir), 'status', {}).catch(() => undefined)) ?? last
    if (last !== undefined && isThere(last)) return last
    if (daemon !== undefined && (daemon.child.exitCode ?? daemon.child.signalCode) !== null)
      throw endedEarly(daemon, logFile(stateDir))
    onState(last?.problem ?? last?.state ?? 'starting')
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
  const why = last?.problem ?? 'it has no route yet'
  throw new HopliteError(
    'NO_ROUTE',
    `connect: ${why}`,
    last?.advice ?? `the daemon goes on trying; its log is ${logFile(stateDir)}`,
  )
}

/** Says each new state once, to a person at a terminal. */
export function progress(isJson: boolean | undefined): (state: string) => void {
  let told = ''
  return state => {
    if (isJson || !process.stderr.isTTY || state === told) return
    told = state
    process.stderr.write(`… ${state}\n`)
  }
}

/** Throws CONFIG_INVALID where nothing says how a relay could be found: no wait would change that. */
export function assertBootstrap({ network }: Config, file: string | undefined): void {
  if (network.bootstrap.length > 0) return
  throw new HopliteError(
    'CONFIG_INVALID',
    `find relays: ${file === undefined ? 'there is no hoplite.toml' : `no bootstrap node is set in ${file}`}`,
    'set bootstrap in [network], and name the file with --config: docs/configuration.md',
  )
}

/** What the daemon said last, in its own words: it prints an error and, below it, the advice. */
function endedEarly({ child, logStart }: Daemon, logFile: string): HopliteError {
  const said = [...readFrom(logFile, logStart).matchAll(/^hoplite: (.+)\n {2}(.+)$/gm)].at(-1)
  const message = said?.[1] ?? `it ended with ${child.signalCode ?? `code ${child.exitCode}`}`
  return new HopliteError('DAEMON_FAILED', `start the daemon: ${message}`, said?.[2] ?? `its log says why: ${logFile}`)
}

function readFrom(file: string, start: number): string {
  const handle = openSync(file, 'r')
  try {
    const from = Math.max(start, fstatSync(handle).size - MAX_TOLD_BYTES)
    const buffer = Buffer.alloc(MAX_TOLD_BYTES)
    return buffer.toString('utf8', 0, readSync(handle, buffer, 0, MAX_TOLD_BYTES, from))
  } finally {
    closeSync(handle)
  }
}
