import { spawn } from 'node:child_process'
import { closeSync, fstatSync, openSync, readSync, renameSync, statSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import type { Status } from '#api/table.ts'
import { loadConfig, withFlags } from '#daemon/config.ts'
import { configFile, socketPath, stateDirectory } from '#platform/directories.ts'
import { siblingModule } from '#platform/module-url.ts'
import { prepareStateDirectory } from '#platform/state-file.ts'
import { print } from '../output.ts'
import { describe } from './status.ts'

const READY_MS = 45_000
const POLL_MS = 100
/** A longer log is kept as daemon.log.old when the daemon starts, in place of the one before. */
const MAX_LOG_BYTES = 4 * 1024 * 1024
const MAX_TOLD_BYTES = 16 * 1024

export interface UpOptions {
  config?: string
  stateDir?: string
  json?: boolean
  hops?: number
  proxy?: string
  spendLimit?: number
}

/** Starts the daemon if none runs, and waits until it has a route. */
export async function up(options: UpOptions): Promise<void> {
  const config = configFile(options.config)
  withFlags(loadConfig(config), options)
  const stateDir = stateDirectory(options.stateDir)
  const socket = socketPath(stateDir)
  prepareStateDirectory(stateDir)
  const running = await callAction(socket, 'status', {}).catch(() => undefined)
  const daemon = running === undefined ? startDaemon(options, config, stateDir) : undefined
  const status = await waitReady(socket, daemon, path.join(stateDir, 'daemon.log'), progress(options.json))
  const proxy = status.listening['proxy']?.[0] ?? ''
  print(
    options.json,
    { ok: true, ...status },
    `Connected. Proxy (SOCKS5 and HTTP CONNECT): ${proxy}\n${describe(status)}`,
  )
}

interface Daemon {
  readonly child: { readonly exitCode: number | null; readonly signalCode: NodeJS.Signals | null }
  /** What it says begins here in its log. */
  readonly logStart: number
}

function startDaemon(options: UpOptions, config: string | undefined, stateDir: string): Daemon {
  const log = openLogFile(path.join(stateDir, 'daemon.log'))
  const logStart = fstatSync(log).size
  const args = [
    ...process.execArgv,
    fileURLToPath(siblingModule(import.meta.url, '../main')),
    'daemon',
    ...['--state-dir', stateDir],
    ...(config === undefined ? [] : ['--config', config]),
    ...(options.hops === undefined ? [] : ['--hops', String(options.hops)]),
    ...(options.proxy === undefined ? [] : ['--proxy', options.proxy]),
    ...(options.spendLimit === undefined ? [] : ['--spend-limit', String(options.spendLimit)]),
  ]
  const child = spawn(process.execPath, args, { detached: true, stdio: ['ignore', log, log], windowsHide: true })
  closeSync(log)
  child.unref()
  return { child, logStart }
}

function openLogFile(file: string): number {
  const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0
  if (size > MAX_LOG_BYTES) renameSync(file, `${file}.old`)
  return openSync(file, 'a', 0o600)
}

async function waitReady(
  socket: string,
  daemon: Daemon | undefined,
  logFile: string,
  onState: (state: string) => void,
): Promise<Status> {
  const until = performance.now() + READY_MS
  let last: Status | undefined
  while (performance.now() < until) {
    last = (await callAction(socket, 'status', {}).catch(() => undefined)) ?? last
    if (last?.state === 'ready') return last
    if (daemon !== undefined && (daemon.child.exitCode ?? daemon.child.signalCode) !== null)
      throw endedEarly(daemon, logFile)
    onState(last?.problem ?? last?.state ?? 'starting')
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
  const why = last?.problem ?? 'it has no route yet'
  throw new HopliteError(
    'NO_ROUTE',
    `connect: ${why}`,
    last?.advice ?? `the daemon goes on trying; its log is ${logFile}`,
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

/** Says each new state once, to a person at a terminal. */
function progress(isJson: boolean | undefined): (state: string) => void {
  let told = ''
  return state => {
    if (isJson || !process.stderr.isTTY || state === told) return
    told = state
    process.stderr.write(`… ${state}\n`)
  }
}
