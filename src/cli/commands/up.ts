import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import type { Status } from '#api/table.ts'
import { loadConfig } from '#daemon/config.ts'
import { configFile, socketPath, stateDirectory } from '#platform/directories.ts'
import { siblingModule } from '#platform/module-url.ts'
import { prepareStateDirectory } from '#platform/state-file.ts'
import { print } from '../output.ts'
import { describe } from './status.ts'

const READY_MS = 45_000
const POLL_MS = 100

export interface UpOptions {
  config?: string
  stateDir?: string
  json?: boolean
  hops?: number
  proxy?: string
}

/** Starts the daemon if none runs, and waits until it has a route. */
export async function up(options: UpOptions): Promise<void> {
  const config = configFile(options.config)
  loadConfig(config)
  const stateDir = stateDirectory(options.stateDir)
  const socket = socketPath(stateDir)
  prepareStateDirectory(stateDir)
  const running = await callAction(socket, 'status', {}).catch(() => undefined)
  const child = running === undefined ? startDaemon(options, config, stateDir) : undefined
  const status = await waitReady(socket, child, path.join(stateDir, 'daemon.log'))
  const proxy = status.listening['proxy']?.[0] ?? ''
  print(
    options.json,
    { ok: true, ...status },
    `Connected. Proxy (SOCKS5 and HTTP CONNECT): ${proxy}\n${describe(status)}`,
  )
}

interface Child {
  exitCode: number | null
}

function startDaemon(options: UpOptions, config: string | undefined, stateDir: string): Child {
  const log = openSync(path.join(stateDir, 'daemon.log'), 'a', 0o600)
  const args = [
    ...process.execArgv,
    fileURLToPath(siblingModule(import.meta.url, '../main')),
    'daemon',
    ...['--state-dir', stateDir],
    ...(config === undefined ? [] : ['--config', config]),
    ...(options.hops === undefined ? [] : ['--hops', String(options.hops)]),
    ...(options.proxy === undefined ? [] : ['--proxy', options.proxy]),
  ]
  const child = spawn(process.execPath, args, { detached: true, stdio: ['ignore', log, log], windowsHide: true })
  closeSync(log)
  child.unref()
  return child
}

async function waitReady(socket: string, child: Child | undefined, logFile: string): Promise<Status> {
  const until = Date.now() + READY_MS
  let last: Status | undefined
  while (Date.now() < until) {
    last = (await callAction(socket, 'status', {}).catch(() => undefined)) ?? last
    if (last?.state === 'ready') return last
    if (child !== undefined && child.exitCode !== null) {
      throw new HopliteError(
        'DAEMON_FAILED',
        `start the daemon: it ended with code ${child.exitCode}`,
        `its log says why: ${logFile}`,
      )
    }
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
  const why = last?.problem ?? 'it has no route yet'
  throw new HopliteError(
    'NO_ROUTE',
    `connect: ${why}`,
    last?.advice ?? `the daemon goes on trying; its log is ${logFile}`,
  )
}
